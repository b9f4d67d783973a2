"""Where a worker can be struck, and how: arms are data, given to the process when it starts.

A strike is written down before it happens, so that a process that kills itself has still said so.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

import orjson

from handlers.faults import Transient


class Point(StrEnum):
    """The moments of a turn's life that are told apart."""

    CLAIMED = "after-claim"
    BEFORE_APPLY = "before-apply"
    WITHIN_APPLY = "within-apply"
    AFTER_APPLY = "after-apply"
    CURSOR_READ = "cursor-read"
    BEFORE_PUBLISH = "before-publish"
    MID_TRANSACTION = "mid-transaction"
    BEFORE_COMMIT = "before-commit"
    WITHIN_COMMIT = "within-commit"
    BEFORE_CURSOR = "before-cursor"
    ASKED = "guard-asked"


class Action(StrEnum):
    """What happens there."""

    KILL = "kill"
    STAND_STILL = "stand-still"
    BLOCK = "block"
    FAIL = "fail"
    HANG = "hang"


class Arm(NamedTuple):
    """Strike at the `first` passing of a point and at the `times` - 1 after it; `seconds` for what takes time.

    `part` restricts it to one partition; as text: point:action:first:times:seconds:part.
    """

    point: Point
    action: Action
    first: int = 1
    times: int = 1
    seconds: float = 0
    part: int | None = None

    def __str__(self) -> str:
        part = "" if self.part is None else self.part
        return f"{self.point}:{self.action}:{self.first}:{self.times}:{self.seconds}:{part}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `str` wrote."""
        point, action, first, times, seconds, part = text.split(":")
        return cls(
            Point(point), Action(action), int(first), int(times), float(seconds), int(part) if part != "" else None
        )


class Strike(NamedTuple):
    """One strike as it was written down; `at` on the machine's clock."""

    point: str
    action: str
    pid: int
    at: float


@dataclass(slots=True)
class Points:
    """Counts the passings of one process and strikes where it is armed."""

    arms: tuple[Arm, ...] = ()
    struck: Path | None = None
    _passed: Counter[Arm] = field(default_factory=Counter)

    async def meet(self, point: Point, part: int | None = None) -> None:
        """Pass a point; may not return."""
        for arm in self.arms:
            if arm.point is point and arm.part in {None, part}:
                self._passed[arm] += 1
                if arm.first <= self._passed[arm] < arm.first + arm.times:
                    await self._strike(arm)

    async def _strike(self, arm: Arm) -> None:
        if self.struck is not None:
            write_down(self.struck, Strike(arm.point, arm.action, os.getpid(), time.time()))
        match arm.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.STAND_STILL:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.BLOCK:
                time.sleep(arm.seconds)  # noqa: ASYNC251 - the loop is to be blocked
            case Action.FAIL:
                raise Transient(f"struck {arm.point}")
            case Action.HANG:
                await asyncio.sleep(arm.seconds)


def write_down(struck: Path, strike: Strike) -> None:
    """Add a strike to a file in one write: several processes share it."""
    out = os.open(struck, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(out, orjson.dumps(list(strike)) + b"\n")
    finally:
        os.close(out)


def strikes(struck: Path) -> list[Strike]:
    """Return the strikes so far, in order."""
    if not struck.exists():
        return []
    return [Strike(*orjson.loads(line)) for line in struck.read_bytes().splitlines()]


def armed(*arms: Arm) -> list[str]:
    """Return the arguments that arm a worker's process."""
    return [word for arm in arms for word in ("--arm", str(arm))]


def read_arms(texts: Iterable[str]) -> tuple[Arm, ...]:
    """Read arms from arguments."""
    return tuple(Arm.read(text) for text in texts)
