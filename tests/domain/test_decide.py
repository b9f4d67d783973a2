"""SPEC's checks in their order: each refusal alone, each against every later one, and what is accepted."""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest

from contracts.commands import COMMANDS
from contracts.events import Event
from contracts.predicates import Provenance, Verdict
from contracts.rejections import Code
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Decision, Facts
from domain.definition import Definition
from domain.evolve import fold
from domain.guards import Question
from domain.ids import event_id
from domain.rejections import Refusal
from domain.workflow import Workflow
from tests.fakes.machines import compiled, create, door, identified, move

NOW = "2026-11-21T09:30:00.000000Z"
INCARNATION = UUID(int=1)
DOOR = compiled(door(max_open=2))
NOTHING_KNOWN = Facts()
DENY = Verdict(outcome="deny", clause="command.context.strong", values={"strong": False}, engine="scripted")
AWAY = Verdict(outcome="unavailable", cause="nobody answers", engine="scripted")
ALLOW = Verdict(outcome="allow", engine="scripted")
SHUT = Workflow(
    workflow_id="w",
    root_id="w",
    definition=DOOR.name,
    definition_version=1,
    state="shut",
    version=1,
    sequence=1,
    created_at=NOW,
    updated_at=NOW,
    metadata={"colour": "red"},
    tenant="acme",
)
LEAVING_SHUT = (
    {"transition": "open", "target_state": "open", "guarded": False},
    {"transition": "push", "target_state": "ajar", "guarded": False},
    {"transition": "pull", "target_state": "ajar", "guarded": True},
    {"transition": "brick", "target_state": "bricked", "guarded": False},
)


@dataclass(frozen=True)
class Case:
    """A command and what it meets; by default an accepted move of a shut door."""

    body: dict[str, Any]
    workflow: Workflow | None = SHUT
    definition: Definition | None = DOOR
    facts: Facts = NOTHING_KNOWN
    verdict: Verdict | None = None

    def decide(self) -> Decision | Question:
        """Decide the command."""
        command = COMMANDS.validate_python(self.body)
        circumstances = Circumstances(NOW, INCARNATION, str(command.command_id), "talk")
        decision = decide(command, self.workflow, self.definition, facts=self.facts, circumstances=circumstances)
        if self.verdict is None or not isinstance(decision, Question):
            return decision
        assert self.workflow is not None
        assert self.definition is not None
        return conclude(decision, self.verdict, command, self.workflow, self.definition, circumstances)

    def with_body(self, **fields: Any) -> "Case":  # noqa: ANN401 - any JSON value
        """Return the case with other fields in its command."""
        kept = {key: value for key, value in (self.body | fields).items() if value is not None}
        return replace(self, body=kept)

    def in_state(self, state: str) -> "Case":
        """Return the case with its workflow in another state."""
        assert self.workflow is not None
        return replace(self, workflow=self.workflow._replace(state=state))


MOVE = Case(move("w", "pull", tenant="acme"), verdict=ALLOW)
CREATE = Case(create("n", tenant="acme"), workflow=None)

# What makes each check fail, in SPEC's order; a pair of them at once must give the earlier.
MOVES = {
    Code.NOT_FOUND: lambda case: case.with_body(tenant="other"),
    Code.TERMINAL_STATE: lambda case: case.in_state("bricked"),
    Code.VERSION_CONFLICT: lambda case: case.with_body(expected_version=7),
    Code.INVALID_TRANSITION: lambda case: case.in_state("ajar") if case.workflow.state == "shut" else case,
    Code.GUARD_DENIED: lambda case: replace(case, verdict=DENY),
    Code.PREDICATE_UNAVAILABLE: lambda case: replace(case, verdict=AWAY),
}
CREATIONS = {
    Code.UNKNOWN_DEFINITION: lambda case: replace(case, definition=None),
    Code.ALREADY_EXISTS: lambda case: replace(case, facts=replace(case.facts, taken={"n": "elsewhere"})),
    Code.VERSION_CONFLICT: lambda case: case.with_body(expected_version=1),
    Code.LIMIT_REACHED: lambda case: replace(case, facts=replace(case.facts, room={DOOR.name: 0})),
}
BOTH_ARE_VERDICTS = {Code.GUARD_DENIED, Code.PREDICATE_UNAVAILABLE}


def code_of(decision: Decision | Question) -> Code | None:
    """Return a refusal's code, None for anything else."""
    return decision.code if isinstance(decision, Refusal) else None


def refused(case: Case) -> Refusal:
    """Decide a case that is refused."""
    decision = case.decide()
    assert isinstance(decision, Refusal)
    return decision


def accepted(case: Case) -> Accepted:
    """Decide a case that is accepted."""
    decision = case.decide()
    assert isinstance(decision, Accepted), decision
    return decision


