"""Guards judged by a policy engine over HTTP: asked side by side, many in one request, closed on every failure.

Questions of one turn of the loop go out together; while as many requests are under way as may be, the next ones gather.
So nothing waits for company when it is quiet, and requests grow with the load. Whatever is not a proper verdict is
`unavailable`, and the cause says what an operator should look at.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import orjson
import structlog

from contracts.predicates import Verdict
from domain.guards import Question
from service.predicates.breaker import Breaker, State
from service.predicates.dialects import Dialect, Put, Unreadable, unavailable
from service.predicates.reports import SILENT, Reports
from service.predicates.transport import Failed, Transport

QUEUE_MAX = 10_000
REQUEST_BYTES_MAX = 1024 * 1024
BACKOFF_SECONDS = 0.05
MARGIN = 0.95  # of the time a guard has: the cause we know is better than that nobody answered

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how often the engine is asked, and by how many requests at once.

    `patience_seconds` is what a question has in all, `seconds` what a try has.
    """

    patience_seconds: float = 2.0
    seconds: float = 1.0
    retries: int = 2
    concurrency: int = 8
    failures_max: int = 5
    open_seconds: float = 5.0


@dataclass(slots=True)
class _Group:
    """Questions that were asked together: answered when the last of them is."""

    answer: "asyncio.Future[Sequence[Verdict]]"
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    size: int = 0

    def settle(self, place: int, verdict: Verdict) -> None:
        self.verdicts.setdefault(place, verdict)
        if len(self.verdicts) == self.size and not self.answer.done():
            self.answer.set_result([self.verdicts[each] for each in range(self.size)])


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that waits or is under way; nobody wants to know any more once its group's answer is done."""

    put: Put
    until: float
    group: _Group
    place: int

    @property
    def wanted(self) -> bool:
        return not self.group.answer.done()

    def refuse(self, cause: str) -> None:
        self.group.settle(self.place, unavailable(self.put.policy, cause))


