"""What can happen between a process and a server: slow, lost on the way there, lost on the way back, or late.

A request is carried out by the server's own process, so a client that died, was paused or gave up changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, TypeVar, cast

from tests.simulation.loop import PROCESS, Process, SeededLoop

T = TypeVar("T")
TIMEOUT_SECONDS = 10.0
WRITES = ("claim", "apply", "init", "produce", "commit")

Raised = Callable[[str], Exception]


@dataclass(slots=True)
class Weather:
    """How likely each misfortune of one request is; all zero once the world is healed."""

    refused: float = 0.0
    request_lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 1.0


@dataclass(slots=True)
class Surroundings:
    """What every part of one world shares: the loop, chance, what struck how often, and the log of what happened."""

    loop: SeededLoop
    chance: Random
    struck: Counter[str]
    say: Callable[[str], None]


class Fate(NamedTuple):
    """What becomes of one request; times in seconds, `gives_up` when its client does."""

    name: str
    there: float
    back: float
    gives_up: float = TIMEOUT_SECONDS
    arrives: bool = True
    answered: bool = True


class Link:
    """The way from one process to one server."""

    def __init__(self, around: Surroundings, name: str, server: Process, weather: Weather) -> None:
        self._around = around
        self._name = name
        self._context = around.loop.context_of(server)
        self._weather = weather

    def loses_commit(self) -> bool:
        """Say whether the end of a transaction will not arrive."""
        return self._around.chance.random() < self._weather.request_lost

    async def call(
        self, what: str, work: Callable[[], T], *, lost: Raised, refused: Raised | None = None
    ) -> T:  # fmt: skip
        """Let the server do some work and return its answer, or raise `lost` where nobody can tell what came of it."""
        return cast("T", await self._exchange(what, work, lost, refused))

    async def call_slow(
        self, what: str, work: Callable[[], Awaitable[T]], *, lost: Raised, refused: Raised | None = None
    ) -> T:  # fmt: skip
        """Do as `call` does with work for which the server may have to wait."""
        return cast("T", await self._exchange(what, work, lost, refused))

    async def _exchange(self, what: str, work: Callable[[], object], lost: Raised, refused: Raised | None) -> object:
        fate, loop, context = self._draw(refusable=refused is not None), self._around.loop, self._context
        if fate.name:
            self._around.struck[f"{self._name}: {fate.name}"] += 1
            self._around.say(f"{self._name} {what}: {fate.name}")
        if fate.name == "refused" and refused is not None:
            await asyncio.sleep(fate.there + fate.back)
            raise refused(f"{self._name} is busy")
        request = _Request(loop, context, work, fate)
        if fate.arrives:
            loop.call_later(fate.there, request.serve, context=context)
        if what.startswith(WRITES):
            PROCESS.get(loop.outside).writes()
        giving_up = loop.call_later(
            fate.gives_up, request.deliver, None, lost(f"{self._name} did not answer {what}"), context=context
        )
        try:
            return await request.answer
        finally:
            giving_up.cancel()

    def _draw(self, *, refusable: bool) -> Fate:
        weather, chance = self._weather, self._around.chance
        there, back, luck = 0.0005 + 0.004 * chance.random(), 0.0005 + 0.004 * chance.random(), chance.random()
        for name, likely in (
            ("refused", weather.refused if refusable else 0.0),
            ("request lost", weather.request_lost),
            ("answer lost", weather.answer_lost),
            ("late", weather.late),
            ("slow", weather.slow),
        ):
            if luck < likely:
                pause = weather.slow_seconds * chance.random()
                return {
                    "refused": Fate(name, there, back),
                    "request lost": Fate(name, there, back, gives_up=there + pause, arrives=False),
                    "answer lost": Fate(name, there, back, gives_up=there + back + pause, answered=False),
                    "late": Fate(name, there + pause, back, gives_up=there),
                    "slow": Fate(name, there + pause / 2, back + pause / 2),
                }[name]
            luck -= likely
        return Fate("", there, back)


class _Request:
    """One request on its way, carried out and answered in the server's process."""

    def __init__(self, loop: SeededLoop, context: Context, work: Callable[[], object], fate: Fate) -> None:
        self.answer = loop.create_future()
        self._loop = loop
        self._context = context
        self._work = work
        self._fate = fate

    def serve(self) -> None:
        """Do the work, at once or in a task of the server's."""
        try:
            outcome = self._work()
        except Exception as error:  # noqa: BLE001 - carried to the client
            self._reply(None, error)
            return
        if isinstance(outcome, Coroutine):
            self._loop.create_task(self._wait(outcome), context=self._context)
        else:
            self._reply(outcome, None)

    def deliver(self, outcome: object, error: Exception | None) -> None:
        """Give the client its answer, unless it has one or went away."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(error)

    async def _wait(self, pending: Awaitable[object]) -> None:
        try:
            outcome = await pending
        except Exception as error:  # noqa: BLE001 - carried to the client
            self._reply(None, error)
        else:
            self._reply(outcome, None)

    def _reply(self, outcome: object, error: Exception | None) -> None:
        if self._fate.answered:
            self._loop.call_later(self._fate.back, self.deliver, outcome, error, context=self._context)
