"""SPEC's eight properties over random definitions and random batches, and what batches and replays must not change."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from domain.definition import Definition
from domain.evolve import evolve, fold
from domain.model_check import explore
from domain.moments import NoSuchMoment, Then, as_of
from domain.workflow import Workflow, dump, parse
from handlers.ports import JournalRow, Ownership
from tests.fakes.machines import command, compiled
from tests.fakes.ports import NOBODY_KNOWS, CommandRecord, ScriptedGuards, header
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns, events, replies

NAME = "shop.any"
STATES = "abcdefgh"
NAMES = ("t1", "t2", "t3", "recover")
YES = "command.context.yes"
GUARDS = [None, None, "true", "false", "!(true)", YES, f"!({YES})", f"!{YES}", "command.context.sure", NOBODY_KNOWS]
WORKFLOWS = ("w1", "w2", "w3", "w4")


@st.composite
def documents(draw: st.DrawFn, *, limits: bool = True) -> dict[str, Any]:
    """Draw a definition: up to eight states, any of them terminal, ways among the others, some guarded, some shared."""
    states = STATES[: draw(st.sampled_from([3, 4, 5, 6, 8, 2, 1]))]
    initial = draw(st.sampled_from(states))
    terminal = draw(st.sets(st.sampled_from(states), max_size=2)) - draw(st.sampled_from([{initial}] * 4 + [set()]))
    free = {name: [state for state in states if state not in terminal] for name in NAMES}
    transitions = []
    for name in NAMES + tuple(draw(st.lists(st.sampled_from(NAMES), max_size=6))):
        sources = draw(st.sets(st.sampled_from(free[name]), min_size=1)) if free[name] else ()
        free[name] = [state for state in free[name] if state not in sources]
        clause = {"name": name, "from": sorted(sources), "to": draw(st.sampled_from(states))}
        if sources:
            transitions.append(clause | {"guard": draw(st.sampled_from(GUARDS))})
    max_open = draw(st.none() | st.integers(1, 3)) if limits else None
    return {
        "name": NAME,
        "version": 1,
        "states": {state: {"initial": state == initial, "terminal": state in terminal} for state in states},
        "transitions": transitions,
        "limits": {} if max_open is None else {"max_open": max_open},
    }


def body(seed: int) -> bytes:
    """Return a command of any kind, of one of a few workflows, under one of not too many ids.

    A number says all of it: a draw for each choice would cost more than what is tested.
    """
    choose = Random(seed).choice
    ways = [{"target_state": state} for state in STATES] + [{"transition": name} for name in NAMES] * 4
    kinds: list[tuple[str, dict[str, Any]]] = [
        *[("request_transition", choose(ways))] * 7,
        ("create_workflow", {"definition": NAME}),
        ("recover_workflow", {}),
        ("update_metadata", {"metadata": {choose("xy"): choose([None, 0.5, 7])}}),
    ]
    command_type, fields = choose(kinds)
    optional = {
        "expected_version": choose([*[None] * 9, 1, 2, 3]),
        "tenant": choose([*[None] * 9, "other"]),
        "root_id": choose([*[None] * 9, "w1"]),
    }
    stated = {name: value for name, value in optional.items() if value is not None}
    context = {"yes": choose([True, False]), "sure": choose([True, False])}
    workflow_id = choose(["w1", "w1", "w1", *WORKFLOWS])
    return orjson.dumps(command(command_type, workflow_id, choose(range(100)), context=context, **fields, **stated))


BODIES = st.integers(0, 2**20).map(body)
VALUES = BODIES | BODIES | BODIES | st.sampled_from([b"{", b"", b'{"command_id":1}'])
# Most workflows are there from the start: what is refused for want of one shows little.
CREATIONS = st.sampled_from([WORKFLOWS[:3], WORKFLOWS, WORKFLOWS[:1]]).map(
    lambda ids: [
        orjson.dumps(command("create_workflow", each, f"create {each}", definition=NAME, context={})) for each in ids
    ]
)


def sequences(max_size: int) -> st.SearchStrategy[list[bytes]]:
    """Draw records: some creations, then anything."""
    return st.tuples(CREATIONS, st.lists(VALUES, min_size=max_size // 2, max_size=max_size)).map(
        lambda drawn: [*drawn[0], *drawn[1]]
    )


BATCHES = st.tuples(sequences(12), st.lists(st.lists(VALUES, min_size=1, max_size=12), max_size=2)).map(
    lambda drawn: [drawn[0], *drawn[1]]
)


def records(values: list[bytes]) -> list[CommandRecord]:
    """Return fresh records."""
    return [CommandRecord(value) for value in values]


async def run(document: dict[str, Any], batches: list[list[bytes]]) -> tuple[Turns, Definition]:
    """Take every batch as a turn, over a store that checks what a database would."""
    definition = compiled(document)
    turns = Turns()
    turns.store.add(definition)
    for batch in batches:
        await turns.take(*records(batch))
        count = turns.store.counts.get(NAME)
        if count is not None and count.max_open is not None:
            assert count.open <= count.max_open, "BoundedWorkflows"
            opened = [parse(body) for body in turns.store.workflows.values()]
            assert count.open == sum(workflow.completed_at is None for workflow in opened)
    return turns, definition


def by_workflow(journal: list[JournalRow]) -> dict[str, list[dict[str, Any]]]:
    """Return each workflow's events in the journal's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events(journal):
        found.setdefault(event["workflow_id"], []).append(event)
    return found