class RemoteEngine:
    """Asks one engine for the whole process."""

    def __init__(self, dialect: Dialect, transport: Transport, bounds: Bounds) -> None:
        self._dialect = dialect
        self._transport = transport
        self._bounds = bounds
        self._reports: Reports = SILENT
        self._breaker = Breaker(bounds.failures_max, bounds.open_seconds)
        self._queue: deque[_Asked] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Handle | None = None
        self._closed = False

    def report_to(self, reports: Reports) -> None:
        """Tell the metrics from now on."""
        self._reports = reports
        reports.breaker(self._breaker.state)

    def ask(self, questions: Sequence[Question]) -> "asyncio.Future[Sequence[Verdict]]":
        """Answer each question in its place; at once where the engine is not asked at all."""
        loop = asyncio.get_running_loop()
        group = _Group(loop.create_future(), size=len(questions))
        if not questions:
            group.answer.set_result([])
        self._look()
        until = loop.time() + MARGIN * self._bounds.patience_seconds
        for place, question in enumerate(questions):
            policy = question.guard.expression
            asked = _Asked(Put(policy, _written(question)), until, group, place)
            refusal = self._refusal(asked)
            if refusal is None:
                self._queue.append(asked)
            else:
                asked.refuse(refusal)
        if self._queue and self._flushing is None:
            self._flushing = loop.call_soon(self._flush)
        return group.answer

    async def close(self) -> None:
        """Ask nothing any longer; what is asked is unavailable."""
        self._closed = True
        if self._flushing is not None:
            self._flushing.cancel()
        self._refuse_all("the worker is stopping")
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._transport.close()

    def _refusal(self, asked: _Asked) -> str | None:
        if self._closed:
            return "the worker is stopping"
        if not asked.put.input:
            return "its inputs could not be written as JSON"
        if self._breaker.state is State.OPEN:
            return self._open_cause()
        return "too many questions wait for the policy engine" if len(self._queue) >= QUEUE_MAX else None

    def _open_cause(self) -> str:
        return (
            f"the policy engine is not asked for a while, since {self._breaker.failures} tries in a row failed: "
            f"{self._breaker.cause}"
        )

    def _flush(self) -> None:
        """Send what waits, in as many requests as may be under way.

        What still waits needs no timer: requests under way end by the time of their last question, and it came later.
        """
        self._flushing = None
        self._look()
        if self._breaker.state is State.OPEN:
            self._refuse_all(self._open_cause())
        loop = asyncio.get_running_loop()
        while self._queue and not (self._queue[0].wanted and self._queue[0].until > loop.time()):
            self._queue.popleft().refuse("other requests to the policy engine took all the time it had")
        while len(self._under_way) < self._places and (batch := self._batch()):
            task = loop.create_task(self._carry(batch))
            self._under_way.add(task)
            task.add_done_callback(partial(self._ended, batch))
            self._reports.sent(len(batch), len(self._under_way))

    @property
    def _places(self) -> int:
        return {State.CLOSED: self._bounds.concurrency, State.HALF_OPEN: 1, State.OPEN: 0}[self._breaker.state]

    def _batch(self) -> list[_Asked]:
        """Take the questions of one request; of one that probes whether the engine is back, one question."""
        most = self._dialect.batch_max if self._breaker.state is State.CLOSED else 1
        batch: list[_Asked] = []
        size = 0
        while self._queue and len(batch) < most:
            asked = self._queue[0]
            if asked.wanted:
                size += len(asked.put.input)
                if batch and size > REQUEST_BYTES_MAX:
                    break
                batch.append(asked)
            self._queue.popleft()
        return batch

    def _ended(self, batch: list[_Asked], task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._reports.under_way(len(self._under_way))
        for asked in batch:
            if task.cancelled():
                asked.refuse("the worker is stopping")
            elif asked.wanted and (failure := task.exception()) is not None:
                asked.group.answer.set_exception(failure)  # ours: whoever judges the command meets it
        if not self._closed:
            self._flush()

    async def _carry(self, batch: list[_Asked]) -> None:
        """Ask a batch; one that was answered with nothing of use is halved until who is to blame stands alone."""
        tried = await self._try(batch, counts=True)
        if isinstance(tried, Failed) and tried.answered and len(batch) > 1 and self._breaker.state is State.CLOSED:
            await self._halve(batch, tried)
        else:
            _settle(batch, tried)

    async def _halve(self, batch: list[_Asked], why: Failed) -> None:
        """Ask the halves; where both come to nothing it is not the questions, it is the engine."""
        middle = len(batch) // 2
        halves = [batch[:middle], batch[middle:]]
        tries = [await self._try(half, counts=False) for half in halves]
        if all(isinstance(each, Failed) for each in tries):
            self._failed(self._breaker.openings, why.cause)
            _settle(batch, why)
            return
        for half, tried in zip(halves, tries, strict=True):
            if isinstance(tried, Failed) and len(half) > 1:
                await self._halve(half, tried)
            else:
                _settle(half, tried)

    async def _try(self, batch: list[_Asked], *, counts: bool) -> list[Verdict] | Failed:
        """Ask once, and again where that may help; a probe is not repeated.

        A failure `counts` for the breaker, unless the batch is a part of one that has failed.
        """
        for attempt in count():
            tried = await self._once(batch, counts=counts)
            if not isinstance(tried, Failed) or not tried.retryable or (tried.answered and len(batch) > 1):
                break
            if attempt == self._bounds.retries or self._breaker.state is not State.CLOSED:
                break
            await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
            self._reports.retried()
        return tried

    async def _once(self, batch: list[_Asked], *, counts: bool) -> list[Verdict] | Failed:
        begun_under = self._breaker.openings
        now = asyncio.get_running_loop().time
        seconds = min(self._bounds.seconds, max(asked.until for asked in batch) - now())
        if seconds <= 0:
            return Failed("there was no time left to ask it")
        puts = [asked.put for asked in batch]
        found = await self._transport.post(self._dialect.request(puts), seconds=seconds)
        if not isinstance(found, Failed):
            try:
                verdicts = self._dialect.verdicts(puts, found)
            except Unreadable as unreadable:
                found = Failed(str(unreadable), answered=True)
            else:
                self._moved(self._breaker.succeeded(begun_under))
                return verdicts
        if counts:
            self._failed(begun_under, found.cause)
        return found

    def _failed(self, begun_under: int, cause: str) -> None:
        self._moved(self._breaker.failed(begun_under, cause, asyncio.get_running_loop().time()))

    def _look(self) -> None:
        """See whether an open breaker's time is over."""
        self._moved(self._breaker.at(asyncio.get_running_loop().time()))

    def _moved(self, to: Breaker) -> None:
        before, self._breaker = self._breaker, to
        if to.state is before.state:
            return
        self._reports.breaker(to.state)
        if to.state is State.OPEN:
            log.warning("predicates.breaker_open", cause=to.cause, failures=to.failures)
            asyncio.get_running_loop().call_later(to.open_seconds, self._look)  # the metric tells even if nobody asks
            self._refuse_all(self._open_cause())
        elif to.state is State.CLOSED:
            log.info("predicates.breaker_closed")

    def _refuse_all(self, cause: str) -> None:
        waiting, self._queue = self._queue, deque()
        for asked in waiting:
            asked.refuse(cause)


def _settle(batch: list[_Asked], tried: list[Verdict] | Failed) -> None:
    for place, asked in enumerate(batch):
        if isinstance(tried, Failed):
            asked.refuse(f"the policy engine: {tried.cause}")
        else:
            asked.group.settle(asked.place, tried[place])


def _written(question: Question) -> bytes:
    """Return the inputs as JSON, empty where they are none."""
    try:
        return orjson.dumps(question.inputs.whole())
    except (TypeError, ValueError):
        return b""
