"""What a new version changes, in words; and that nothing which differs is passed over."""

from dataclasses import fields
from random import Random
from typing import Any

import pytest

from domain.changes import compare, touched
from domain.definition import Definition
from tests.domain.drawn import Shape, machine
from tests.fakes.machines import compiled

OLD: dict[str, Any] = {
    "name": "shop.order",
    "version": 1,
    "states": {
        "NEW": {"initial": True},
        "ACTIVE": {"category": "running"},
        "PAUSED": {},
        "DONE": {"terminal": True},
        "CANCELLED": {"terminal": True},
    },
    "transitions": [
        {"name": "start", "from": "NEW", "to": "ACTIVE"},
        {"name": "pause", "from": "ACTIVE", "to": "PAUSED"},
        {"name": "resume", "from": "PAUSED", "to": "ACTIVE", "guard": "command.context.ok"},
        {"name": "complete", "from": "ACTIVE", "to": "DONE", "guard": "a.x == 1 && a.y == 2"},
        {"name": "cancel", "from": ["NEW", "ACTIVE", "PAUSED"], "to": "CANCELLED"},
    ],
}
OPEN = {"NEW": 1, "ACTIVE": 10, "PAUSED": 100}


def ways(**changed: dict[str, Any] | None) -> dict[str, Any]:
    """Return the old document with transitions changed, left out (None) or added, by name."""
    kept = {each["name"]: each for each in OLD["transitions"]}
    made = {
        name: None if change is None else {"name": name} | kept.get(name, {}) | change
        for name, change in changed.items()
    }
    return OLD | {"transitions": [each for each in {**kept, **made}.values() if each is not None]}


def states(**changed: dict[str, Any] | None) -> dict[str, Any]:
    """Return the old document with states changed, left out or added, and without transitions of those left out."""
    made = {**OLD["states"], **changed}
    gone = {name for name, state in changed.items() if state is None}
    kept = []
    for each in OLD["transitions"]:
        sources = [each["from"]] if isinstance(each["from"], str) else each["from"]
        left = [source for source in sources if source not in gone]
        if left and each["to"] not in gone:
            kept.append(each | {"from": left})
    return OLD | {"states": {name: state for name, state in made.items() if state is not None}, "transitions": kept}


def more(base: dict[str, Any], *transitions: dict[str, Any]) -> dict[str, Any]:
    """Return a document with further transitions."""
    return base | {"transitions": [*base["transitions"], *transitions]}


