"""What a partition knows of its parked commands between turns: who waits behind whom, and the guards being asked.

The rows in the store are the truth; this is their order in memory, made anew by each claim. A guard goes on being asked
while its command is parked: all of its workflow queues behind it, so the state it is asked about stays. Time may still
move an SLA of it; then it is asked anew.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from math import inf
from time import perf_counter

from contracts.predicates import Verdict
from domain.guards import Question, digest
from handlers.batch import TURN_BYTES_MAX, size_of
from handlers.decode import Readable
from handlers.ports import Guards, Parked, ParkedRecord, ParkReason, Record, Turn

RETRIED_MAX = 100  # in one turn: their bytes are read again
BACKOFF_SECONDS = (1, 2, 5, 10, 30, 60)


def not_before(now: datetime, attempts: int) -> datetime:
    """Return when something that failed so many times may be tried again."""
    return now + timedelta(seconds=BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])


def judged(verdict: Verdict, question: Question, seconds: float) -> Verdict:
    """Return a verdict with what was asked, when, and how long the answer took.

    An engine that knows what it looked at has said so; else it may have been all.
    """
    return Verdict(  # `_replace` takes twice as long
        verdict.outcome,
        verdict.engine,
        verdict.clause,
        verdict.values,
        verdict.cause,
        verdict.policy_version,
        verdict.inputs_digest or digest(question.inputs.whole()),
        round(seconds * 1e6),
        question.inputs.now,
    )


def entry(received: Readable, reason: ParkReason, detail: str, now: datetime, until: datetime) -> Parked:
    """Return what is known of a command that is parked now, and not tried again before an instant."""
    command = received.command
    return Parked(
        offset=received.record.offset,
        workflow_id=command.workflow_id,
        command_id=received.command_id,
        reason=reason,
        detail=detail,
        parked_at=now,
        attempts=0,
        not_before=until,
        expires_at=command.expires_at,
    )


def parked_record(record: Record, parked: Parked) -> ParkedRecord:
    """Return a record as it is parked."""
    return ParkedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
        parked._replace(size=size_of(record)),
    )


@dataclass(slots=True)
class Ask:
    """A guard that did not answer at once, and since when it is asked."""

    question: Question
    since: float
    answer: asyncio.Future[Sequence[Verdict]]
    timer: asyncio.TimerHandle | None = None
    late: Verdict | None = None
    seconds: float = 0.0

    @property
    def workflow_id(self) -> str:
        """Return the workflow that it is asked about."""
        return self.question.inputs.workflow.workflow_id

    def is_of(self, question: Question) -> bool:
        """Say whether the same guard was shown the same workflow; `now` is that of the asking."""
        return self.question.guard == question.guard and self.question.inputs.workflow == question.inputs.workflow

    def verdict(self) -> Verdict | None:
        """Return the answer if there is one; raises what the engine raised."""
        if self.late is not None or not self.answer.done() or self.answer.cancelled():
            return self.late
        return judged(self.answer.result()[0], self.question, self.seconds)

    def drop(self) -> None:
        """Ask no longer."""
        if self.timer is not None:
            self.timer.cancel()
        self.answer.cancel()


class Parking:
    """One partition's parked commands, in the order of their records, and which of them to look at next."""

    def __init__(
        self,
        parked: Iterable[Parked] = (),
        *,
        age_max: timedelta = timedelta(hours=1),
        guard_seconds_max: float = 2.0,
        wake: Callable[[], None] = lambda: None,
        timed_out: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._age_max = age_max
        self._guard_seconds_max = guard_seconds_max
        self._wake = wake
        self._timed_out = timed_out
        self._clock = clock
        self._queues: dict[str, deque[Parked]] = {}
        self._offsets: set[int] = set()
        self._asks: dict[int, Ask] = {}
        self._answers: list[int] = []
        self._answering = True  # until a parked command's guard does not
        self._news = asyncio.Event()
        for each in parked:
            self._append(each)
        # Of workflows whose last guard answered, or is not known: how long it took, in seconds.
        self._paces = dict.fromkeys(self._queues, 0.0)
        self._due = dict.fromkeys(self._queues)
        if self._due:
            wake()

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def due(self) -> bool:
        """Say whether there is one to look at."""
        return bool(self._due)

    @property
    def oldest(self) -> datetime | None:
        """Return when the oldest was parked."""
        return min((queue[0].parked_at for queue in self._queues.values()), default=None)

    @property
    def failing(self) -> int:
        """Count those on which our own code failed."""
        return sum(each.reason is ParkReason.ERROR for queue in self._queues.values() for each in queue)

    def queue(self, workflow_id: str) -> Sequence[Parked]:
        """Return a workflow's parked commands, by offset."""
        return self._queues.get(workflow_id, ())

    def look(self, now: datetime) -> None:
        """See which may be tried again, have expired or waited too long."""
        for workflow_id, queue in self._queues.items():
            head = queue[0]
            ready = head.offset not in self._asks and head.not_before <= now
            if ready or self.is_over(head, now):
                self._due[workflow_id] = None

    def is_over(self, parked: Parked, now: datetime) -> bool:
        """Say whether a command must not wait any longer."""
        return self.is_old(parked, now) or (parked.expires_at is not None and parked.expires_at <= now)

    def is_old(self, parked: Parked, now: datetime) -> bool:
        """Say whether a command has waited for as long as one may."""
        return now - parked.parked_at >= self._age_max

    def is_asked(self, offset: int) -> bool:
        """Say whether a command's guard is being asked, or has answered."""
        return offset in self._asks

    def is_moving(self, *, asked: bool) -> bool:
        """Say whether room is to be expected: the last guard of a parked command answered, and others are being asked.

        `asked` says that the turn parks one that is. Guards of commands that are not parked make no room.
        """
        return self._answering and (asked or bool(self._due) or not self._offsets.isdisjoint(self._asks))

    def is_prompt(self, workflow_id: str, offset: int, seconds: float) -> bool:
        """Say whether a workflow's last guard answered within so long, and that of its next command is being asked."""
        return self._paces.get(workflow_id, inf) <= seconds and self.is_asked(offset)

    def take(self) -> list[int]:
        """Take the offsets to look at in a turn: the heads, and all behind one whose way seems free.

        No more than a turn may have, by number and bytes: what is left is looked at in the next.
        """
        self._answers.clear()  # all of them are due
        self._news.clear()
        taken: list[int] = []
        size = 0
        while self._due and len(taken) < RETRIED_MAX and size < TURN_BYTES_MAX:
            workflow_id = next(iter(self._due))
            del self._due[workflow_id]
            queue = self.queue(workflow_id)
            if queue:
                ask = self._asks.get(queue[0].offset)
                free = queue[0].reason is ParkReason.BEHIND or ask is not None
                for each in islice(queue, RETRIED_MAX - len(taken) if free else 1):
                    if size < TURN_BYTES_MAX:
                        taken.append(each.offset)
                        size += each.size
        if self._due:
            self._wake()
        return sorted(taken)

    def ask(self, guards: Guards, question: Question, *, offset: int) -> Verdict | None:
        """Return the verdict on a command, None while its guard is being asked."""
        ask = self._asks.get(offset)
        if ask is not None:
            if ask.is_of(question):  # else it is no longer so, if only of an SLA, or is another workflow's by now
                return ask.verdict()
            ask.drop()
        since = self._clock()
        answer = guards.ask([question])
        if isinstance(answer, list):
            self._asks.pop(offset, None)
            return judged(answer[0], question, self._clock() - since)
        ask = self._asks[offset] = Ask(question, since, asyncio.ensure_future(answer))
        ask.timer = asyncio.get_running_loop().call_later(self._guard_seconds_max, self._give_up, offset, ask, question)
        ask.answer.add_done_callback(partial(self._answered, offset, ask))
        return None

    async def answered(self, seconds: float) -> list[int]:
        """Wait so long for answers and return whose came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        found, self._answers = self._answers, []
        return found

    def keep(self, turn: Turn) -> None:
        """Follow a turn that was applied."""
        for gone in turn.unparked:
            self._remove(gone)
        for each in turn.postponed:
            self._postpone(each)
        for record in turn.parked:
            if record.parked.reason is ParkReason.DELAYED:
                continue  # it waits in the store, for ticks alone
            self._append(record.parked)
            if record.parked.attempts:
                self._forget(record.offset)
        for offset in [offset for offset in self._asks if offset not in self._offsets]:
            self._forget(offset)
        for workflow_id in [workflow_id for workflow_id in self._paces if workflow_id not in self._queues]:
            del self._paces[workflow_id]
        for record in turn.parked:
            ask = self._asks.get(record.offset)
            if ask is not None and (ask.late is not None or ask.answer.done()):
                self._look_at(ask.workflow_id)

    def close(self) -> None:
        """Ask nothing any longer."""
        for offset in list(self._asks):
            self._forget(offset)

    def _append(self, parked: Parked) -> None:
        self._queues.setdefault(parked.workflow_id, deque()).append(parked)
        self._offsets.add(parked.offset)

    def _postpone(self, each: Parked) -> None:
        if each.reason is ParkReason.DELAYED:
            self._remove(each)
            return
        queue = self._queues[each.workflow_id]
        queue[next(place for place, old in enumerate(queue) if old.offset == each.offset)] = each
        self._forget(each.offset)

    def _remove(self, gone: Parked) -> None:
        left = deque(each for each in self._queues[gone.workflow_id] if each.offset != gone.offset)
        self._offsets.discard(gone.offset)
        if left:
            self._queues[gone.workflow_id] = left
            self._look_at(gone.workflow_id)
        else:
            del self._queues[gone.workflow_id]

    def _forget(self, offset: int) -> None:
        ask = self._asks.pop(offset, None)
        if ask is not None:
            ask.drop()

    def _answered(self, offset: int, ask: Ask, answer: asyncio.Future[Sequence[Verdict]]) -> None:
        if answer.cancelled():
            return
        ask.seconds = self._clock() - ask.since
        failure = answer.exception()  # whoever judges the command meets it
        self._note(offset, ask, answered=failure is None and answer.result()[0].outcome != "unavailable")
        if self._asks.get(offset) is ask:  # else it was dropped
            if ask.timer is not None:
                ask.timer.cancel()
            self._tell(offset, ask)

    def _give_up(self, offset: int, ask: Ask, question: Question) -> None:
        late = Verdict(
            outcome="unavailable",
            clause=question.guard.expression,
            cause=f"it did not answer within {self._guard_seconds_max:g} s",
            engine=question.guard.engine,
        )
        ask.late = judged(late, question, self._clock() - ask.since)
        ask.answer.cancel()
        self._timed_out()
        self._note(offset, ask, answered=False)
        self._tell(offset, ask)

    def _note(self, offset: int, ask: Ask, *, answered: bool) -> None:
        if offset in self._offsets:
            self._answering = answered
        if answered:
            self._paces[ask.workflow_id] = ask.seconds
        else:
            self._paces.pop(ask.workflow_id, None)

    def _tell(self, offset: int, ask: Ask) -> None:
        self._answers.append(offset)
        self._news.set()
        if offset in self._offsets:
            self._look_at(ask.workflow_id)

    def _look_at(self, workflow_id: str) -> None:
        self._due[workflow_id] = None
        self._wake()
