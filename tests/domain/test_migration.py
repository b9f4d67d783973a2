"""A migration moves a workflow to another version of its definition, and an undo gives back what was there before."""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest

from contracts.commands import COMMANDS
from contracts.rejections import Code
from domain.decide import decide
from domain.decision import Accepted, Circumstances, Decision, Facts
from domain.definition import Definition
from domain.evolve import evolve
from domain.guards import Question
from domain.migration import Target, fault_of, target_version
from domain.rejections import Refusal
from domain.workflow import Workflow
from tests.fakes.machines import command, compiled, door, move

NOW, LATER = "2026-11-21T09:30:00.000000Z", "2026-11-21T09:31:00.000000Z"
INCARNATION = UUID(int=1)
FIRST = compiled(door(max_open=2))
SECOND = compiled(
    {
        "name": FIRST.name,
        "version": 2,
        "states": {"shut": {"initial": True}, "wide": {}, "open": {}, "gone": {"terminal": True}},
        "transitions": [{"name": "open", "from": "shut", "to": "open"}],
        "limits": {"max_open": 2},
    }
)
VERSIONS = {1: FIRST, 2: SECOND}
AJAR = Workflow(
    workflow_id="w",
    root_id="w",
    definition=FIRST.name,
    definition_version=1,
    state="ajar",
    version=3,
    sequence=3,
    created_at=NOW,
    updated_at=NOW,
    metadata={"colour": "red"},
    tenant="acme",
    previous_state="shut",
    started_at=NOW,
    retry_count=2,
    last_error="stuck",
)


@dataclass(frozen=True)
class Case:
    """A migration and what it meets; by default an accepted one of a door that is ajar."""

    body: dict[str, Any]
    workflow: Workflow | None = AJAR
    last: dict[str, Any] | None = None
    facts: Facts = Facts()  # noqa: RUF009 - immutable

    def decide(self, command_id: int = 7) -> Decision | Question:
        """Decide the command, its target loaded as the handler does."""
        asked = COMMANDS.validate_python(self.body)
        version = target_version(asked, self.last) if asked.command_type == "migrate_workflow" else None
        own = None if self.workflow is None else VERSIONS.get(self.workflow.definition_version)
        target = Target(None if version is None else VERSIONS.get(version), self.last)
        circumstances = Circumstances(LATER, INCARNATION, str(UUID(int=command_id)))
        return decide(asked, self.workflow, own, facts=self.facts, circumstances=circumstances, target=target)

    def with_body(self, **fields: Any) -> "Case":  # noqa: ANN401 - any JSON value
        """Return the case with other fields in its command."""
        return replace(self, body=self.body | fields)


