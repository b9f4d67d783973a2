"""What can happen between a process and a server: slow, lost on the way there, lost on the way back, or late.

A request is carried out by the server's own process, so a client that died, was paused or gave up changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from random import Random
from typing import TypeVar, cast

from tests.simulation.loop import Process, SeededLoop

T = TypeVar("T")
TIMEOUT_SECONDS = 10.0


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
        self,
        what: str,
        work: Callable[[], Awaitable[T] | T],
        *,
        lost: Callable[[str], Exception],
        refused: Callable[[str], Exception] | None = None,
    ) -> T:
        """Let the server do some work and return its answer, or raise `lost` where nobody can tell what came of it."""
        around, weather = self._around, self._weather
        loop, chance = around.loop, around.chance
        answer: asyncio.Future[T] = loop.create_future()
        there, back = 0.0005 + 0.004 * chance.random(), 0.0005 + 0.004 * chance.random()
        gives_up, arrives, answered = TIMEOUT_SECONDS, True, True
        fate, luck = "", chance.random()
        for name, likely in (
            ("refused", weather.refused if refused is not None else 0.0),
            ("request lost", weather.request_lost),
            ("answer lost", weather.answer_lost),
            ("late", weather.late),
            ("slow", weather.slow),
        ):
            if luck < likely:
                fate = name
                break
            luck -= likely
        if fate:
            around.struck[f"{self._name}: {fate}"] += 1
            around.say(f"{self._name} {what}: {fate}")
        pause = weather.slow_seconds * chance.random() if fate else 0.0
        if fate == "refused" and refused is not None:
            await asyncio.sleep(there + back)
            raise refused(f"{self._name} is busy")
        if fate == "request lost":
            arrives, gives_up = False, there + pause
        elif fate == "answer lost":
            answered, gives_up = False, there + back + pause
        elif fate == "late":
            gives_up, there = there, there + pause
        elif fate == "slow":
            there += pause / 2
            back += pause / 2

        def deliver(outcome: object, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(cast("T", outcome))
            else:
                answer.set_exception(error)

        def reply(outcome: object, error: BaseException | None) -> None:
            if answered:
                loop.call_later(back, deliver, outcome, error, context=self._context)

        async def wait(pending: Awaitable[T]) -> None:
            try:
                outcome = await pending
            except Exception as error:  # noqa: BLE001 - carried to the client
                reply(None, error)
            else:
                reply(outcome, None)

        def serve() -> None:
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001 - carried to the client
                reply(None, error)
                return
            if isawaitable(outcome):
                loop.create_task(wait(outcome), context=self._context)
            else:
                reply(outcome, None)

        if arrives:
            loop.call_later(there, serve, context=self._context)
        giving_up = loop.call_later(
            gives_up, deliver, None, lost(f"{self._name} did not answer {what}"), context=self._context
        )
        try:
            return await answer
        finally:
            giving_up.cancel()
