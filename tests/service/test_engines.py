"""The router: each question to its engine and back into its place, at once where nobody needs to wait."""

import asyncio
from collections.abc import Sequence

import pytest

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from handlers.ports import verdicts
from service.predicates.engines import Engines
from service.predicates.reports import Reports
from service.telemetry import Telemetry
from tests.fakes.guards import question_of
from tests.service.test_cel import INPUTS

ALLOWED = Verdict(outcome="allow", engine="remote")
TRUE = question_of(Guard(engine="cel", expression="workflow.version == 3"), INPUTS)
FALSE = question_of(Guard(engine="cel", expression="workflow.version == 4"), INPUTS)
RULE = question_of(Guard(engine="jsonlogic", expression='{"==":[{"var":"workflow.version"},3]}'), INPUTS)
NEVER = question_of(Guard(engine="jsonlogic", expression="false"), INPUTS)


class HeldRemote:
    """A remote engine that answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], asyncio.Future[Sequence[Verdict]]]] = []
        self.closed = False

    def ask(self, questions: Sequence[Question]) -> "asyncio.Future[Sequence[Verdict]]":
        """Note who asks."""
        answer: asyncio.Future[Sequence[Verdict]] = asyncio.get_running_loop().create_future()
        self.asked.append(([question.guard.expression for question in questions], answer))
        return answer

    def report_to(self, reports: Reports) -> None:
        """Report nothing."""

    async def close(self) -> None:
        """Note it."""
        self.closed = True


def question(engine: str, expression: str) -> Question:
    """Return a question for an engine."""
    guard = Guard.model_validate({"engine": engine, "expression": expression})
    return question_of(guard, {"workflow": {}, "command": {}, "actor": {}, "children": [], "slas": [], "now": ""})


async def test_an_engine_in_process_answers_at_once() -> None:
    """With the verdicts themselves."""
    answer = Engines().ask([question("cel", "true"), question("cel", "1 == 2")])
    assert isinstance(answer, list)
    assert ["allow", "deny"] == [verdict.outcome for verdict in answer]


async def test_answers_come_back_in_the_order_of_the_questions() -> None:
    """Also where they are of several engines, and one of them takes its time."""
    remote = HeldRemote()
    names = [("remote", "a"), ("cel", "false"), ("remote", "b"), ("cel", "true")]
    answer = asyncio.ensure_future(verdicts(Engines(remote), [question(*each) for each in names]))
    await asyncio.sleep(0)
    assert [["a", "b"]] == [asked for asked, _ in remote.asked]
    remote.asked[0][1].set_result([ALLOWED, Verdict(outcome="deny", clause="b", engine="remote")])
    assert [("remote", "allow"), ("cel", "deny"), ("remote", "deny"), ("cel", "allow")] == [
        (verdict.engine, verdict.outcome) for verdict in await answer
    ]


async def test_who_gives_up_gives_up_on_every_engine() -> None:
    """Nothing goes on being asked for nobody."""
    remote = HeldRemote()
    answer = Engines(remote).ask([question("remote", "a"), question("cel", "true")])
    assert isinstance(answer, asyncio.Future)
    await asyncio.sleep(0)
    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)
    assert remote.asked[0][1].cancelled()


async def test_without_a_remote_engine_its_guards_say_which_setting_is_missing() -> None:
    """At once, and never open."""
    answer = Engines().ask([question("remote", "shop/open")])
    assert isinstance(answer, list)
    (verdict,) = answer
    assert ("unavailable", "shop/open", "this worker has no policy engine to ask: set TURNSTILE_PREDICATE_URL") == (
        verdict.outcome,
        verdict.clause,
        verdict.cause,
    )


async def test_verdicts_are_counted_by_engine_and_outcome() -> None:
    """Those of an engine in process, those that came later, and those nobody waited for."""
    remote, telemetry = HeldRemote(), Telemetry()
    engines = Engines(remote)
    engines.report_to(telemetry.predicates)
    engines.ask([question("cel", "true"), question("cel", "false")])
    answers = [asyncio.ensure_future(verdicts(engines, [question("remote", name)])) for name in "ab"]
    await asyncio.sleep(0)
    remote.asked[0][1].set_result([ALLOWED])
    answers[1].cancel()
    await asyncio.gather(*answers, return_exceptions=True)
    await asyncio.sleep(0)

    def counted(engine: str, outcome: str) -> float | None:
        labels = {"engine": engine, "outcome": outcome}
        return telemetry.registry.get_sample_value("turnstile_predicate_seconds_count", labels)

    assert [1, 1, 1, 1] == [
        counted(*each) for each in [("cel", "allow"), ("cel", "deny"), ("remote", "allow"), ("remote", "given_up")]
    ]


async def test_closing_closes_the_remote_engine() -> None:
    """So that a stopped worker leaves no connection behind."""
    remote = HeldRemote()
    await Engines(remote).close()
    assert remote.closed


async def test_each_question_goes_to_its_engine() -> None:
    """Mixed as they come, each answer in its question's place."""
    found = await verdicts(Engines(), [RULE, TRUE, NEVER, FALSE, RULE])
    expected = [
        ("jsonlogic", "allow"),
        ("cel", "allow"),
        ("jsonlogic", "deny"),
        ("cel", "deny"),
        ("jsonlogic", "allow"),
    ]
    assert expected == [(verdict.engine, verdict.outcome) for verdict in found]
    assert [] == list(await verdicts(Engines(), []))


@pytest.mark.parametrize("question", [TRUE, RULE])
def test_an_engine_of_this_process_answers_at_once(question: Question) -> None:
    """A turn need not wait for it, and parks nothing."""
    answer = Engines().ask([question])
    assert isinstance(answer, list)
    assert [("allow", question.guard.engine)] == [(verdict.outcome, verdict.engine) for verdict in answer]


def test_what_is_wrong_is_found_by_the_language() -> None:
    """A place is told where the engine knows one."""
    assert None is Engines().compile(TRUE.guard)
    flaw = Engines().compile(Guard(engine="cel", expression="1 +"))
    assert flaw is not None
    assert ("Syntax error" in flaw.message, ()) == (True, flaw.path)
    flaw = Engines().compile(Guard(engine="jsonlogic", expression='{"and":[true,{"nosuch":1}]}'))
    assert flaw is not None
    assert ("and", 1) == flaw.path