def migrate(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Return a migration's body."""
    return command("migrate_workflow", "w", 7, **({"tenant": "acme", "reason": "because"} | fields))


def accepted(case: Case) -> Accepted:
    """Decide a case that is accepted."""
    decision = case.decide()
    assert isinstance(decision, Accepted), decision
    return decision


def refused(case: Case) -> Refusal:
    """Decide a case that is refused."""
    decision = case.decide()
    assert isinstance(decision, Refusal), decision
    return decision


def after(done: Accepted, **fields: Any) -> Case:  # noqa: ANN401 - any JSON value
    """Return an undo of what was done."""
    return Case(migrate(undo=True, **fields), workflow=done.workflow, last=done.events[-1])


MOVED = Case(migrate(to_version=2, states={"ajar": "wide"}, requested_by="ann"))
CLOSED = Case(migrate(to_version=2, states={"ajar": "gone"}))


def test_a_mapped_state_takes_the_place_of_the_old_one() -> None:
    """One event, one version on, on the other definition; what the last transition left stays as it is."""
    done = accepted(MOVED)
    (event,) = done.events
    shown = ("event_type", "category", "definition_version", "from_state", "to_state", "version", "details", "reason")
    assert ("MIGRATED", "definition", 2, "ajar", "wide", 4, {"from_version": 1, "to_version": 2}, "because") == tuple(
        event[name] for name in shown
    )
    expected = AJAR._replace(definition_version=2, state="wide", version=4, sequence=4, updated_at=LATER)
    assert (expected, 0) == (done.workflow, done.open_delta)


def test_a_state_that_is_not_named_keeps_its_name() -> None:
    """No mapping is needed where the state is in both versions."""
    shut = replace(MOVED, workflow=AJAR._replace(state="shut"))
    assert ("shut", 2) == (accepted(shut).workflow.state, accepted(shut).workflow.definition_version)


def test_a_mapping_to_a_terminal_state_closes() -> None:
    """The workflow is complete and one fewer is open."""
    done = accepted(CLOSED)
    assert ("gone", LATER, -1) == (done.workflow.state, done.workflow.completed_at, done.open_delta)
    assert done.events[0]["details"]["terminal"] is True


@pytest.mark.parametrize("case", [MOVED, CLOSED])
def test_an_undo_gives_back_the_workflow_before(case: Case) -> None:
    """All of it, also out of a terminal state; versions and sequence go on, and the counter is as before."""
    done = accepted(case)
    undone = accepted(after(done))
    assert AJAR._replace(version=5, sequence=5, updated_at=LATER) == undone.workflow
    assert done.open_delta + undone.open_delta == 0
    assert done.events[0]["event_id"] == undone.events[0]["details"]["undoes"]


def test_a_terminal_workflow_takes_nothing_but_the_undo() -> None:
    """Moves and migrations of what a migration closed are refused as of any other end."""
    done = accepted(CLOSED)
    for body in (move("w", "open", tenant="acme"), migrate(to_version=1, states={"gone": "shut"})):
        assert Code.TERMINAL_STATE == refused(Case(body, workflow=done.workflow, last=done.events[-1])).code


def test_what_was_touched_is_not_undone() -> None:
    """After any other change the last event is no migration, and the refusal shows which it is."""
    done = accepted(MOVED)
    touched = accepted(Case(command("update_metadata", "w", 8, tenant="acme", metadata={"a": 1}), done.workflow))
    said = refused(after(touched))
    assert (Code.INVALID_TRANSITION, "METADATA_UPDATED") == (
        said.code,
        (said.why or {})["values"]["last_event"]["event_type"],
    )


def test_an_undo_is_not_undone() -> None:
    """To migrate again is a migration again, with a reason of its own."""
    undone = accepted(after(accepted(MOVED)))
    assert Code.INVALID_TRANSITION == refused(after(undone)).code


def test_without_a_history_there_is_nothing_to_undo() -> None:
    """Where the last event is not known, nobody can say where to go back to."""
    assert Code.INVALID_TRANSITION == refused(Case(migrate(undo=True))).code
    assert Code.TERMINAL_STATE == refused(Case(migrate(undo=True), AJAR._replace(state="bricked"))).code


@pytest.mark.parametrize("room", [0, -1])
def test_an_undo_that_reopens_needs_room(room: int) -> None:
    """`max_open` holds for what an undo opens, and for nothing that stays open."""
    full = Facts(room={FIRST.name: room})
    assert Code.LIMIT_REACHED == refused(replace(after(accepted(CLOSED)), facts=full)).code
    assert 0 == accepted(replace(MOVED, facts=full)).open_delta
    assert 0 == accepted(replace(after(accepted(MOVED)), facts=full)).open_delta


# What makes each check fail, in SPEC's order; a pair of them at once must give the earlier.
FAILURES = {
    Code.NOT_FOUND: lambda case: case.with_body(tenant="other"),
    Code.UNKNOWN_DEFINITION: lambda case: case.with_body(to_version=9),
    Code.TERMINAL_STATE: lambda case: replace(case, workflow=case.workflow._replace(state="bricked")),
    Code.VERSION_CONFLICT: lambda case: case.with_body(expected_version=7),
    Code.INVALID_TRANSITION: lambda case: case.with_body(states={}),
}


@pytest.mark.parametrize("code", FAILURES)
def test_each_failure_is_its_code(code: Code) -> None:
    """Each check refuses by itself."""
    assert code == refused(FAILURES[code](MOVED)).code


@pytest.mark.parametrize(
    ("earlier", "later"), [pair for pair in combinations(FAILURES, 2) if Code.UNKNOWN_DEFINITION not in pair]
)
def test_of_two_failures_the_earlier_wins(earlier: Code, later: Code) -> None:
    """SPEC's order."""
    assert earlier == refused(FAILURES[later](FAILURES[earlier](MOVED))).code


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({}, "has no state ajar: name the one that takes its place"),
        ({"ajar": "nowhere"}, "version 2 has no state nowhere: correct the mapping"),
        ({"ajar": "wide", "nobody": "shut"}, "version 1 has no state nobody: correct the mapping"),
    ],
)
def test_a_mapping_that_does_not_fit_says_why(states: dict[str, str], message: str) -> None:
    """The state that is missing, or the name that is wrong, and what there is."""
    said = refused(MOVED.with_body(states=states))
    assert Code.INVALID_TRANSITION == said.code
    assert message in said.message
    assert said.why is not None


