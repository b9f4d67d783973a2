"""Guards of several languages behind one port."""

import asyncio

import pytest

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from service.predicates.engines import Engines
from tests.service.test_cel import INPUTS

TRUE = Question(Guard(engine="cel", expression="workflow.version == 3"), INPUTS)
FALSE = Question(Guard(engine="cel", expression="workflow.version == 4"), INPUTS)
RULE = Question(Guard(engine="jsonlogic", expression='{"==":[{"var":"workflow.version"},3]}'), INPUTS)
NEVER = Question(Guard(engine="jsonlogic", expression="false"), INPUTS)


@pytest.fixture(scope="module")
def engines() -> Engines:
    """Return those of this process."""
    return Engines.in_process()


async def test_each_question_goes_to_its_engine(engines: Engines) -> None:
    """Mixed as they come, each answer in its question's place."""
    found = await engines.ask([RULE, TRUE, NEVER, FALSE, RULE])
    expected = [
        ("jsonlogic", "allow"),
        ("cel", "allow"),
        ("jsonlogic", "deny"),
        ("cel", "deny"),
        ("jsonlogic", "allow"),
    ]
    assert expected == [(verdict.engine, verdict.outcome) for verdict in found]
    assert [] == list(await engines.ask([]))


@pytest.mark.parametrize("question", [TRUE, RULE])
async def test_an_engine_of_this_process_answers_at_once(engines: Engines, question: Question) -> None:
    """A turn need not wait for it, and parks nothing."""
    answer = engines.ask([question])
    assert isinstance(answer, asyncio.Future)
    assert answer.done()
    assert [Verdict(outcome="allow", engine=question.guard.engine)] == answer.result()


def test_what_is_wrong_is_found_by_the_language(engines: Engines) -> None:
    """A place is told where the engine knows one."""
    assert None is engines.compile(TRUE.guard)
    flaw = engines.compile(Guard(engine="cel", expression="1 +"))
    assert flaw is not None
    assert ("Syntax error" in flaw.message, ()) == (True, flaw.path)
    flaw = engines.compile(Guard(engine="jsonlogic", expression='{"and":[true,{"nosuch":1}]}'))
    assert flaw is not None
    assert ("and", 1) == flaw.path