def test_the_tables_are_in_the_order_of_the_contract() -> None:
    """The order that the pairs below are held to is the contract's own."""
    order = list(Code)
    assert sorted(MOVES, key=order.index) == list(MOVES)
    assert sorted(CREATIONS, key=order.index) == list(CREATIONS)


@pytest.mark.parametrize("code", MOVES)
def test_each_failure_of_a_move_is_its_code(code: Code) -> None:
    """Without the failure the move is accepted, with it it is refused by its code."""
    assert code_of(MOVE.decide()) is None
    assert code == code_of(MOVES[code](MOVE).decide())


@pytest.mark.parametrize("code", CREATIONS)
def test_each_failure_of_a_creation_is_its_code(code: Code) -> None:
    """Without the failure the creation is accepted, with it it is refused by its code."""
    assert code_of(CREATE.decide()) is None
    assert code == code_of(CREATIONS[code](CREATE).decide())


@pytest.mark.parametrize(
    ("earlier", "later"), [pair for pair in combinations(MOVES, 2) if not BOTH_ARE_VERDICTS.issuperset(pair)]
)
def test_of_two_failures_of_a_move_the_earlier_wins(earlier: Code, later: Code) -> None:
    """Two checks fail at once, in whichever order they were brought about."""
    assert earlier == code_of(MOVES[later](MOVES[earlier](MOVE)).decide())
    assert earlier == code_of(MOVES[earlier](MOVES[later](MOVE)).decide())


@pytest.mark.parametrize(("earlier", "later"), [*combinations(CREATIONS, 2)])
def test_of_two_failures_of_a_creation_the_earlier_wins(earlier: Code, later: Code) -> None:
    """Two checks fail at once, in whichever order they were brought about."""
    assert earlier == code_of(CREATIONS[later](CREATIONS[earlier](CREATE)).decide())
    assert earlier == code_of(CREATIONS[earlier](CREATIONS[later](CREATE)).decide())


def test_an_existing_workflow_is_not_created_again() -> None:
    """An id that this partition holds is taken as one elsewhere is."""
    assert Code.ALREADY_EXISTS == code_of(replace(CREATE, workflow=SHUT).decide())


@pytest.mark.parametrize("command_type", ["request_transition", "recover_workflow", "update_metadata"])
@pytest.mark.parametrize("tenant", [None, "other"])
def test_the_workflow_of_another_tenant_does_not_exist(command_type: str, tenant: str | None) -> None:
    """The refusal is the same as for an id that nobody uses: state, version and definition stay hidden."""
    fields: dict[str, Any] = {"transition": "open"} if command_type == "request_transition" else {"metadata": {}}
    body = MOVE.body | {"command_type": command_type, "transition": None, **fields}
    case = Case(body).with_body(tenant=tenant)
    assert Refusal(Code.NOT_FOUND, "no workflow w; one inside a tree is reached by giving its root_id") == refused(case)
    assert refused(replace(case, workflow=None)) == refused(case)
    assert refused(replace(case, definition=None)) == refused(case)


def test_an_ambiguous_target_names_the_ways() -> None:
    """A target that several transitions reach is no command; each may be named."""
    case = MOVE.with_body(transition=None, target_state="ajar")
    expected = "several transitions lead from shut to ajar: name one of push, pull"
    assert Refusal(Code.INVALID_COMMAND, expected, None, LEAVING_SHUT) == refused(case)
    for name in ("push", "pull"):
        assert "ajar" == accepted(MOVE.with_body(transition=name)).workflow.state


@pytest.mark.parametrize("code", [Code.VERSION_CONFLICT, Code.GUARD_DENIED])
def test_an_ambiguous_target_comes_first(code: Code) -> None:
    """INVALID_COMMAND stands before every other check but those that hide the workflow."""
    assert Code.INVALID_COMMAND == code_of(MOVES[code](MOVE.with_body(transition=None, target_state="ajar")).decide())
    hidden = MOVES[Code.NOT_FOUND](MOVE.with_body(transition=None, target_state="ajar"))
    assert Code.NOT_FOUND == code_of(hidden.decide())


@pytest.mark.parametrize("state", DOOR.states)
def test_recovery_is_enabled_exactly_where_the_definition_has_it(state: str) -> None:
    """`recover_workflow` is the transition named recover, and counts as a retry."""
    decision = Case({**MOVE.body, "command_type": "recover_workflow"}).in_state(state).decide()
    if state == "jammed":
        assert isinstance(decision, Accepted)
        assert ("shut", "jammed", 1, 2) == (
            decision.workflow.state,
            decision.workflow.previous_state,
            decision.workflow.retry_count,
            decision.workflow.version,
        )
        assert 1 == decision.events[0]["retry_count"]
    else:
        expected = Code.TERMINAL_STATE if state == "bricked" else Code.INVALID_TRANSITION
        assert expected == code_of(decision)


