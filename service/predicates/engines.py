"""One port, several engines: each question goes to the engine that its guard names, and comes back in its place."""

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Protocol

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from service.predicates.cel import CelEngine
from service.predicates.flaw import Flaw
from service.predicates.jsonlogic import JsonLogicEngine
from service.predicates.reports import SILENT, Reports

Answer = list[Verdict] | asyncio.Future[Sequence[Verdict]]


class Engine(Protocol):
    """What judges guards: verdicts where nobody need wait, else a future of them."""

    def ask(self, questions: Sequence[Question]) -> Answer:
        """Answer each question in its place."""
        ...


class Language(Engine, Protocol):
    """An engine of this process, which judges the guards of one language."""

    def compile(self, expression: str) -> Flaw | str | None:
        """Return what is wrong with an expression, or None; a plain text is about the whole of it."""
        ...


class Remote(Engine, Protocol):
    """An engine outside this process."""

    def report_to(self, reports: Reports) -> None:
        """Tell the metrics from now on."""
        ...

    async def close(self) -> None:
        """Ask nothing any longer."""
        ...


class Absent:
    """Stands for an engine that this worker does not have: it cannot be asked, and the cause says what to do."""

    def __init__(self, engine: str, cause: str) -> None:
        self._engine = engine
        self._cause = cause

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer that nobody can tell."""
        return [self._verdict(question) for question in questions]

    def _verdict(self, question: Question) -> Verdict:
        clause = question.guard.expression
        return Verdict(outcome="unavailable", clause=clause, cause=self._cause, engine=self._engine)


NO_REMOTE = Absent("remote", "this worker has no policy engine to ask: set TURNSTILE_PREDICATE_URL")


class Engines:
    """The guards port: asks in-process engines at once, and others beside them."""

    def __init__(self, remote: Remote | None = None) -> None:
        self._remote = remote
        self._reports: Reports = SILENT
        self._languages: dict[str, Language] = {"cel": CelEngine(), "jsonlogic": JsonLogicEngine()}
        self._engines: dict[str, Engine] = {**self._languages, "remote": remote or NO_REMOTE}

    def compile(self, guard: Guard) -> Flaw | None:
        """Return what is wrong with a guard, or None; of a remote engine's policy that is seen when it is asked."""
        language = self._languages.get(guard.engine)
        found = None if language is None else language.compile(guard.expression)
        return Flaw(found) if isinstance(found, str) else found

    def report_to(self, reports: Reports) -> None:
        """Tell the metrics from now on."""
        self._reports = reports
        if self._remote is not None:
            self._remote.report_to(reports)

    def ask(self, questions: Sequence[Question]) -> Answer:
        """Answer each question in its place: with the verdicts themselves where no engine needs to wait."""
        if len(questions) == 1:
            return self._ask(questions[0].guard.engine, questions)
        names = dict.fromkeys(question.guard.engine for question in questions)
        if len(names) == 1:
            return self._ask(next(iter(names)), questions)
        return self._ask_several(list(names), questions)

    async def close(self) -> None:
        """Ask nothing any longer."""
        if self._remote is not None:
            await self._remote.close()

    def _ask(self, engine: str, questions: Sequence[Question]) -> Answer:
        began = perf_counter()
        answer = self._engines[engine].ask(questions)
        if isinstance(answer, asyncio.Future):
            if not answer.done():
                answer.add_done_callback(partial(self._ended, engine, began))
                return answer
            answer = list(answer.result())
        self._judged(engine, began, answer)
        return answer

    def _ask_several(self, names: Sequence[str], questions: Sequence[Question]) -> Answer:
        places = [[at for at, each in enumerate(questions) if each.guard.engine == name] for name in names]
        answers = [self._ask(name, [questions[at] for at in taken]) for name, taken in zip(names, places, strict=True)]
        found = [answer for answer in answers if isinstance(answer, list)]
        return _in_order(places, found) if len(found) == len(answers) else asyncio.ensure_future(_late(places, answers))

    def _ended(self, engine: str, began: float, answer: "asyncio.Future[Sequence[Verdict]]") -> None:
        if answer.cancelled():
            self._reports.judged(engine, "given_up", perf_counter() - began)
        elif answer.exception() is None:
            self._judged(engine, began, answer.result())

    def _judged(self, engine: str, began: float, verdicts: Sequence[Verdict]) -> None:
        seconds = perf_counter() - began
        for verdict in verdicts:
            self._reports.judged(engine, verdict.outcome, seconds)


async def _late(places: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Sequence[Verdict]:
    waiting = [answer for answer in answers if isinstance(answer, asyncio.Future)]
    await asyncio.gather(*waiting)
    return _in_order(places, [each if isinstance(each, list) else each.result() for each in answers])


def _in_order(places: Sequence[Sequence[int]], answers: Sequence[Sequence[Verdict]]) -> list[Verdict]:
    found = {
        at: verdict
        for taken, verdicts in zip(places, answers, strict=True)
        for at, verdict in zip(taken, verdicts, strict=True)
    }
    return [found[at] for at in range(len(found))]
