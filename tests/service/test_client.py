"""The client on a real broker, with a few lines standing in for the service."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import ValidationError

from client import Client, ClientError, ReplyTimeout
from client.client import WORKFLOWS_REMEMBERED_MAX, _is_new
from contracts.commands import COMMANDS, RequestTransition
from contracts.events import Event
from contracts.replies import Reply
from contracts.topics import Topics
from service.broker.topics import create_topics
from service.local.stack import LocalStack

pytestmark = pytest.mark.stack
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SECONDS_MAX = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Give the address of a real broker."""
    folder = tmp_path_factory.mktemp("client") / ".turnstile"
    async with LocalStack(Path(folder), database=False, report=lambda _line: None) as endpoints:
        yield endpoints.bootstrap_servers


@pytest.fixture
async def topics(broker: str) -> Topics:
    """Give topics that no other test uses."""
    topics = Topics(prefix=f"c{uuid4().hex[:8]}")
    await create_topics(broker, topics, 3, 1)
    return topics


def _command(workflow_id: str = "w1", **fields: object) -> dict[str, object]:
    return {"command_type": "request_transition", "workflow_id": workflow_id, "target_state": "done"} | fields


def _reply(command_id: UUID, workflow_id: str, state: str = "done") -> bytes:
    reply = Reply(
        command_id=command_id, workflow_id=workflow_id, root_id=workflow_id, outcome="accepted", state=state,
        decided_at=NOW,
    )  # fmt: skip
    return reply.model_dump_json().encode()


def _event(workflow_id: str, sequence: int) -> bytes:
    event = Event(
        event_id=uuid4(), sequence=sequence, workflow_id=workflow_id, root_id=workflow_id, event_type="TRANSITION",
        category="state", message="", definition="d", definition_version=1, version=sequence, timestamp=NOW,
    )  # fmt: skip
    return event.model_dump_json().encode()


@asynccontextmanager
async def _service(
    broker: str, topics: Topics, *, aborts_first: bool = False
) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Answer every command in a transaction, the last of a batch first; gives the records that came."""
    came: list[tuple[bytes, bytes]] = []

    async def answer() -> None:
        async for batch in _batches(consumer):
            for key, value in reversed(batch):
                came.append((key, value))
                command = COMMANDS.validate_json(value)
                for state in ("aborted", "done") if aborts_first else ("done",):
                    await producer.begin_transaction()
                    reply = _reply(command.command_id, command.workflow_id, state)
                    await producer.send_and_wait(topics.replies, reply, key=key)
                    await (producer.commit_transaction() if state == "done" else producer.abort_transaction())

    async with (
        AIOKafkaConsumer(topics.commands, bootstrap_servers=broker, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=broker, transactional_id=topics.prefix) as producer,
    ):
        answering = asyncio.create_task(answer())
        yield came
        answering.cancel()
        await asyncio.wait([answering])


async def _batches(consumer: AIOKafkaConsumer) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    while True:
        read = await consumer.getmany(timeout_ms=1000)
        yield [(record.key, record.value) for records in read.values() for record in records]


async def _publish(broker: str, topics: Topics, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for value in values:
            await producer.send_and_wait(topics.events, value, key=b"root")


async def _take(events: AsyncIterator[Event], count: int) -> list[tuple[str, int]]:
    taken: list[tuple[str, int]] = []
    async with asyncio.timeout(SECONDS_MAX):
        async for event in events:
            taken.append((event.workflow_id, event.sequence))
            if len(taken) == count:
                break
    return taken


async def test_a_sent_command_comes_back_as_its_reply(broker: str, topics: Topics) -> None:
    """A model is sent under its root's key, and its own reply is given."""
    command = RequestTransition(
        command_type="request_transition", command_id=uuid4(), workflow_id="w1", root_id="r1", transition="finish"
    )
    async with _service(broker, topics) as came, Client(broker, topics=topics) as client:
        reply = await client.send(command, timeout_seconds=SECONDS_MAX)
    assert (command.command_id, "w1", "done") == (reply.command_id, reply.workflow_id, reply.state)
    assert [(b"r1", command)] == [(key, COMMANDS.validate_json(value)) for key, value in came]


async def test_a_command_without_an_id_is_given_one(broker: str, topics: Topics) -> None:
    """Each sending makes up another random id; a field this version does not know is sent along."""
    async with _service(broker, topics) as came, Client(broker, topics=topics) as client:
        replies = [await client.send(_command(shift="night"), timeout_seconds=SECONDS_MAX) for _ in range(2)]
    assert [reply.command_id.version for reply in replies] == [4, 4]
    assert replies[0].command_id != replies[1].command_id
    assert all(b'"shift":"night"' in value and key == b"w1" for key, value in came)


async def test_many_at_once_each_get_their_own_reply(broker: str, topics: Topics) -> None:
    """Replies come in another order than commands went, and find their senders."""
    names = [f"w{n}" for n in range(40)]
    async with _service(broker, topics), Client(broker, topics=topics) as client:
        sends = (client.send(_command(name), timeout_seconds=SECONDS_MAX) for name in names)
        replies = await asyncio.gather(*sends)
    assert names == [reply.workflow_id for reply in replies]


async def test_the_same_id_twice_at_once_gets_a_reply_each(broker: str, topics: Topics) -> None:
    """Two senders of one command both hear; there is one reply per record."""
    command = _command(command_id=str(uuid4()))
    async with _service(broker, topics), Client(broker, topics=topics) as client:
        replies = await asyncio.gather(*(client.send(command, timeout_seconds=SECONDS_MAX) for _ in range(2)))
    assert replies[0] == replies[1]


