"""Guards that answer when a test says so."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from contracts.predicates import Guard, Verdict
from domain.guards import Inputs, Question, Reads, cut
from tests.fakes.ports import ENGINE, scripted


@dataclass(frozen=True, slots=True)
class PlainInputs:
    """Inputs that are given as JSON, whatever there is under each name."""

    given: Mapping[str, Any]

    @property
    def now(self) -> str:
        """Return when the guard is asked."""
        return str(self.given["now"])

    def whole(self) -> dict[str, Any]:
        """Return all of it."""
        return dict(self.given)

    def part(self, reads: Reads) -> dict[str, Any]:
        """Return what is read."""
        return cast("dict[str, Any]", cut(dict(self.given), reads))


def question_of(guard: Guard, inputs: Mapping[str, Any]) -> Question:
    """Ask a guard about inputs that are given as JSON."""
    return Question(guard, cast("Inputs", PlainInputs(inputs)))


class HeldGuards:
    """Answers as ScriptedGuards does, but those of `held` workflows (or all) only when they are let go."""

    def __init__(self, *held: str, every: bool = False) -> None:
        self.held = set(held)
        self.every = every
        self.pending: list[tuple[Question, asyncio.Future[list[Verdict]]]] = []
        self.asked: list[str] = []

    def ask(self, questions: Sequence[Question]) -> list[Verdict] | asyncio.Future[list[Verdict]]:
        """Answer, at once or later."""
        (question,) = questions
        workflow_id = question.inputs.workflow.workflow_id
        self.asked.append(workflow_id)
        if not (self.every or workflow_id in self.held):
            return [scripted(question)]
        answer: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        self.pending.append((question, answer))
        return answer

    async def let_go(self, *workflow_ids: str, fault: Exception | None = None) -> None:
        """Answer what was asked about some workflows, or all; whoever waits has heard of it afterwards."""
        waiting, self.pending = self.pending, []
        for question, answer in waiting:
            if workflow_ids and question.inputs.workflow.workflow_id not in workflow_ids:
                self.pending.append((question, answer))
            elif fault is not None and not answer.done():
                answer.set_exception(fault)
            elif not answer.done():
                answer.set_result([scripted(question)])
        await asyncio.sleep(0)

    @property
    def waiting(self) -> list[str]:
        """Return the workflows whose guards somebody still wants to know about."""
        return [question.inputs.workflow.workflow_id for question, answer in self.pending if not answer.done()]


def unavailable(cause: str) -> Verdict:
    """Return the verdict of an engine that cannot tell."""
    return Verdict(outcome="unavailable", cause=cause, engine=ENGINE)
