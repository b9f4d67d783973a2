"""Records what a worker does to its ports, step by step, so that a run can be held against `spec/`.

`record` wraps a worker's adapters; each protocol step leaves a line when it begins and one when it ends:

    {"at": ns, "worker": "4711", "call": 12, "step": "apply", "part": 0, "epoch": 3, "turn": 7, "offset": 40, …}
    {"at": ns, "worker": "4711", "call": 12, "outcome": "ok"}

`at` is the machine's monotonic clock, so lines of all processes of one machine compare. A line is one write at
the end of the file: a kill -9 leaves whole lines, and many processes may share a file.
"""

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Literal

import orjson

from domain.decision import Facts
from handlers.faults import Fenced, Parted, Poison
from handlers.ports import JournalRow, Ownership, Publisher, Session, Turn
from service.adapters import Adapters, WholeStore
from tests.wrapping import WrappedStore

Outcome = Literal["ok", "fenced", "failed", "unknown"]
"""`fenced` and `failed`: surely nothing was done; `unknown`: only what comes later can tell."""


def record(adapters: Adapters, path: Path, *, worker: str | None = None) -> Adapters:
    """Return adapters that do the same and leave a trace in the file; `worker` is the process id if not given."""
    steps = _Steps(path, worker or str(os.getpid()))
    made = adapters.publisher
    return replace(
        adapters,
        store=_TracedStore(adapters.store, steps),
        publisher=lambda part: _TracedPublisher(made(part), part, steps),
    )


def crashed(path: Path, worker: str) -> None:
    """Note that a worker was killed; whoever killed it calls this when it is gone."""
    _append(path, {"at": time.monotonic_ns(), "worker": worker, "step": "crash"})


def _append(path: Path, line: dict[str, object]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    finally:
        os.close(file)


class _Steps:
    """The steps of one worker, numbered as they begin."""

    def __init__(self, path: Path, worker: str) -> None:
        self._path = path
        self._worker = worker
        self._numbers = count(1)

    def begin(self, step: str, part: int, **said: object) -> "_Step":
        """Leave the line of a step that begins."""
        number = next(self._numbers)
        self._write(number, {"step": step, "part": part} | said)
        return _Step(self, number)

    def end(self, number: int, outcome: Outcome, said: dict[str, object]) -> None:
        """Leave the line of a step that has ended."""
        self._write(number, {"outcome": outcome} | said)

    def _write(self, number: int, said: dict[str, object]) -> None:
        _append(self._path, {"at": time.monotonic_ns(), "worker": self._worker, "call": number} | said)


class _Step:
    """A step that has begun."""

    def __init__(self, steps: _Steps, number: int) -> None:
        self.number = number
        self._steps = steps
        self._said: dict[str, object] = {}
        self._outcome: Outcome = "ok"

    def says(self, outcome: Outcome = "ok", **said: object) -> None:
        """Keep what the end will say."""
        self._outcome, self._said = outcome, said

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End the step with the block, by the error if one leaves it."""
        try:
            yield
        except Fenced:
            self._steps.end(self.number, "fenced", {})
            raise
        except (Poison, Parted):
            self._steps.end(self.number, "failed", {})
            raise
        except BaseException:
            self._steps.end(self.number, "unknown", {})
            raise
        self._steps.end(self.number, self._outcome, self._said)


class _TracedStore(WrappedStore):
    """A store whose claims and applies are recorded; reads move nothing, and the spec has no parted logs."""

    def __init__(self, inner: WholeStore, steps: _Steps) -> None:
        super().__init__(inner)
        self._steps = steps

    async def claim(self, part: int, generation: int) -> Ownership:
        """Claim, recorded with the row as it was found."""
        step = self._steps.begin("claim", part)
        with step.ending():
            owned = await self.inner.claim(part, generation)
            taken: Outcome = "ok" if owned.halted is None else "failed"
            step.says(taken, epoch=owned.epoch, turn=owned.turn, offset=owned.next_offset, seq=owned.next_seq)
        return owned

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply, recorded with the fence it must pass and what it writes."""
        step = _begin_apply(self._steps, owned, turn)
        with step.ending():
            applied = await self.inner.apply(owned, turn)
            if isinstance(applied, Facts):
                step.says("failed")
        return applied

    @asynccontextmanager
    async def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AsyncIterator[Session]:
        """Lock, recorded; an apply within it ends with the lock, for only then it is committed."""
        lock = self._steps.begin("lock", owned.part, epoch=owned.epoch, turn=owned.turn, offset=owned.next_offset)
        locked = self.inner.locked(owned, counters, workflow_ids)
        with lock.ending():
            session = await locked.__aenter__()
        traced = _TracedSession(session, self._steps)
        try:
            yield traced
        except BaseException as error:
            with traced.ending():
                if not await locked.__aexit__(type(error), error, error.__traceback__):
                    raise
        else:
            with traced.ending():
                await locked.__aexit__(None, None, None)


class _TracedSession:
    """A locked turn whose apply is recorded."""

    def __init__(self, session: Session, steps: _Steps) -> None:
        self._session = session
        self._steps = steps
        self._step: _Step | None = None

    @property
    def facts(self) -> Facts:
        """What holds until the turn is applied."""
        return self._session.facts

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply within the lock; whether it holds is known when the lock is let go."""
        self._step = _begin_apply(self._steps, owned, turn)
        applied = await self._session.apply(owned, turn)
        if isinstance(applied, Facts):
            self._step.says("failed")
        return applied

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End the apply, if there was one, with the block."""
        if self._step is None:
            yield
        else:
            with self._step.ending():
                yield


class _TracedPublisher:
    """A publisher whose start and transactions are recorded."""

    def __init__(self, publisher: Publisher, part: int, steps: _Steps) -> None:
        self._publisher = publisher
        self._part = part
        self._steps = steps
        self._number = 0

    async def start(self) -> int | None:
        """Fence and read the cursor, recorded as one call of two steps."""
        step = self._steps.begin("start", self._part)
        self._number = step.number
        with step.ending():
            cursor = await self._publisher.start()
            step.says(cursor=cursor)
        return cursor

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish, recorded with the start it belongs to; a failed commit may have been one."""
        said = {"start": self._number, "seq": rows[0][0], "rows": len(rows)}
        with self._steps.begin("publish", self._part, **said).ending():
            await self._publisher.publish(rows)

    async def close(self) -> None:
        """Let go of it."""
        await self._publisher.close()


def _begin_apply(steps: _Steps, owned: Ownership, turn: Turn) -> _Step:
    return steps.begin(
        "apply",
        owned.part,
        epoch=owned.epoch,
        turn=owned.turn,
        offset=owned.next_offset,
        next_offset=turn.next_offset,
        seq=owned.next_seq,
        rows=len(turn.rows),
    )
