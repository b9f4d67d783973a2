"""Ends a process whose event loop no longer turns, from a thread of its own: nothing on the loop could.

The thread counts its own steps without a turn of the loop. A process that was stopped and goes on has taken no steps
meanwhile, so it is not ended for having stood still.
"""

import asyncio
import os
import sys
import threading
import time
import traceback

import structlog

from handlers.routes import SESSION_MS
from service.telemetry import Telemetry
from service.watch import Stillness

TURN_SECONDS = 0.25
STEP_SECONDS = 0.5
STEPS_MAX = int(2 * SESSION_MS / 1000 / STEP_SECONDS)

log = structlog.get_logger()


class LoopTurns:
    """Counts the turns of the running loop, and how late each is."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.count = 0
        self._telemetry = telemetry

    async def run(self) -> None:
        """Count until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TURN_SECONDS
            await asyncio.sleep(TURN_SECONDS)
            self.count += 1
            self._telemetry.loop_lag.set(max(loop.time() - due, 0.0))


def end_when_still(turns: LoopTurns, *, code: int) -> None:
    """Start the thread that ends the process with `code`, once the calling thread's loop stands still."""
    watched = threading.get_ident()

    def watch() -> None:
        stillness = Stillness()
        while stillness.look(turns.count) < STEPS_MAX:
            time.sleep(STEP_SECONDS)
        frame = sys._current_frames().get(watched)  # noqa: SLF001 - the only way to another thread's stack
        where = "".join(traceback.format_stack(frame)) if frame is not None else "it has ended"
        log.critical("loop.stuck", reason=f"the loop has not turned for {STEPS_MAX * STEP_SECONDS:g} s", at=where)
        os._exit(code)

    threading.Thread(target=watch, name="loop-watchdog", daemon=True).start()
