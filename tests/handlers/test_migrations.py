"""Migrations in turns: what they load, what they count, and SPEC's properties over random pairs of versions."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.definition import Definition
from domain.evolve import fold
from domain.workflow import Workflow, dump, parse
from tests.fakes.machines import DOOR, command, compiled, create, door, move, sent
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns, outcome, replies
from tests.handlers.test_properties import BODIES, NAME, STATES, WORKFLOWS, by_workflow, documents, records

SECOND = {
    "name": DOOR,
    "version": 2,
    "states": {"shut": {"initial": True}, "wide": {}, "open": {}, "gone": {"terminal": True}},
    "transitions": [
        {"name": "close", "from": ["wide", "open"], "to": "shut"},
        {"name": "open", "from": "shut", "to": "open"},
    ],
    "limits": {"max_open": 1},
}


def migrate(workflow_id: str, command_id: object = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a migration's body, to version 2 unless another or an undo is asked for."""
    way = {} if "undo" in fields else {"to_version": 2}
    named = command_id or f"migrate {workflow_id} {fields}"
    return command("migrate_workflow", workflow_id, named, **({"reason": "because"} | way | fields))


@pytest.fixture
def turns() -> Turns:
    """Give one partition with two versions of a door, of which one may be open, and one that was made on the first."""
    given_turns = Turns(MemoryStore())
    for document in (door(max_open=1), SECOND):
        given_turns.store.add(compiled(document))
    return given_turns


async def test_a_migrated_workflow_goes_on_by_its_new_version(turns: Turns) -> None:
    """The moves of the version before are gone and those of the new one are there, in the same turn and the next."""
    rows = await turns.take(
        sent(create("w", definition_version=1)),
        sent(move("w", "push")),
        sent(migrate("w", states={"ajar": "wide"}, expected_version=2)),
        sent(move("w", "open", "no more")),
        sent(move("w", "close")),
    )
    assert ["accepted", "accepted", "accepted", "INVALID_TRANSITION", "accepted"] == [
        outcome(reply) for reply in replies(rows)
    ]
    assert "shop.MIGRATED" == rows[2].type
    assert ["accepted"] == await turns.outcomes(sent(move("w", "open")))
    assert ("open", 2, 5) == tuple(getattr(turns.workflow("w"), name) for name in ("state", "definition_version",
                                                                                   "version"))  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
async def test_an_undo_knows_the_last_event_of_turn_and_store(turns: Turns, *, together: bool) -> None:
    """Whether the migration lies in the same turn or in the store; a second undo finds nothing."""
    await turns.take(sent(create("w", definition_version=1)), sent(move("w", "push")))
    before = turns.workflow("w")
    commands = [sent(migrate("w", states={"ajar": "gone"})), sent(migrate("w", undo=True))]
    found = await turns.outcomes(*commands) if together else [(await turns.outcomes(each))[0] for each in commands]
    assert ["accepted", "accepted"] == found
    after = turns.workflow("w")
    assert before._replace(version=4, sequence=4, updated_at=after.updated_at) == after
    assert ["INVALID_TRANSITION"] == await turns.outcomes(sent(migrate("w", "again", undo=True)))


async def test_what_a_mapping_closes_makes_room_and_its_undo_needs_it(turns: Turns) -> None:
    """The counter goes down with the mapping; while another has the place, the undo is refused as a creation is."""
    await turns.take(sent(create("w", definition_version=1)))
    assert ["accepted"] == await turns.outcomes(sent(migrate("w", states={"shut": "gone"})))
    assert 0 == turns.store.counts[DOOR].open
    assert ["accepted", "LIMIT_REACHED"] == await turns.outcomes(sent(create("v")), sent(migrate("w", undo=True)))
    await turns.take(sent(migrate("v", to_version=1)), sent(move("v", "brick")))
    assert ["accepted"] == await turns.outcomes(sent(migrate("w", "undo again", undo=True)))
    assert (1, None) == (turns.store.counts[DOOR].open, turns.workflow("w").completed_at)


async def test_a_repeat_is_answered_and_changes_nothing(turns: Turns) -> None:
    """A migration is a command like any other: once, however often it comes."""
    once = sent(migrate("w", states={"shut": "wide"}))
    await turns.take(sent(create("w", definition_version=1)))
    assert ["accepted", "accepted again"] == await turns.outcomes(once, sent(orjson.loads(once.value or b"")))
    assert 2 == turns.workflow("w").version