def check_history(history: list[dict[str, Any]], stored: Workflow, definition: Definition) -> None:
    """Hold one workflow's history against its definition and its row."""
    assert dump(stored) == dump(fold(history) or stored), "StateConsistency"
    assert stored.state in definition.states, "StateConsistency"
    assert [*range(1, len(history) + 1)] == [event["version"] for event in history], "VersionMonotonicity"
    assert [*range(1, len(history) + 1)] == [event["sequence"] for event in history], "EventOrdering"
    first, *others = history
    assert definition.initial == first["to_state"], "TransitionValidity"
    workflow = evolve(None, first)
    for event in others:
        before, workflow = workflow, evolve(workflow, event)
        if "to_state" not in event:
            assert before.state == workflow.state
            continue
        assert before.state not in definition.terminal, "TerminalStateImmutability"
        taken = definition.by_name.get((before.state, event["transition"]))
        assert taken is not None, "TransitionValidity"
        assert (before.state, taken.target) == (event["from_state"], event["to_state"]), "TransitionValidity"


def check_commands(turns: Turns, definition: Definition, batches: list[list[bytes]]) -> None:
    """Hold each change against its command alone: the version it expects, the way it asks for, the guard's allow."""
    sent_at = dict(enumerate(value for batch in batches for value in batch))
    for row in turns.store.journal[0]:
        event = orjson.loads(row.event or b"{}")
        if row.kind != "event":
            continue
        asked = orjson.loads(sent_at[row.record_offset])
        assert event["version"] == asked.get("expected_version", event["version"] - 1) + 1, "ConcurrentSafety"
        if "transition" not in event:
            continue
        for field, name in (("to_state", "target_state"), ("transition", "transition")):
            assert event[field] == asked.get(name, event[field]), "TransitionValidity"
        guard = definition.by_name[event["from_state"], event["transition"]].guard
        context = asked["context"]
        yes = context["yes"]
        opens = {
            "true": True,
            YES: yes,
            f"!({YES})": not yes,
            f"!{YES}": not yes,
            "command.context.sure": context["sure"],
        }
        assert guard is None or opens.get(guard.expression, False), "PredicateLogicIntegration"


@given(documents(), BATCHES)
async def test_the_eight_properties_hold(document: dict[str, Any], batches: list[list[bytes]]) -> None:
    """Whatever is sent to whatever machine."""
    turns, definition = await run(document, batches)
    journal = turns.store.journal[0]
    histories = by_workflow(journal)
    stored = {workflow_id: parse(body) for (_, workflow_id), body in turns.store.workflows.items()}
    assert histories.keys() == stored.keys(), "StateConsistency"
    assert dict.fromkeys(stored, 1) == Counter(
        event["workflow_id"] for event in events(journal) if event["sequence"] == 1
    ), "WorkflowUniqueness"
    for workflow_id, history in histories.items():
        check_history(history, stored[workflow_id], definition)
    accepted = Counter(
        (reply["workflow_id"], reply["version"])
        for reply in replies(journal)
        if reply["outcome"] == "accepted" and "duplicate" not in reply
    )
    assert all(count == 1 for count in accepted.values()), "ConcurrentSafety"
    check_commands(turns, definition, batches)
    reached = explore(definition).reached
    assert {event["to_state"] for event in events(journal) if "to_state" in event} <= reached.keys()
    assert {workflow.state for workflow in stored.values()} <= reached.keys()


@given(documents(), sequences(20))
async def test_as_of_a_version_is_the_row_of_that_version(document: dict[str, Any], values: list[bytes]) -> None:
    """Every row there ever was is what its workflow's whole history gives for its version."""
    turns = Turns()
    turns.store.add(compiled(document))
    rows: dict[tuple[str, int], bytes] = {}
    for value in values:
        await turns.take(CommandRecord(value))
        for (_, workflow_id), body in turns.store.workflows.items():
            rows.setdefault((workflow_id, parse(body).version), body)
    histories = by_workflow(turns.store.journal[0])
    assert {(workflow_id, event["version"]) for workflow_id, history in histories.items() for event in history} == set(
        rows
    )
    for (workflow_id, version), body in rows.items():
        then = as_of(histories[workflow_id], version)
        assert isinstance(then, Then)
        assert body == dump(then.workflow)
        assert isinstance(as_of(histories[workflow_id], len(histories[workflow_id]) + 1), NoSuchMoment)