REVIEWED = more(
    states(REVIEW={}),
    {"name": "review", "from": "ACTIVE", "to": "REVIEW"},
    {"name": "approve", "from": "REVIEW", "to": "DONE"},
)
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a way for some": (
        ways(cancel={"from": "NEW"}),
        ["takes away: Work in ACTIVE or PAUSED can no longer become CANCELLED (`cancel`). [110]"],
    ),
    "a way where another is left": (
        ways(complete=None, finish={"from": "ACTIVE", "to": "DONE"}),
        [
            "takes away: Work in ACTIVE can no longer become DONE by `complete`; `finish` leads there. [10]",
            "adds: Work in ACTIVE can now become DONE (`finish`). [10]",
        ],
    ),
    "a name": (
        ways(cancel=None, stop={"from": ["NEW", "ACTIVE", "PAUSED"], "to": "CANCELLED"}),
        ["changes: Work goes from NEW, ACTIVE or PAUSED to CANCELLED by `stop`, before by `cancel`. [111]"],
    ),
    "a state, occupied": (
        states(PAUSED=None),
        [
            "takes away: BREAKING The state PAUSED is gone: open work in it has no counterpart. [100]",
            "takes away: Work in ACTIVE can no longer become PAUSED (`pause`). [10]",
        ],
    ),
    "a state, new": (
        REVIEWED,
        ["adds: A new state REVIEW, reached from ACTIVE by `review`; left to DONE by `approve`. [10]"],
    ),
    "an end, new": (
        more(states(LOST={"terminal": True}), {"name": "lose", "from": ["NEW", "ACTIVE"], "to": "LOST"}),
        ["adds: A new state LOST, reached from NEW by `lose`, from ACTIVE by `lose`; an end. [11]"],
    ),
    "a way, new and guarded": (
        ways(skip={"from": ["NEW", "PAUSED"], "to": "DONE", "guard": "actor.name == 'ann'"}),
        ["adds: Work in NEW or PAUSED can now become DONE (`skip`), if actor.name == 'ann'. [101]"],
    ),
    "no way to an end": (
        ways(resume=None, cancel={"from": ["NEW", "ACTIVE"]}),
        [
            "takes away: Work in PAUSED can no longer become ACTIVE (`resume`). [100]",
            "takes away: Work in PAUSED can no longer become CANCELLED (`cancel`). [100]",
            "takes away: BREAKING Work in PAUSED can no longer come to an end. [100]",
        ],
    ),
    "a target": (
        ways(resume={"to": "NEW"}),
        ["changes: `resume` takes work from PAUSED to NEW, before to ACTIVE. [100]"],
    ),
    "a guard, new": (
        ways(cancel={"guard": "a.z"}),
        ["changes: `cancel` from NEW, ACTIVE or PAUSED to CANCELLED now needs: a.z. [111]"],
    ),
    "a guard, gone": (
        ways(resume={"guard": None}),
        ["changes: `resume` from PAUSED to ACTIVE no longer needs: command.context.ok. [100]"],
    ),
    "a guard, stricter": (
        ways(complete={"guard": "(a.x == 1 && a.y == 2) && a.z == 3"}),
        ["changes: `complete` from ACTIVE to DONE now also needs: a.z == 3. [10]"],
    ),
    "a guard, looser": (
        ways(complete={"guard": "a.y == 2"}),
        ["changes: `complete` from ACTIVE to DONE no longer needs: a.x == 1. [10]"],
    ),
    "a guard, in other words": (
        ways(complete={"guard": "a.y == 2 && (a.x == 1)"}),
        ["changes: `complete` from ACTIVE to DONE is guarded in other words: a.y == 2 && (a.x == 1). [10]"],
    ),
    "a guard, another": (
        ways(complete={"guard": "a.y == 3"}),
        ["changes: `complete` from ACTIVE to DONE now needs: a.y == 3; before: a.x == 1 && a.y == 2. [10]"],
    ),
    "an end, no longer": (
        states(DONE={}) | {"transitions": [*OLD["transitions"], {"name": "close", "from": "DONE", "to": "CANCELLED"}]},
        [
            "adds: Work in DONE can now become CANCELLED (`close`).",
            "changes: DONE is no longer an end: work in it stays open.",
        ],
    ),
    "where work starts": (
        states(NEW={}, ACTIVE={"category": "running", "initial": True}),
        ["changes: New work starts in ACTIVE, before in NEW."],
    ),
    "a category": (
        states(ACTIVE={"category": "busy"}),
        ["changes: State ACTIVE: category is now busy, before running. [10]"],
    ),
    "a limit": (
        OLD | {"limits": {"max_open": 5}},
        ["changes: At most 5 workflows may be open at once, before any number of workflows."],
    ),
    "what an unavailable guard means": (
        OLD | {"on_unavailable": "wait"},
        ["changes: A command whose guard cannot tell waits until it can now, before it is refused. [110]"],
    ),
    "metadata": (
        OLD | {"metadata_default": {"a": 1}},
        ['changes: New work without metadata begins with {"a":1}, before with {}.'],
    ),
    "a kind": (
        OLD | {"kind": "task"},
        ["changes: The definition's kind is now task, before workflow. [111]"],
    ),
    "names of events": (
        OLD | {"events": {"prefix": "store", "created": "MADE", "by_transition": {"cancel": "STOPPED"}}},
        [
            "changes: What stands before an event's type (prefix) is now store, before shop.",
            "changes: The event of a creation is now MADE, before CREATED.",
            "changes: The event of `cancel` is now STOPPED, before TRANSITION.",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_change_has_its_words(case: str) -> None:
    """Grouped by what it takes away, adds and changes, with the open work of the states it concerns."""
    document, expected = CASES[case]
    said = [
        f"{each.change.effect}: {'BREAKING ' if each.breaking else ''}{each.change.sentence}"
        f"{f' [{each.open}]' if each.open else ''}"
        for each in touched(compare(compiled(OLD), compiled(document | {"version": 2})), OPEN)
    ]
    assert expected == said


def test_what_breaks_nothing_that_is_open_is_no_breaking_change() -> None:
    """A state that is empty may go."""
    changes = touched(compare(compiled(OLD), compiled(states(PAUSED=None))), {"NEW": 1, "ACTIVE": 10})
    assert [0, 10] == [each.open for each in changes]
    assert not any(each.breaking for each in changes)


def test_nothing_changes_between_two_versions_that_say_the_same() -> None:
    """Whatever their numbers, the order of their clauses, or how lists of sources are cut."""
    apart = [each | {"from": source} for each in OLD["transitions"]
             for source in ([each["from"]] if isinstance(each["from"], str) else each["from"])]  # fmt: skip
    again = OLD | {"version": 9, "transitions": apart[::-1], "states": dict(reversed(OLD["states"].items()))}
    assert () == compare(compiled(OLD), compiled(again))


# What follows takes two compiled tables apart on its own.


def flat(definition: Definition) -> dict[tuple[str, ...], Any]:
    """Return every entry of the compiled table by its place, numbers and orders left out."""
    table: dict[tuple[str, ...], Any] = {
        ("initial",): definition.initial,
        ("kind",): definition.kind,
        ("max_open",): definition.max_open,
        ("on_unavailable",): definition.on_unavailable,
        ("metadata_default",): definition.metadata_default,
    }
    for name, state in definition.states.items():
        table["states", name] = True
        for field in ("initial", "terminal", "category", "description"):
            table["states", name, field] = getattr(state, field)
    for way in definition.transitions:
        table["transitions", way.source, way.name] = True
        table["transitions", way.source, way.name, "target"] = way.target
        table["transitions", way.source, way.name, "guard"] = way.guard
    for name, terms in definition.slas.items():
        table["slas", name] = True
        for each in fields(terms):
            table["slas", name, each.name] = getattr(terms, each.name)
    events = definition.event_types
    for field in ("prefix", "created", "transition", "metadata_updated"):
        table["event_types", field] = getattr(events, field)
    for name, event_type in events.by_transition.items():
        table["event_types", "by_transition", name] = event_type
    return table


def different(old: Definition, new: Definition) -> set[tuple[str, ...]]:
    """Return the places that differ; of what is on one side alone, its outermost."""
    one, other = flat(old), flat(new)
    found = {place for place in one | other if (place in one, one.get(place)) != (place in other, other.get(place))}
    return {place for place in found if place[:-1] not in found or len(place) == 1}


def test_every_difference_is_in_a_change() -> None:
    """Of a thousand pairs of machines, each place that differs is named by a change, and no other place is."""
    random, seen = Random(20261121), 0
    for _ in range(1000):
        first = machine(random, Shape(5, 6)) | decorations(random)
        second = first if random.random() < 0.05 else machine(random, Shape(5, 6)) | decorations(random)
        old, new = compiled(first), compiled(second)
        changes = compare(old, new)
        named = {place for change in changes for place in change.about}
        assert different(old, new) == named, (first, second)
        assert all(change.about or change.code == "CUT_OFF" for change in changes)
        assert all(change.touches <= set(old.states) for change in changes)
        assert all(change.sentence[-1] == "." and "{" not in change.sentence.replace("{}", "").replace('{"a":1}', "")
                   for change in changes)  # fmt: skip
        seen += not changes
    assert 30 < seen < 200


def decorations(random: Random) -> dict[str, Any]:
    """Draw the clauses beside states and transitions."""
    return {
        "kind": random.choice(["workflow", "workflow", "task"]),
        "limits": random.choice([{}, {"max_open": 1}]),
        "on_unavailable": random.choice(["reject", "wait"]),
        "metadata_default": random.choice([{}, {"a": 1}]),
        "events": random.choice([{}, {"created": "MADE"}, {"prefix": "x", "metadata_updated": "Y"}]),
        "slas": random.sample(
            [
                {"name": "reply", "target": random.choice(["1h", "2h"]), "ladder": [{"after": "1h", "alert": "lead"}]},
                {
                    "name": "end",
                    "calendar": random.choice(["office", "lab"]),
                    "by_priority": {"high": "1h"},
                    "target": "2h",
                    "types": random.choice([[], ["stat"]]),
                },
                {"name": "due"},
            ],
            random.randrange(4),
        ),
    }
