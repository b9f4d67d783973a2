"""The clauses of a transition and a definition that decide besides the guard: required fields, retries, refusals."""

from typing import Any
from uuid import UUID

import pytest

from contracts.commands import COMMANDS
from contracts.predicates import Verdict
from contracts.rejections import Code
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Decision, Facts
from domain.definition import check
from domain.guards import Question
from domain.rejections import Refusal
from domain.workflow import Workflow
from tests.fakes.machines import command, compiled, move

NOW = "2026-11-21T09:30:00.000000Z"
DENY = Verdict(outcome="deny", clause="false", engine="scripted")
ALLOW = Verdict(outcome="allow", engine="scripted")


def job(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any clause
    """Return a job: it fails, is tried again, and ends with a result."""
    return {
        "name": "shop.job",
        "version": 1,
        "states": {"running": {"initial": True}, "failed": None, "done": {"terminal": True}},
        "transitions": [
            {"name": "fail", "from": "running", "to": "failed", "required": ["error"]},
            {
                "name": "finish",
                "from": "running",
                "to": "done",
                "guard": "true",
                "required": ["reason", "context.result", "output.report.pages"],
            },
            {"name": "retry", "from": "failed", "to": "running", "retry": True, "guard": "true"},
            {"name": "recover", "from": "failed", "to": "running", "required": ["reason", "output"]},
            {"name": "give up", "from": "failed", "to": "done"},
        ],
        "limits": {"max_retries": 2},
    } | changes


def decided(
    body: dict[str, Any],
    *,
    state: str = "running",
    retry_count: int = 0,
    document: dict[str, Any] | None = None,
    verdict: Verdict | None = ALLOW,
) -> Decision | Question:
    """Decide a command of a job."""
    workflow = Workflow(
        workflow_id="w",
        root_id="w",
        definition="shop.job",
        definition_version=1,
        state=state,
        version=3,
        sequence=3,
        created_at=NOW,
        updated_at=NOW,
        metadata={},
        retry_count=retry_count,
    )
    asked = COMMANDS.validate_python(body)
    circumstances = Circumstances(NOW, UUID(int=1), str(asked.command_id))
    definition = compiled(document or job())
    decision = decide(asked, workflow, definition, facts=Facts(), circumstances=circumstances)
    if verdict is None or not isinstance(decision, Question):
        return decision
    return conclude(decision, verdict, asked, workflow, definition, circumstances)


def refused(body: dict[str, Any], **fields: Any) -> Refusal:  # noqa: ANN401 - of `decided`
    """Decide a command that is refused."""
    decision = decided(body, **fields)
    assert isinstance(decision, Refusal), decision
    return decision


COMPLETE = {"reason": "all done", "context": {"result": 0}, "output": {"report": {"pages": []}}}


def test_a_required_field_that_is_given_opens_the_way() -> None:
    """Zero, false and an empty list are values."""
    assert isinstance(decided(move("w", "finish", **COMPLETE)), Accepted)
    assert isinstance(decided(move("w", "finish", **COMPLETE | {"context": {"result": False}})), Accepted)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"reason": None}, ["reason"]),
        ({"context": {}}, ["context.result"]),
        ({"context": {"result": None}}, ["context.result"]),
        ({"output": None}, ["output.report.pages"]),
        ({"output": {"report": "pages"}}, ["output.report.pages"]),
        ({"output": {"report": {"pages": None}}}, ["output.report.pages"]),
        ({"output": {"report.pages": 3}}, ["output.report.pages"]),
        ({"reason": None, "context": {"Result": 1}}, ["reason", "context.result"]),
    ],
)
@pytest.mark.parametrize("verdict", [None, DENY])
def test_a_required_field_that_is_absent_or_null_is_named(
    changes: dict[str, Any], missing: list[str], verdict: Verdict | None
) -> None:
    """All that are missing at once, before the guard is asked."""
    refusal = refused(move("w", "finish", **COMPLETE | changes), verdict=verdict)
    assert (Code.INVALID_COMMAND, {"required": [*job()["transitions"][1]["required"]], "missing": missing}) == (
        refusal.code,
        (refusal.why or {})["values"],
    )
    assert f"finish requires {', '.join(missing)}: add {'it' if len(missing) == 1 else 'them'} to the command" == (
        refusal.message
    )


def test_a_command_that_lacks_a_field_is_invalid_before_it_is_late() -> None:
    """INVALID_COMMAND comes before the version; where there is no such transition nothing is required."""
    assert Code.INVALID_COMMAND == refused(move("w", "fail", expected_version=9)).code
    assert Code.VERSION_CONFLICT == refused(move("w", "fail", expected_version=9, error="broke")).code
    assert Code.INVALID_TRANSITION == refused(move("w", "fail"), state="failed").code
    assert Code.TERMINAL_STATE == refused(move("w", "fail"), state="done").code