@pytest.mark.parametrize("state", DOOR.states)
def test_metadata_may_change_in_any_state(state: str) -> None:
    """A terminal state is never left, and its metadata can still be put right."""
    body = {**MOVE.body, "command_type": "update_metadata", "metadata": {"colour": None, "lock": {"key": 1}}}
    decision = accepted(Case(body).in_state(state))
    assert (state, 2, {"lock": {"key": 1}}, 0) == (
        decision.workflow.state,
        decision.workflow.version,
        decision.workflow.metadata,
        decision.open_delta,
    )
    assert "to_state" not in decision.events[0]


def test_metadata_is_checked_against_the_version() -> None:
    """An update that expects another version is refused, at its version it is accepted."""
    body = {**MOVE.body, "command_type": "update_metadata", "metadata": {"colour": "blue"}}
    assert Code.VERSION_CONFLICT == code_of(Case(body | {"expected_version": 2}).decide())
    assert None is code_of(Case(body | {"expected_version": 1}).decide())


def test_a_conflict_shows_what_was_expected_and_what_is() -> None:
    """The clause, the values it saw, and the ways that lead on."""
    assert Refusal(
        Code.VERSION_CONFLICT,
        "w is at version 1, not 7",
        {
            "clause": "expected_version == version",
            "values": {"expected_version": 7, "version": 1, "state": "shut"},
        },
        LEAVING_SHUT,
    ) == refused(MOVE.with_body(expected_version=7))


@pytest.mark.parametrize(
    ("expected_version", "expected"), [(4, Code.VERSION_CONFLICT), (5, None), (6, Code.VERSION_CONFLICT)]
)
def test_the_version_is_expected_exactly(expected_version: int, expected: Code | None) -> None:
    """Neither an older nor a later version will do."""
    case = replace(MOVE, workflow=SHUT._replace(version=5, sequence=5))
    assert expected == code_of(case.with_body(expected_version=expected_version).decide())


def test_a_missing_transition_shows_the_state_and_the_ways() -> None:
    """By name or by target, the refusal says what there is instead."""
    by_name = refused(MOVE.with_body(transition="jam"))
    assert (LEAVING_SHUT, {"clause": "transition jam exists in state shut", "values": {"state": "shut"}}) == (
        by_name.allowed,
        by_name.why,
    )
    assert by_name.message.endswith(" has no transition jam in state shut")
    assert refused(MOVE.with_body(transition=None, target_state="jammed")).message.endswith(
        " no transition from shut to jammed"
    )
    by_target = refused(MOVE.with_body(transition=None, target_state="jammed"))
    assert (Code.INVALID_TRANSITION, LEAVING_SHUT) == (by_target.code, by_target.allowed)
    assert Code.INVALID_TRANSITION == code_of(MOVE.with_body(transition=None, target_state="no state").decide())


def test_the_end_is_the_end() -> None:
    """Nothing leads on from a terminal state, not even to itself."""
    refusal = refused(MOVE.with_body(transition=None, target_state="bricked").in_state("bricked"))
    assert (Code.TERMINAL_STATE, (), {"clause": "state is not terminal", "values": {"state": "bricked"}}) == (
        refusal.code,
        refusal.allowed,
        refusal.why,
    )


def test_a_guard_is_a_question_first() -> None:
    """Without a verdict nothing is decided: the question carries the guard and all that it may look at."""
    case = replace(MOVE, verdict=None).with_body(context={"strong": True}, requested_by="ann")
    question = case.decide()
    assert isinstance(question, Question)
    assert "command.context.strong" == question.guard.expression
    assert {
        "workflow": SHUT._asdict(),
        "command": COMMANDS.validate_python(case.body).model_dump(mode="json", exclude_none=True),
        "actor": {"name": "ann", "tenant": "acme"},
        "children": [],
        "slas": [],
        "now": NOW,
    } == question.inputs.whole()


@pytest.mark.parametrize(
    ("verdict", "code", "retryable", "message"),
    [
        (DENY, Code.GUARD_DENIED, False, "the guard of pull denied it"),
        (AWAY, Code.PREDICATE_UNAVAILABLE, True, "the guard of pull could not be asked: nobody answers"),
    ],
)
def test_only_an_allow_opens(verdict: Verdict, code: Code, message: str, *, retryable: bool) -> None:
    """A guard that denies, and one that cannot be asked, say so; only the second may be tried again."""
    refusal = refused(replace(MOVE, verdict=verdict))
    kept = {"outcome": verdict.outcome, "engine": "scripted"}
    why = {"clause": "command.context.strong", "values": verdict.values or {}, "verdict": kept}
    assert Refusal(code, message, why, LEAVING_SHUT) == refusal
    assert retryable is refusal.retryable
    assert retryable is refusal.written().get("retryable", False)


