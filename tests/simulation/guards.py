"""The predicate engine on a bad day: it answers late, or nobody answers."""

import asyncio
from collections.abc import Sequence

from contracts.predicates import Verdict
from domain.guards import Question
from tests.fakes.ports import ENGINE, ScriptedGuards
from tests.simulation.network import Surroundings, Weather


class LateGuards:
    """The predicate engine: it may be slow, and then nobody may answer."""

    def __init__(self, around: Surroundings, weather: Weather) -> None:
        self._around = around
        self._weather = weather
        self._guards = ScriptedGuards()

    async def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer, or say that nobody does."""
        chance = self._around.chance
        if chance.random() < self._weather.slow:
            self._around.struck["guards: late"] += 1
            await asyncio.sleep(3 * chance.random())
        else:
            await asyncio.sleep(0.002 * chance.random())
        if chance.random() < self._weather.request_lost:
            self._around.struck["guards: unavailable"] += 1
            return [Verdict(outcome="unavailable", cause="no answer", clause="?", engine=ENGINE) for _ in questions]
        return self._guards.ask(questions)