@given(documents(), BATCHES)
async def test_every_record_has_one_outcome(document: dict[str, Any], batches: list[list[bytes]]) -> None:
    """One row each, in order, gapless; an id that binds does so once; a first outcome is repeated as it was."""
    turns, _ = await run(document, batches)
    journal = turns.store.journal[0]
    assert [*range(sum(map(len, batches)))] == [row.record_offset for row in journal]
    bound = Counter((row.key, row.command_id) for row in journal if row.command_id is not None)
    assert all(count == 1 for count in bound.values())
    first = {(row.key, row.command_id): orjson.loads(row.reply or b"") for row in journal if row.command_id is not None}
    for reply in replies(journal):
        if "duplicate" in reply:
            assert first[reply["root_id"], reply["command_id"]] | {"duplicate": True} == reply


@given(documents(), BATCHES, st.data())
async def test_a_batch_taken_twice_changes_nothing(
    document: dict[str, Any], batches: list[list[bytes]], data: st.DataObject
) -> None:
    """Any batch, read again at any time later: each command that is bound is a duplicate, and no workflow changes.

    What did not bind its id (unavailable guards, ambiguous targets) is decided anew, and is left out here.
    """
    turns = Turns()
    turns.store.add(compiled(document))
    for number, batch in enumerate(batches):
        await turns.take(*records(batch))
        again = data.draw(st.sampled_from(batches[: number + 1]))
        replayed = [value for value in again if _bound(value, turns)]
        before = dict(turns.store.workflows)
        rows = await turns.take(*records(replayed)) if replayed else []
        assert [] == [row for row in rows if row.command_id is not None]
        assert [] == events(rows)
        assert len(replayed) == len(replies(rows))
        assert before == turns.store.workflows


def _bound(value: bytes, turns: Turns) -> bool:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    root_id = body.get("root_id", body.get("workflow_id"))
    return (0, root_id, body.get("command_id")) in turns.store.remembered


@given(documents(limits=False), sequences(20), st.data())
async def test_where_a_batch_ends_does_not_matter(
    document: dict[str, Any], values: list[bytes], data: st.DataObject
) -> None:
    """Without a limit the same records come to the same rows, one by one, all at once, or cut anywhere."""
    at_once, _ = await run(document, [values])
    one_by_one, _ = await run(document, [[value] for value in values])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(values)))) | {0, len(values)})
    pieces = [values[start:end] for start, end in pairwise(cuts)]
    anywhere, _ = await run(document, pieces)
    for other in (one_by_one, anywhere):
        assert at_once.store.journal == other.store.journal
        assert at_once.store.workflows == other.store.workflows


@given(documents(), BATCHES, st.data())
async def test_a_lost_answer_changes_nothing(
    document: dict[str, Any], batches: list[list[bytes]], data: st.DataObject
) -> None:
    """After an unknown outcome the partition is claimed again and read on from where the store is: all as without."""
    calm, _ = await run(document, batches)
    turns = Turns()
    turns.store.add(compiled(document))
    for batch in batches:
        kept = (turns.owned.get(0), dict(turns.store.workflows))
        await turns.take(*records(batch))
        if data.draw(st.booleans()):
            lost = turns.owned[0]
            turns.owned[0] = await turns.store.claim(0, 1)
            assert replace(lost, epoch=lost.epoch + 1) == turns.owned[0]
            assert kept[0] is None or kept[0].turn < turns.owned[0].turn
    assert calm.store.journal == turns.store.journal
    assert calm.store.workflows == turns.store.workflows


@given(documents(), sequences(16))
async def test_partitions_share_one_truth(document: dict[str, Any], values: list[bytes]) -> None:
    """A record sent to every partition, forwards followed, is decided by one; ids and limit hold store-wide."""
    parts = 3
    turns = Turns(MemoryStore(parts), ScriptedGuards())
    turns.store.add(compiled(document))
    for value in values:
        waiting = [(part, CommandRecord(value)) for part in range(parts)]
        while waiting:
            part, record = waiting.pop(0)
            (row,) = await turns.take(record, part=part)
            if row.kind == "forward":
                forwarded = orjson.loads(row.event or b"")
                assert part != forwarded["part"]
                waiting.append((forwarded["part"], _as_forwarded(record, forwarded)))
            assert b"TOO_MANY_HOPS" not in (row.event or b"")
    created = [event["workflow_id"] for journal in turns.store.journal.values() for event in events(journal)
               if event["sequence"] == 1]  # fmt: skip
    assert len(created) == len(set(created)), "WorkflowUniqueness"
    bound = Counter(
        (row.key, row.command_id) for rows in turns.store.journal.values() for row in rows if row.command_id
    )
    assert all(count == 1 for count in bound.values())
    count = turns.store.counts.get(NAME)
    assert count is None or count.max_open is None or count.open <= count.max_open, "BoundedWorkflows"
    assert all(isinstance(owned, Ownership) for owned in turns.owned.values())


def _as_forwarded(record: CommandRecord, forwarded: dict[str, Any]) -> CommandRecord:
    copy = CommandRecord(record.value, key=forwarded["key"].encode())
    hops = next((int(value or b"0") for name, value in record.headers if name == "turnstile_hops"), 0)
    return header(copy, turnstile_hops=str(hops + 1))