async def test_one_id_on_two_workflows_is_two_commands(broker: str, topics: Topics) -> None:
    """An id is known within its root: each sender hears of its own workflow, whichever is answered first."""
    command_id = uuid4()
    async with (
        AIOKafkaConsumer(topics.commands, bootstrap_servers=broker, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=broker) as producer,
        Client(broker, topics=topics) as client,
    ):
        commands = [_command(name, command_id=command_id) for name in ("w1", "w2")]
        sends = [asyncio.create_task(client.send(command, timeout_seconds=SECONDS_MAX)) for command in commands]
        async with asyncio.timeout(SECONDS_MAX):
            for _ in sends:
                await consumer.getone()
        for name in ("w2", "w1"):
            await producer.send_and_wait(topics.replies, _reply(command_id, name), partition=0)
        assert ["w1", "w2"] == [(await each).workflow_id for each in sends]


async def test_an_aborted_reply_is_not_heard(broker: str, topics: Topics) -> None:
    """Only what was committed is a reply."""
    async with _service(broker, topics, aborts_first=True), Client(broker, topics=topics) as client:
        assert (await client.send(_command(), timeout_seconds=SECONDS_MAX)).state == "done"


async def test_no_reply_in_time_says_what_is_not_known(broker: str, topics: Topics) -> None:
    """The error carries the id, so that the same command can be sent again."""
    command_id = uuid4()
    async with Client(broker, topics=topics) as client:
        with pytest.raises(ReplyTimeout, match="may still be decided") as caught:
            await client.send(_command(command_id=command_id), timeout_seconds=0.3)
    assert command_id == caught.value.command_id


async def test_what_is_no_command_is_not_sent(broker: str, topics: Topics) -> None:
    """A mistake is told here, where a reply could not find its way back."""
    async with Client(broker, topics=topics) as client:
        with pytest.raises(ValidationError, match="exactly one of target_state and transition"):
            await client.send(_command(transition="finish"))


async def test_closing_the_client_ends_a_wait(broker: str, topics: Topics) -> None:
    """A sender is told that its client is gone instead of waiting on."""
    async with _service(broker, topics), Client(broker, topics=topics) as client:
        await client.send(_command(), timeout_seconds=SECONDS_MAX)
    async with Client(broker, topics=topics) as client:
        with pytest.raises(ReplyTimeout):
            await client.send(_command(), timeout_seconds=0.3)
        waiting = asyncio.create_task(client.send(_command(), timeout_seconds=SECONDS_MAX))
        await asyncio.wait([waiting], timeout=0.3)
    with pytest.raises(ClientError, match="was closed"):
        await waiting


async def test_events_come_once_and_in_order(broker: str, topics: Topics) -> None:
    """A repeat is dropped by its sequence; workflows do not disturb each other."""
    published = [("a", 1), ("b", 1), ("a", 2), ("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2)]
    await _publish(broker, topics, *(_event(*each) for each in published))
    async with Client(broker, topics=topics) as client:
        taken = await _take(client.subscribe(from_beginning=True), 5)
    assert taken == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]


async def test_an_unreadable_event_is_left_out_and_said(
    broker: str, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """What a newer service writes does not stop an older reader, nor do its values reach the log."""
    newer = _event("a", 2).replace(b'"category":"state"', b'"category":"secret"')
    await _publish(broker, topics, _event("a", 1), b"not json", newer, _event("a", 3))
    async with Client(broker, topics=topics) as client:
        assert await _take(client.subscribe(from_beginning=True), 2) == [("a", 1), ("a", 3)]
    said = [record.getMessage() for record in caplog.records if record.name == "client.client"]
    assert [line.rpartition(" ")[2] for line in said] == ["json_invalid", "literal_error"]
    assert "secret" not in "".join(said)


async def test_a_group_goes_on_where_it_was(broker: str, topics: Topics) -> None:
    """A second reader of the group starts after what the first one finished."""
    await _publish(broker, topics, _event("a", 1), _event("a", 2))
    async with Client(broker, topics=topics) as client:
        events = client.subscribe(from_beginning=True, group=topics.prefix)
        assert [(event.workflow_id, event.sequence) for event in [await anext(events), await anext(events)]] == [
            ("a", 1),
            ("a", 2),
        ]
        further = asyncio.ensure_future(anext(events))
        await _publish(broker, topics, _event("a", 3))
        assert (await asyncio.wait_for(further, SECONDS_MAX)).sequence == 3
    await _publish(broker, topics, _event("a", 4))
    async with Client(broker, topics=topics) as client:
        assert await _take(client.subscribe(from_beginning=True, group=topics.prefix), 2) == [("a", 3), ("a", 4)]


async def test_closing_the_client_ends_its_subscriptions(broker: str, topics: Topics) -> None:
    """The loop over the events ends by itself."""
    seen: list[Event] = []
    started = asyncio.Event()

    async def follow(client: Client) -> None:
        async for event in client.subscribe(from_beginning=True):
            seen.append(event)
            started.set()

    await _publish(broker, topics, _event("a", 1))
    async with Client(broker, topics=topics) as client:
        following = asyncio.create_task(follow(client))
        await asyncio.wait_for(started.wait(), SECONDS_MAX)
    await asyncio.wait_for(following, SECONDS_MAX)
    assert len(seen) == 1


def test_memory_of_repeats_is_bounded() -> None:
    """The workflow that was silent longest is forgotten first."""
    event = Event.model_validate_json(_event("a", 1))
    remembered: OrderedDict[str, int] = OrderedDict()
    for n in range(WORKFLOWS_REMEMBERED_MAX + 1):
        assert _is_new(event.model_copy(update={"workflow_id": f"w{n}"}), remembered)
    assert len(remembered) == WORKFLOWS_REMEMBERED_MAX
    assert "w0" not in remembered
