"""Driving a log: every command gets one answer whatever stops on the way, and a second run doubles nothing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts.rejections import Code
from contracts.topics import Topics
from service.event_logs.commands import Import, Outgoing, as_commands
from service.event_logs.drive import REJECTIONS_MAX, Clockwork, DriveResult, Pace, Progress, Refused, drive, drive_over
from service.event_logs.event import BrokerNotReadyError, EventLogError, LoggedEvent, UnusableEventError
from service.event_logs.read import read_log
from service.local.stack import LocalStack
from tests.event_log_files import CASES, generated, write_csv

TOPICS = Topics(prefix="driven")
PARTITIONS = 3
QUICK = Pace(outstanding_max=40, batch_max=16, notice_s=0.05)


class Answers:
    """What a worker would answer: a command's first reply, and that as a duplicate ever after."""

    def __init__(self, refuse: frozenset[str] = frozenset()) -> None:
        self.order: list[str] = []
        self._refuse = refuse
        self._given: dict[str, dict[str, Any]] = {}

    def answer(self, value: bytes) -> bytes:
        """Answer one command record."""
        command = orjson.loads(value)
        known = self._given.get(command["command_id"])
        if known is not None:
            return orjson.dumps(known | {"duplicate": True})
        self.order.append(command["command_id"])
        reply = {
            "command_id": command["command_id"],
            "workflow_id": command["workflow_id"],
            "root_id": command["workflow_id"],
            "outcome": "accepted",
            "decided_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        if command.get("target_state") in self._refuse:
            rejection = {"code": Code.INVALID_TRANSITION, "status": 400, "message": "not from here"}
            reply |= {"outcome": "rejected", "rejection": rejection}
        self._given[command["command_id"]] = reply
        return orjson.dumps(reply)


class MemoryWire:
    """A wire without a broker; the worker answers while `working` is set."""

    def __init__(self, answers: Answers) -> None:
        self.waiting_for = "a worker"
        self.working = asyncio.Event()
        self.working.set()
        self.unanswered_max = 0
        self._answers = answers
        self._sent: deque[bytes] = deque()

    @property
    def unanswered(self) -> int:
        """Count what was sent and not answered yet."""
        return len(self._sent)

    async def send(self, commands: Sequence[Outgoing], /) -> None:
        """Take commands."""
        self._sent.extend(command.value for command in commands)
        self.unanswered_max = max(self.unanswered_max, len(self._sent))

    async def replies(self, wait_s: float, /) -> Sequence[bytes]:
        """Answer some of them, amid noise and repeats."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.working.wait(), wait_s)
        if not self.working.is_set() or not self._sent:
            await asyncio.sleep(0.001)
            return ()
        values = [self._sent.popleft() for _ in range(min(7, len(self._sent)))]
        replies = [self._answers.answer(value) for value in values]
        return [b"{}", *replies, b"\xff", self._answers.answer(values[0])]


def silent(_progress: Progress) -> None:
    """Report nothing."""


def some_commands(tmp_path: Path) -> list[Outgoing]:
    """Give the commands of a generated log."""
    path = write_csv(tmp_path / "driven.csv.gz", generated(seed=5))
    return list(as_commands(read_log(path), Import("driven", "import.driven")))


async def test_every_command_is_answered_within_the_window(tmp_path: Path) -> None:
    """All are sent in order, never more than the window unanswered, and progress ends at the total."""
    commands = some_commands(tmp_path)
    answers, seen = Answers(), list[Progress]()
    wire = MemoryWire(answers)
    result = await drive_over(wire, commands, report=seen.append, total=len(commands), pace=QUICK)
    assert DriveResult(len(commands), len(commands), {}, 0, (), 0) == result
    assert [command.command_id for command in commands] == answers.order
    assert Progress(len(commands), len(commands), len(commands)) == seen[-1]
    assert QUICK.outstanding_max >= wire.unanswered_max


class Ticking:
    """Moves logical time, and notes after how many commands."""

    def __init__(self, wire: MemoryWire, answers: Answers) -> None:
        self.ticks: list[tuple[datetime, int]] = []
        self._wire = wire
        self._answers = answers

    async def tick(self, time: datetime, /) -> None:
        """Note a time."""
        self.ticks.append((time, len(self._answers.order) + self._wire.unanswered))


async def test_ticks_stand_between_what_happened_before_and_after_them(tmp_path: Path) -> None:
    """Each is at the begin of a step, after every command from before it and before the first of its step."""
    commands = some_commands(tmp_path)
    answers = Answers()
    wire = MemoryWire(answers)
    ticking = Ticking(wire, answers)
    clockwork = Clockwork(ticking, timedelta(hours=1))
    result = await drive_over(wire, commands, report=silent, pace=QUICK, clockwork=clockwork)
    assert len(commands) == result.accepted
    times = [command.at for command in commands if command.at is not None]
    hours = sorted({time.replace(minute=0, second=0, microsecond=0) for time in times})
    assert [(hour, sum(time < hour for time in times)) for hour in hours] == ticking.ticks


async def test_rejections_are_counted_and_kept(tmp_path: Path) -> None:
    """Rejections come back by code, with the workflow and the state asked for; accepted ones are the rest."""
    commands = some_commands(tmp_path)
    refused = [command for command in commands if command.asks == "Decide"]
    result = await drive_over(MemoryWire(Answers(frozenset({"Decide"}))), commands, report=silent, pace=QUICK)
    assert ({Code.INVALID_TRANSITION: len(refused)}, len(commands) - len(refused)) == (result.rejected, result.accepted)
    first = refused[0]
    expected = Refused(first.workflow_id, first.command_id, "Decide", Code.INVALID_TRANSITION, "not from here")
    assert expected in result.rejections
    assert {command.command_id for command in refused} == {refusal.command_id for refusal in result.rejections}


async def test_the_list_of_rejections_is_bounded() -> None:
    """A log whose every event is rejected does not fill the memory: the count goes on, the list ends."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    events = [LoggedEvent("c", "Decide", moment, None, index, {}) for index in range(REJECTIONS_MAX + 5)]
    wire = MemoryWire(Answers(frozenset({"Decide"})))
    result = await drive_over(wire, as_commands(events, Import("l", "d")), report=silent)
    assert (len(result.rejections), result.rejected[Code.INVALID_TRANSITION]) == (REJECTIONS_MAX, REJECTIONS_MAX + 5)


async def test_a_second_run_finds_all_done(tmp_path: Path) -> None:
    """What an earlier run got through comes back as duplicates with the outcome it had."""
    commands = some_commands(tmp_path)
    answers = Answers(frozenset({"Decide"}))
    first = await drive_over(MemoryWire(answers), commands[:50], report=silent, pace=QUICK)
    second = await drive_over(MemoryWire(answers), commands, report=silent, pace=QUICK)
    assert (first.duplicates, second.duplicates) == (0, 50)
    assert len(commands) == len(answers.order) == second.accepted + second.rejected[Code.INVALID_TRANSITION]


async def test_silence_is_told_and_waited_out(tmp_path: Path) -> None:
    """While no worker answers, a line says so; when one is back, the drive goes on to its end."""
    commands = some_commands(tmp_path)
    wire, lines = MemoryWire(Answers()), list[str]()
    wire.working.clear()

    def report(progress: Progress) -> None:
        if progress.waiting:
            lines.append(progress.waiting)
            wire.working.set()

    result = await drive_over(wire, commands, report=report, pace=QUICK)
    assert lines[0] == "no reply for 0 s; waiting for a worker"
    assert (len(commands), 0) == (result.accepted, result.unanswered)


async def test_a_limit_on_silence_ends_the_drive(tmp_path: Path) -> None:
    """With a limit, what was sent and not answered is counted instead of awaited for ever."""
    wire = MemoryWire(Answers())
    wire.working.clear()
    pace = Pace(outstanding_max=10, notice_s=0.02, silence_s_max=0.1)
    result = await drive_over(wire, some_commands(tmp_path), report=silent, pace=pace)
    assert DriveResult(10, 0, {}, 0, (), 10) == result


async def test_a_drive_that_ends_while_time_waits_for_the_broker_is_not_complete(tmp_path: Path) -> None:
    """What the log still had when silence outlasted its limit is unanswered, though all that went out was answered."""
    answers = Answers()

    class Stuck:
        async def tick(self, _time: datetime, /) -> None:
            if answers.order:
                await asyncio.Event().wait()

    pace = Pace(outstanding_max=10, notice_s=0.02, silence_s_max=0.1)
    clockwork = Clockwork(Stuck(), timedelta(hours=1))
    commands = some_commands(tmp_path)
    result = await drive_over(MemoryWire(answers), commands, report=silent, pace=pace, clockwork=clockwork)
    assert 0 < result.accepted < len(commands)
    assert 0 < result.unanswered


async def test_an_error_of_the_log_ends_the_drive() -> None:
    """A log that turns out bad on the way raises its own error."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    commands = as_commands([LoggedEvent("c" * 200, "X", moment, None, 0, {})], Import("l", "d"))
    with pytest.raises(UnusableEventError):
        await drive_over(MemoryWire(Answers()), commands, report=silent, pace=QUICK)


async def test_no_broker_is_an_error_at_the_start() -> None:
    """Where nothing listens, the error says so and what to do."""
    with pytest.raises(EventLogError, match="no broker answers"):
        await drive((), bootstrap_servers="127.0.0.1:1", topics=TOPICS, report=silent)


@asynccontextmanager
async def a_worker(bootstrap_servers: str, answers: Answers) -> AsyncIterator[None]:
    """Answer commands from the topic's start, as one that lost its offsets would."""
    consumer = AIOKafkaConsumer(
        TOPICS.commands, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    async with consumer, AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:

        async def work() -> None:
            async for record in consumer:
                await producer.send(TOPICS.replies, answers.answer(record.value), record.key)

        working = asyncio.create_task(work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


@pytest.mark.stack
async def test_a_broker_that_dies_on_the_way_costs_nothing(tmp_path: Path) -> None:
    """Through a real broker that is killed and a worker that is away: all answered once, in order per workflow."""
    commands = some_commands(tmp_path)
    answers = Answers()
    stack = LocalStack(tmp_path / ".turnstile", database=False, report=lambda _line: None)
    async with stack as endpoints:
        servers = endpoints.bootstrap_servers
        with pytest.raises(BrokerNotReadyError, match=r"no topic driven\.commands"):
            await drive(commands, bootstrap_servers=servers, topics=TOPICS, report=silent)
        await create_topics(servers)
        half, away = asyncio.Event(), asyncio.Event()

        def report(progress: Progress) -> None:
            if progress.replied > len(commands) // 3:
                half.set()
            if progress.waiting:
                away.set()

        pace = Pace(outstanding_max=20, batch_max=10, notice_s=0.5)
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            driving = tasks.create_task(
                drive(commands, bootstrap_servers=servers, topics=TOPICS, report=report, pace=pace)
            )
            async with a_worker(servers, answers):
                await half.wait()
            await away.wait()
            await stack.kill_broker()
            await stack.start_broker()
            async with a_worker(servers, answers):
                result = await driving
                again = await drive(commands, bootstrap_servers=servers, topics=TOPICS, report=silent)
    assert (len(commands), 0, 0) == (result.accepted, len(result.rejected), result.unanswered)
    assert (len(commands), len(commands)) == (again.accepted, again.duplicates)
    assert per_workflow(commands) == per_workflow([by_id(commands)[one] for one in answers.order])
    assert len(per_workflow(commands)) == CASES


async def create_topics(bootstrap_servers: str) -> None:
    """Create the two topics that a drive needs."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (TOPICS.commands, TOPICS.replies)])
    finally:
        await admin.close()


def by_id(commands: Sequence[Outgoing]) -> dict[str, Outgoing]:
    """Index commands by their ids."""
    return {command.command_id: command for command in commands}


def per_workflow(commands: Sequence[Outgoing]) -> dict[str, list[str]]:
    """Return the ids of each workflow's commands in order."""
    found: dict[str, list[str]] = {}
    for command in commands:
        found.setdefault(command.workflow_id, []).append(command.command_id)
    return found