def test_a_guarded_transition_keeps_what_opened_it() -> None:
    """Who said so by which policy, of what, how long it took; when it was asked only where that was another time."""
    told: dict[str, Any] = {"engine": "remote", "policy_version": "7", "inputs_digest": "ab" * 16, "latency_us": 5012}
    verdict = Verdict(outcome="allow", asked_at=NOW, **told)
    assert {"outcome": "allow", **told} == accepted(replace(MOVE, verdict=verdict)).events[0]["verdict"]
    earlier = verdict._replace(asked_at="2026-11-21T09:29:58.000000Z")
    event = accepted(replace(MOVE, verdict=earlier)).events[0]
    assert {"outcome": "allow", **told, "asked_at": "2026-11-21T09:29:58.000000Z"} == event["verdict"]
    assert accepted(replace(MOVE, verdict=verdict)).workflow == accepted(replace(MOVE, verdict=earlier)).workflow
    assert None is Event.model_validate({**event, "verdict": None}).verdict
    assert Provenance(outcome="allow", **told, asked_at=earlier.asked_at) == Event.model_validate(event).verdict


def test_an_unguarded_transition_asks_nobody() -> None:
    """A verdict that nobody asked for changes nothing."""
    assert accepted(MOVE.with_body(transition="push")) == accepted(
        replace(MOVE, verdict=DENY).with_body(transition="push")
    )


def test_a_creation_says_all_it_was_given() -> None:
    """The first event carries the command's fields, and folding it gives the workflow."""
    decision = accepted(
        CREATE.with_body(
            name="front", owner="bob", due_at="2026-12-01T10:00:00+01:00", estimated_seconds=90, requested_by="ann",
            reason="new house", metadata={"colour": "blue"}, input={"a": 1}, occurred_at="2026-11-20T00:00:00Z",
        )
    )  # fmt: skip
    assert (
        {
            "event_id": event_id(INCARNATION, "n", 1),
            "sequence": 1,
            "version": 1,
            "workflow_id": "n",
            "root_id": "n",
            "event_type": "CREATED",
            "category": "state",
            "severity": "info",
            "message": "created in shut",
            "definition": "shop.door",
            "definition_version": 1,
            "to_state": "shut",
            "metadata": {"colour": "blue"},
            "details": {
                "name": "front",
                "owner": "bob",
                "due_at": "2026-12-01T09:00:00.000000Z",
                "estimated_seconds": 90,
                "input": {"a": 1},
            },
            "timestamp": NOW,
            "occurred_at": "2026-11-20T00:00:00.000000Z",
            "command_id": identified("create n"),
            "causation_id": identified("create n"),
            "correlation_id": "talk",
            "actor": "ann",
            "reason": "new house",
            "tenant": "acme",
        },
    ) == decision.events
    assert fold(decision.events) == decision.workflow
    assert 1 == decision.open_delta


def test_a_creation_takes_the_definitions_metadata_unless_it_brings_its_own() -> None:
    """The default is for a command that says nothing, not for one that says it is empty."""
    assert {"colour": "red"} == accepted(CREATE).workflow.metadata
    assert {} == accepted(CREATE.with_body(metadata={})).workflow.metadata


def test_a_workflow_may_be_born_finished() -> None:
    """An initial state that is terminal counts as nothing open."""
    machine = compiled({"name": "shop.note", "version": 1, "states": {"kept": {"initial": True, "terminal": True}}})
    decision = accepted(replace(CREATE, definition=machine))
    assert (0, NOW) == (decision.open_delta, decision.workflow.completed_at)


@pytest.mark.parametrize(
    ("state", "transition", "target", "delta"), [("shut", "open", "open", 0), ("open", "brick", "bricked", -1)]
)
def test_a_move_counts_what_it_closes(state: str, transition: str, target: str, delta: int) -> None:
    """Only reaching a terminal state closes a workflow, and says when."""
    decision = accepted(MOVE.with_body(transition=transition).in_state(state))
    assert (target, state, delta, NOW if delta else None) == (
        decision.workflow.state,
        decision.workflow.previous_state,
        decision.open_delta,
        decision.workflow.completed_at,
    )


@pytest.mark.parametrize("room", [None, 1, 5])
def test_room_is_only_missing_where_there_is_none(room: int | None) -> None:
    """A limit that nobody told of, or that leaves room, refuses nothing."""
    facts = Facts(room={} if room is None else {DOOR.name: room})
    assert None is code_of(replace(CREATE, facts=facts).decide())