HALF = settings(max_examples=settings.default.max_examples // 2 if settings.default else 50)
Case = tuple[list[dict[str, Any]], list[list[bytes]]]


@st.composite
def cases(draw: st.DrawFn, *, limits: bool = True) -> Case:
    """Draw two versions of a definition, and batches of commands to workflows that are there."""
    first, second = draw(documents(limits=limits)), draw(documents(limits=limits))
    versions = [first, second | {"version": 2, "limits": first["limits"]}]
    moved = migrations(versions).map(orjson.dumps)
    values = st.one_of(BODIES, moved, moved)
    made = [orjson.dumps(create(name, definition=NAME, definition_version=1)) for name in WORKFLOWS]
    return versions, [made, *draw(st.lists(st.lists(values, min_size=4, max_size=10), min_size=1, max_size=3))]


@st.composite
def migrations(draw: st.DrawFn, versions: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw a migration to the one version or the other, most of them with a mapping that fits, or an undo."""
    to_version = draw(st.integers(1, 2))
    came, there = versions[2 - to_version]["states"], versions[to_version - 1]["states"]
    states = {state: draw(st.sampled_from(sorted(there))) for state in came if state not in there}
    ends = [state for state, clause in there.items() if clause["terminal"]]
    more = draw(st.dictionaries(st.sampled_from(sorted(came)), st.sampled_from(ends or STATES), max_size=2))
    to = {"to_version": to_version, "states": states | (more if draw(st.booleans()) else {})}
    version = draw(st.sampled_from([*[None] * 9, 1, 2]))
    expected = {} if version is None else {"expected_version": version}
    way = {"undo": True} if draw(st.booleans()) else to
    return migrate(draw(st.sampled_from(WORKFLOWS[:2])), draw(st.integers(100, 400)), **way, **expected)


async def run(versions: list[dict[str, Any]], batches: list[list[bytes]]) -> Turns:
    """Take every batch as a turn, and look at the limit after each."""
    turns = Turns()
    for document in versions:
        turns.store.add(compiled(document))
    for batch in batches:
        await turns.take(*records(batch))
        if (count := turns.store.counts.get(NAME)) is not None:
            opened = [parse(body).completed_at is None for body in turns.store.workflows.values()]
            assert (sum(opened), True) == (count.open, count.max_open is None or count.open <= count.max_open)
    return turns


def check_history(history: list[dict[str, Any]], stored: Workflow, known: dict[int, Definition]) -> None:
    """Hold one workflow's history against its definitions and its row."""
    assert dump(stored) == dump(fold(history) or stored), "StateConsistency"
    assert stored.state in known[stored.definition_version].states, "StateConsistency"
    assert (stored.state in known[stored.definition_version].terminal) == (stored.completed_at is not None)
    assert [*range(1, len(history) + 1)] == [event["version"] for event in history], "VersionMonotonicity"
    check_chain(history, known)


def check_chain(history: list[dict[str, Any]], versions: dict[int, Definition]) -> None:
    """Follow one workflow from event to event by its definitions alone."""
    first, *others = history
    version, state, back = first["definition_version"], first["to_state"], None
    for event in others:
        came, version_before = event.get("from_state", state), version
        assert came == state
        ends = state in versions[version].terminal
        version, state = event["definition_version"], event.get("to_state", state)
        assert state in versions[version].states, "StateConsistency"
        if event["category"] != "definition":
            assert version_before == version
            assert not ends or came == state, "TerminalStateImmutability"
            assert came == state or any(way.target == state for way in versions[version].outgoing.get(came, ())), (
                "TransitionValidity"
            )
            back = None
        elif "undoes" in event["details"]:
            assert back == (version, state), "an undo goes back, and only from a migration"
            back = None
        else:
            assert not ends, "TerminalStateImmutability"
            assert version_before != version
            back = (version_before, came)


def test_the_properties_hold_across_versions() -> None:
    """Whatever is migrated and undone between whatever machines: rows are folds, ends are ends, limits hold."""
    reached: set[tuple[bool, bool]] = set()

    @HALF
    @given(cases())
    def look(case: Case) -> None:
        versions, batches = case
        turns = runner.run(run(versions, batches))
        known = {document["version"]: compiled(document) for document in versions}
        for workflow_id, history in by_workflow(turns.store.journal[0]).items():
            check_history(history, parse(turns.store.workflows[0, workflow_id]), known)
            migrated = (event["details"] for event in history if event["category"] == "definition")
            reached.update(("undoes" in details, "terminal" in details) for details in migrated)

    with asyncio.Runner() as runner:
        look()
    assert {(False, False), (False, True), (True, False)} == reached, "a check of nothing proves nothing"


@HALF
@given(cases(limits=False))
async def test_where_a_batch_ends_does_not_matter(case: Case) -> None:
    """The last event is the same whether the turn has it or the store: one by one or all at once."""
    versions, batches = case
    values = [value for batch in batches for value in batch]
    at_once, one_by_one = await run(versions, [values]), await run(versions, [[value] for value in values])
    assert at_once.store.journal == one_by_one.store.journal
    assert at_once.store.workflows == one_by_one.store.workflows
