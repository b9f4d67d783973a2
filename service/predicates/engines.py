"""Every engine of this process behind one port: each question goes to the one that its guard names."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from service.predicates.cel import CelEngine
from service.predicates.flaw import Flaw
from service.predicates.jsonlogic import JsonLogicEngine


class Engine(Protocol):
    """Judges the guards of one language."""

    def compile(self, expression: str) -> Flaw | str | None:
        """Return what is wrong with an expression, or None; a plain text is about the whole of it."""
        ...

    def ask(self, questions: Sequence[Question]) -> Awaitable[Sequence[Verdict]]:
        """Answer each question in its place; an answer that need not be waited for is a future that is done."""
        ...


class Engines:
    """Sends questions to their engines by name."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    @classmethod
    def in_process(cls) -> "Engines":
        """Return the engines that need no server."""
        return cls({"cel": CelEngine(), "jsonlogic": JsonLogicEngine()})

    def compile(self, guard: Guard) -> Flaw | None:
        """Return what is wrong with a guard, or None."""
        found = self._engines[guard.engine].compile(guard.expression)
        return Flaw(found) if isinstance(found, str) else found

    def ask(self, questions: Sequence[Question]) -> Awaitable[Sequence[Verdict]]:
        """Answer each question in its place; done at once where no engine has to be waited for."""
        first = questions[0].guard.engine if questions else "cel"
        if all(question.guard.engine == first for question in questions[1:]):
            return self._engines[first].ask(questions)
        return asyncio.ensure_future(self._apart(questions))

    async def _apart(self, questions: Sequence[Question]) -> list[Verdict]:
        """Ask each engine for its own, side by side."""
        places: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(question.guard.engine, []).append(place)
        asked = [self._engines[name].ask([questions[place] for place in own]) for name, own in places.items()]
        verdicts: dict[int, Verdict] = {}
        for own, answers in zip(places.values(), await asyncio.gather(*asked), strict=True):
            verdicts.update(zip(own, answers, strict=True))
        return [verdicts[place] for place in range(len(questions))]