def test_a_target_requires_what_its_transition_does() -> None:
    """However the transition is asked for."""
    by_target = command("request_transition", "w", "by target", target_state="failed")
    assert "fail requires error: add it to the command" == refused(by_target).message
    assert isinstance(decided(by_target | {"error": "broke"}), Accepted)


def test_recover_has_no_output_to_give() -> None:
    """A field that this kind of command does not have is absent."""
    body = command("recover_workflow", "w", "again", reason="mended")
    assert ["output"] == (refused(body, state="failed").why or {})["values"]["missing"]
    assert isinstance(decided(move("w", "recover", reason="mended", output={}), state="failed"), Accepted)


@pytest.mark.parametrize(
    "field",
    ["", "context", "context.", "context..a", "context. a", "metadata.a", "workflow_id", "reason.why", "output.a b", 1],
)
def test_only_a_commands_fields_can_be_required(field: object) -> None:
    """A name that no command has would refuse every one of them."""
    way = {"name": "go", "from": "running", "to": "done", "required": ["reason", field]}
    found = check(job(transitions=[way], limits={}))
    assert [("BAD_VALUE", ("transitions", 0, "required", 1))] == [(each.code, each.path) for each in found]


@pytest.mark.parametrize("name", ["retry", "recover"])
def test_retries_are_counted_and_bounded(name: str) -> None:
    """Each way that is a retry counts, up to the limit; what comes after names the limit and what is left."""
    body = move("w", name, reason="again", output={})
    for before in (0, 1):
        decision = decided(body, state="failed", retry_count=before)
        assert isinstance(decision, Accepted)
        assert before + 1 == decision.workflow.retry_count == decision.events[0]["retry_count"]
    spent = refused(body, state="failed", retry_count=2)
    assert (
        Code.LIMIT_REACHED,
        {"clause": "retry_count < max_retries", "values": {"retry_count": 2, "max_retries": 2}},
        ({"transition": "give up", "target_state": "done", "guarded": False},),
    ) == (spent.code, spent.why, spent.allowed)


def test_the_limit_is_the_last_check() -> None:
    """A guard that denies is named before spent retries are."""
    assert Code.GUARD_DENIED == refused(move("w", "retry"), state="failed", retry_count=2, verdict=DENY).code
    assert isinstance(decided(move("w", "retry"), state="failed", retry_count=2, verdict=None), Question)


def test_other_ways_keep_the_count() -> None:
    """What is no retry neither raises it nor is bound by it."""
    decision = decided(move("w", "give up"), state="failed", retry_count=7)
    assert isinstance(decision, Accepted)
    assert 7 == decision.workflow.retry_count


def test_without_a_limit_retries_do_not_end() -> None:
    """As recoveries always were; a limit of none at all is a limit."""
    body = move("w", "recover", reason="again", output={})
    unlimited = decided(body, state="failed", retry_count=10**6, document=job(limits={}))
    assert isinstance(unlimited, Accepted)
    assert Code.LIMIT_REACHED == refused(body, state="failed", document=job(limits={"max_retries": 0})).code


def test_a_limit_that_bounds_nothing_is_a_warning() -> None:
    """The author may have forgotten to mark the retry."""
    transitions = [{"name": "stop", "from": "running", "to": "done"}]
    found = check(job(transitions=transitions))
    assert [("warning", "NO_RETRY", ("limits", "max_retries"))] == [(f.severity, f.code, f.path) for f in found]


@pytest.mark.parametrize("code", [Code.TERMINAL_STATE, Code.INVALID_TRANSITION])
@pytest.mark.parametrize("fields", [{}, {"expected_version": 9}])
def test_a_definition_says_how_an_end_is_refused(code: Code, fields: dict[str, Any]) -> None:
    """The code is data; check, sentence and why stay the same, and the check stays in its place."""
    refusal = refused(
        move("w", "finish", **fields), state="done", document=job(refusals={"terminal_state": code.value})
    )
    assert Refusal(
        code,
        "w is done, which is never left",
        {"clause": "state is not terminal", "values": {"state": "done"}},
        (),
    ) == (refusal)


def test_an_end_is_refused_by_one_of_two_codes() -> None:
    """Any other would be a surprise to every client."""
    found = check(job(refusals={"terminal_state": "NOT_FOUND"}))
    assert [("BAD_VALUE", ("refusals", "terminal_state"))] == [(each.code, each.path) for each in found]
