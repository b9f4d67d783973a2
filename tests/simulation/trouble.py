"""What happens to workers: crash, pause, stop, eviction, rebalance, at any step or just when a write is on its way."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from random import Random

from service.worker import Worker
from tests.simulation.group import Group
from tests.simulation.loop import Process
from tests.simulation.network import Surroundings


class Seat:
    """Where a worker runs, dies and is started again; everything of its process is started in `context`."""

    def __init__(self, number: int, start: Callable[["Seat"], None]) -> None:
        self.number = number
        self.starts = 0
        self.process: Process | None = None
        self.worker: Worker | None = None
        self.context: Context | None = None
        self._start = start

    def fill(self) -> None:
        """Start a worker where none is."""
        if self.process is None:
            self.starts += 1
            self._start(self)

    def leave(self) -> None:
        """Let nobody sit here."""
        self.process = self.worker = None


class Trouble:
    """Strikes again and again, in each world in some ways only: what always comes together hides what comes alone."""

    def __init__(self, around: Surroundings, chaos: Random, group: Group) -> None:
        self._around = around
        self._loop = around.loop
        self._chaos = chaos
        self._group = group

    async def strike(self, seats: list[Seat], *, interval: float) -> None:
        """Let something happen every so many virtual seconds, about."""
        chaos = self._chaos
        kinds = [self._crash, self._pause, self._pause, self._stop, self._rebalance, self._evict]
        chaos.shuffle(kinds)
        kinds = kinds[: 1 + int(len(kinds) * chaos.random())]
        while True:
            await asyncio.sleep(2 * interval * chaos.random())
            seat = chaos.choice(seats)
            if seat.process is not None and not seat.process.paused:
                chaos.choice(kinds)(seat, seat.process)

    def _crash(self, seat: Seat, process: Process) -> None:
        def crash() -> None:
            self._note("crashes", f"{process.name} crashes")
            self._loop.kill(process)
            if seat.process is process:
                seat.leave()
                self._loop.call_later(8 * self._chaos.random() ** 2, seat.fill)

        self._arm(process, crash)

    def _pause(self, _: Seat, process: Process) -> None:
        seconds = 0.2 + 10 * self._chaos.random() ** 2
        evicted = self._chaos.random() < 0.5

        def pause() -> None:
            self._note("pauses", f"{process.name} is paused for {seconds:.2f} s")
            process.paused = True
            if evicted:
                self._group.leave(process.name)
            self._loop.call_later(seconds, resume, context=self._loop.context_of(self._loop.outside))

        def resume() -> None:
            self._around.say(f"{process.name} goes on")
            process.paused = False

        self._arm(process, pause)

    def _stop(self, seat: Seat, process: Process) -> None:
        worker, context = seat.worker, seat.context
        if worker is None:
            return
        seat.leave()
        self._note("stops", f"{process.name} is asked to stop")

        async def stop() -> None:
            await worker.stop()
            self._around.say(f"{process.name} has stopped")
            if not process.dead:
                self._loop.kill(process)

        self._loop.create_task(stop(), context=context)
        self._loop.call_later(3 * self._chaos.random(), seat.fill)

    def _rebalance(self, _: Seat, __: Process) -> None:
        self._around.struck["rebalances forced"] += 1
        self._group.rebalance()

    def _evict(self, _: Seat, process: Process) -> None:
        """Let the group give a member up that works on and does not know."""
        self._note("members evicted", f"{process.name} is evicted")
        self._group.leave(process.name)

    def _arm(self, process: Process, then: Callable[[], None]) -> None:
        """Let it happen in a little while, at any step, or just when a write of the process is on its way."""
        if self._chaos.random() < 0.5:
            process.light(int(200 * self._chaos.random() ** 2), then)
        else:
            process.alarm = then

    def _note(self, kind: str, text: str) -> None:
        self._around.struck[kind] += 1
        self._around.say(text)