def test_the_version_it_is_on_is_no_migration() -> None:
    """Nothing would change, so nothing is written."""
    said = refused(MOVED.with_body(to_version=1, states={}))
    assert (Code.INVALID_TRANSITION, "w is on version 1 already") == (said.code, said.message)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"to_version": 2, "undo": True},
        {"undo": True, "states": {"a": "b"}},
        {"to_version": 0},
        {"to_version": 2, "reason": ""},
        {"to_version": 2, "reason": None},
    ],
)
def test_what_is_no_migration_is_no_command(fields: dict[str, Any]) -> None:
    """Exactly one of `to_version` and `undo`, no states with an undo, and always a reason."""
    with pytest.raises(ValueError, match="migrate_workflow"):
        COMMANDS.validate_python(migrate(**fields))


def _chain() -> list[tuple[Workflow, dict[str, Any], dict[str, Any] | None]]:
    """Return each migration of a chain with the workflow and the event before it."""
    closed = accepted(CLOSED)
    undone = accepted(after(closed))
    moved = accepted(replace(MOVED, workflow=undone.workflow))
    return [
        (AJAR, closed.events[0], None),
        (closed.workflow, undone.events[0], closed.events[0]),
        (undone.workflow, moved.events[0], undone.events[0]),
    ]


def _versions(before: Workflow, event: dict[str, Any]) -> tuple[Definition | None, Definition | None]:
    return VERSIONS.get(before.definition_version), VERSIONS.get(event["definition_version"])


def test_an_auditor_finds_nothing_wrong_with_what_was_decided() -> None:
    """Migrations, undos and migrations after an undo are sound, and fold to what was decided."""
    for before, event, last in _chain():
        assert fault_of(before, event, last, _versions(before, event)) is None
        assert event["version"] == evolve(before, event).version


@pytest.mark.parametrize(
    ("place", "forged"),
    [
        (0, {"from_state": "shut"}),
        (0, {"to_state": "nowhere"}),
        (0, {"to_state": "wide"}),
        (0, {"details": {"from_version": 2, "to_version": 2, "terminal": True}}),
        (0, {"definition": "shop.window"}),
        (1, {"to_state": "shut"}),
        (1, {"details": {"from_version": 2, "to_version": 1}}),
        (1, {"details": {"from_version": 2, "to_version": 1, "undoes": "another"}}),
        (2, {"details": {"from_version": 1, "to_version": 2, "undoes": "another"}}),
    ],
)
def test_an_auditor_finds_what_is_forged(place: int, forged: dict[str, Any]) -> None:
    """A state, a version or an undo that the workflow before does not allow."""
    before, event, last = _chain()[place]
    changed = event | forged
    assert fault_of(before, changed, last, _versions(before, changed)) is not None
