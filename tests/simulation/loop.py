"""A seeded event loop: a virtual clock, several processes on it, and the seed says which of them steps next.

Within a process steps keep asyncio's order, which the code under test may rely on; between processes any order can
happen. A dead process takes no step any more, not even a `finally`; a paused one takes none until it is resumed.
Written here because libraries for it need Python 3.12 (simloom) or fake the time alone (looptime).
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from hashlib import blake2b
from random import Random
from struct import pack
from typing import Any, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
STEPS_MAX = 2_000_000


class Process:
    """One simulated process: its steps wait here in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.paused = False
        self.dead = False
        self.steps = 0
        self.fuse: tuple[int, Callable[[], None]] | None = None
        self.alarm: Callable[[], None] | None = None
        self.mark = f"{name}\n".encode()

    def light(self, steps: int, then: Callable[[], None]) -> None:
        """Let something happen to it before so many more of its steps."""
        self.fuse = (self.steps + steps, then)

    def writes(self) -> None:
        """Say that a write of its own is on the way: what waited for that happens now."""
        if self.alarm is not None:
            self.light(0, self.alarm)
            self.alarm = None

    def disarm(self) -> None:
        """Let nothing happen to it."""
        self.fuse = self.alarm = None


PROCESS: ContextVar[Process] = ContextVar("process")


class StalledError(Exception):
    """Nothing can happen any more, or far too much did."""


class SeededLoop(asyncio.AbstractEventLoop):
    """Runs handles one by one; `digest` depends on every step that was taken."""

    def __init__(self, chance: Random) -> None:
        self.outside = Process("outside")
        self.processes = [self.outside]
        self._graves: list[Process] = []
        self.failures: list[str] = []
        self.steps = 0
        self._chance = chance
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._timers_made = 0
        self._trace = blake2b(digest_size=16)
        self._tasks_made = 0
        self._closed = False

    @property
    def digest(self) -> str:
        """What tells one schedule from another."""
        return self._trace.hexdigest()

    def note(self, text: str) -> None:
        """Let the digest depend on something that happened."""
        self._trace.update(text.encode())

    def process(self, name: str) -> Process:
        """Start an empty process."""
        process = Process(name)
        self.processes.append(process)
        return process

    def context_of(self, process: Process) -> Context:
        """Return a context in which everything that is started belongs to the process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return context

    def kill(self, process: Process) -> None:
        """Let a process take no step any more."""
        process.dead = True
        process.disarm()
        self.processes.remove(process)
        self._graves.append(process)

    def bury(self) -> None:
        """Cancel all that is left and let it end, so that nothing is finalized by chance later on."""
        self.processes += self._graves
        for process in self.processes:
            process.paused = False
            process.disarm()
        for _ in range(100):
            left = sorted(
                (task for task in asyncio.all_tasks(self) if not task.done()), key=lambda each: each.get_name()
            )
            if not left:
                break
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left, timeout=60))
        self._closed = True

    def run_until_complete(self, future: Any) -> Any:  # noqa: ANN401 - as asyncio has it
        """Take steps until the future is done."""
        main = asyncio.ensure_future(future, loop=self)
        asyncio._set_running_loop(self)  # noqa: SLF001 - made for event loops to call
        try:
            while not main.done():
                self._step()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
        return main.result()

    def _step(self) -> None:
        able = [each for each in self.processes if each.ready and not each.paused]
        if not able:
            self._advance()
            return
        process = able[0] if len(able) == 1 else able[int(self._chance.random() * len(able))]
        if process.fuse is not None and process.steps >= process.fuse[0]:
            _, then = process.fuse
            process.fuse = None
            then()
            return
        handle = process.ready.popleft()
        if handle.cancelled():
            return
        process.steps += 1
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise StalledError(f"more than {STEPS_MAX} steps")
        self._trace.update(process.mark)
        handle._run()  # noqa: SLF001 - the one thing a loop does with a handle

    def _advance(self) -> None:
        """Move the clock to the next timer; all that are due then become ready, in order."""
        timers = self._timers
        if not timers:
            raise StalledError("nothing can happen any more")
        self._now = max(self._now, timers[0][0])
        self._trace.update(pack("d", self._now))
        while timers and timers[0][0] <= self._now:
            _, _, handle, process = heapq.heappop(timers)
            if not handle.cancelled():
                process.ready.append(handle)

    # What asyncio asks of a loop.

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Make a callback ready in the process of its context."""
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        context.get(PROCESS, self.outside).ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Make a callback ready after so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Make a callback ready at a virtual time."""
        context = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, handle, context.get(PROCESS, self.outside)))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,  # noqa: ANN401 - as asyncio has it
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        """Return a task of this loop."""
        self._tasks_made += 1
        named = f"{self._tasks_made:09} {name or ''}"  # asyncio's own names count over all loops
        return asyncio.Task(coro, loop=self, name=named, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what a callback raised; what nobody asked a dead task about is no failure."""
        if "handle" in context:
            self.failures.append(repr(context.get("exception")))

    def is_running(self) -> bool:
        """Say that it runs: who asks is run by it."""
        return True

    def is_closed(self) -> bool:
        """Say whether everything has been buried."""
        return self._closed

    def get_debug(self) -> bool:
        """Say that nothing is to be checked on the way."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is passed over when it is due."""


def seeded_loop(chance: Random) -> SeededLoop:
    """Return a loop; what it leaves out of asyncio's, files and sockets, a simulated world has no use for."""
    return SeededLoop(chance)  # type: ignore[abstract]
