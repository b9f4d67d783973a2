"""A backtest under the same definition finds nothing, and under another one exactly what a run under that one gives."""

import re
from collections import Counter
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.predicates import Guard
from domain.backtest import Comparison, Difference, Ends, Found, in_order, looks_at_slas
from domain.definition import Definition
from domain.instants import written
from handlers.backtest import Candidate, Recorded, judge_again
from handlers.limits import Limits
from handlers.ports import Guards, JournalRow
from handlers.ticks import Clock
from service.definitions.files import read_definition, shipped
from service.predicates.cel import CelEngine
from tests.e2e.load import commands
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import NOBODY_KNOWS, CommandRecord, ScriptedGuards
from tests.fakes.store import START
from tests.fakes.turns import Turns
from tests.handlers.test_migrations import SECOND, migrate
from tests.handlers.test_properties import BATCHES, STATES, documents, records, run

FEW = settings(max_examples=settings.default.max_examples // 4 if settings.default else 25)
LIMITS = Limits()


def recorded_of(turns: Turns, taken: list[CommandRecord]) -> dict[str, list[Recorded]]:
    """Return what the journal and the topic keep of the commands to each workflow that there is."""
    found: dict[str, list[Recorded]] = {name: [] for _, name in turns.store.workflows}
    for row in turns.store.journal[0]:
        if row.reply is not None and row.workflow_id in found:
            event = None if row.event is None else orjson.loads(row.event)
            record = taken[row.record_offset]
            found[row.workflow_id].append(Recorded(record, orjson.loads(row.reply), event, row.digest, turns.store.now))
    return found


async def judged(
    recorded: dict[str, list[Recorded]], definition: Definition, guards: Guards, states: dict[str, str] | None = None
) -> Comparison:
    """Judge all of it again."""
    found = Comparison()
    for name, rows in recorded.items():
        await judge_again(name, rows, Candidate(definition, guards, LIMITS, states or {}), found)
    return found


def as_records(batches: list[list[bytes]]) -> list[CommandRecord]:
    """Return the records of batches with the offsets that their turns give them."""
    made = records([value for batch in batches for value in batch])
    for offset, record in enumerate(made):
        record.offset = offset
    return made


def adds_up(found: Comparison, commands: int) -> bool:
    """Say whether each command is in one of the totals."""
    parts = (found.same, found.differing, found.repeats, found.not_judged.total())
    return (commands, commands) == (found.commands, sum(parts))


@FEW
@given(documents(), BATCHES)
async def test_the_same_definition_gives_the_same(document: dict[str, Any], batches: list[list[bytes]]) -> None:
    """Whatever was sent to whatever machine: no difference in an outcome, nor in an end."""
    turns, definition = await run(document, batches)
    recorded = recorded_of(turns, as_records(batches))
    found = await judged(recorded, definition, ScriptedGuards())
    assert ({}, {}, 0) == (found.differences, found.ends, found.not_judged.total())
    assert adds_up(found, sum(map(len, recorded.values())))


def certain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a definition whose guards can always be asked."""
    ways = [
        each | {"guard": None if each["guard"] == NOBODY_KNOWS else each["guard"]} for each in document["transitions"]
    ]
    return document | {"transitions": ways}


def alone(batches: list[list[bytes]]) -> list[list[bytes]]:
    """Return the commands that name no other root: what they come to does not hang on other workflows."""
    return [kept for batch in batches if (kept := [value for value in batch if b"root_id" not in value])]


def outcome(row: JournalRow) -> tuple[str, str]:
    """Return what became of a command: in a word or a code, and where it led."""
    reply, event = orjson.loads(row.reply or b""), orjson.loads(row.event or b"{}")
    if reply["outcome"] != "accepted":
        return reply["rejection"]["code"], ""
    return "accepted", f"{event.get('transition', 'no transition')} to {event.get('to_state')}"


def differences(was: Turns, now: Turns, names: set[str]) -> Counter[tuple[str, str]]:
    """Count by hand which of the same commands came out otherwise in two stores."""
    found: Counter[tuple[str, str]] = Counter()
    for before, after in zip(was.store.journal[0], now.store.journal[0], strict=True):
        if before.workflow_id not in names or before.reply is None or b'"duplicate"' in before.reply:
            continue
        (said, way), (says, goes) = outcome(before), outcome(after)
        if (said, way) != (says, goes):
            found[(way, goes) if said == says else (said, says)] += 1
    return found


def ends(was: Turns, now: Turns, names: set[str]) -> Counter[Ends]:
    """Count by hand which workflows ended otherwise."""
    pairs = (Ends(was.workflow(name).state, now.workflow(name).state) for name in names)
    return Counter(pair for pair in pairs if pair.recorded != pair.candidate)


def check_against(found: Comparison, was: Turns, now: Turns, names: set[str]) -> int:
    """Hold a backtest against a run under the candidate; returns how much differs."""
    counted: Counter[tuple[str, str]] = Counter()
    for difference, each in found.differences.items():
        counted[difference.recorded, difference.candidate] += each.count
    assert differences(was, now, names) == counted
    assert ends(was, now, names) == {pair: each.count for pair, each in found.ends.items()}
    return counted.total()


@FEW
@given(documents(limits=False).map(certain), documents(limits=False).map(certain), BATCHES.map(alone))
async def test_another_definition_gives_what_a_run_under_it_gives(
    document: dict[str, Any], other: dict[str, Any], batches: list[list[bytes]]
) -> None:
    """Held against the very commands sent to a fresh store on which the candidate is the definition."""
    turns, _ = await run(document, batches)
    instead, definition = await run(other, batches)
    found = await judged(recorded_of(turns, as_records(batches)), definition, ScriptedGuards())
    check_against(found, turns, instead, {name for _, name in turns.store.workflows})


def renamed(document: dict[str, Any], states: dict[str, str]) -> dict[str, Any]:
    """Return a definition with other names of its states."""
    ways = [
        each | {"from": [states[name] for name in each["from"]], "to": states[each["to"]]}
        for each in document["transitions"]
    ]
    return document | {"states": {states[name]: each for name, each in document["states"].items()}, "transitions": ways}


def in_words(found: Comparison, states: dict[str, str]) -> tuple[Counter[Any], Counter[Any]]:
    """Return the differences and ends of a backtest with other names of the states."""

    def said(text: str) -> str:
        return re.sub(r"(?<=to )[a-h]$", lambda state: states[state[0]], text)

    ways = {Difference(*map(said, each)): one.count for each, one in found.differences.items()}
    ends_ = {Ends(*(end and states[end] for end in each)): one.count for each, one in found.ends.items()}
    return Counter(ways), Counter(ends_)


@FEW
@given(documents().map(certain), documents().map(certain), BATCHES, st.permutations(STATES))
async def test_other_names_of_states_make_no_difference(
    document: dict[str, Any], other: dict[str, Any], batches: list[list[bytes]], names: list[str]
) -> None:
    """A candidate with renamed states and their mapping comes out as the candidate itself, names exchanged or not."""
    turns, _ = await run(document, batches)
    recorded, states = recorded_of(turns, as_records(batches)), dict(zip(STATES, names, strict=True))
    found = await judged(recorded, compiled(other), ScriptedGuards())
    again = await judged(recorded, compiled(renamed(other, states)), ScriptedGuards(), states)
    assert in_words(found, states) == in_words(again, dict(zip(STATES, STATES, strict=True)))
    assert (found.same, found.repeats, found.believed, found.not_judged) == (
        again.same, again.repeats, again.believed, again.not_judged
    )  # fmt: skip
    assert (found.same_ends, found.ends_not_judged) == (again.same_ends, again.ends_not_judged)


async def test_commands_that_logical_time_decided_are_as_young_as_they_were() -> None:
    """A simulated month is played within minutes: none of its commands was forgotten, so none is in the backtest."""
    turns, definition = Turns(clock=Clock(logical=True)), compiled(door())
    turns.store.add(definition)
    taken = [sent(create("w", occurred_at=written(START)))]
    for day in range(1, 30):
        target = "open" if day % 2 else "shut"
        taken.append(sent(move("w", target, str(day), occurred_at=written(START + timedelta(days=day)))))
    await turns.take(*taken)
    found = await judged(recorded_of(turns, taken), definition, ScriptedGuards())
    assert ({}, {}, len(taken)) == (found.differences, found.ends, found.same)


async def busy(*texts: str) -> tuple[Turns, list[CommandRecord]]:
    """Take a busy system's commands under some definitions."""
    turns = Turns(guards=CelEngine())
    for text in texts:
        definition = read_definition(text).definition
        assert definition is not None
        turns.store.add(definition)
    stream = commands(seed=5, workflows=12)
    taken = [sent(next(stream)) for _ in range(700)]
    for start in range(0, len(taken), 50):
        await turns.take(*taken[start : start + 50])
    return turns, taken


@pytest.mark.parametrize(
    ("old", "new", "more_than"),
    [
        ("to: PAUSED", "to: PAUSED", 0),
        ("name: recover\n    from: FAILED", "name: recover\n    from: PAUSED", 20),
        ("name: pause\n    from: ACTIVE", "name: pause\n    from: CREATED", 50),
        ("command.context.hold == false", "true", 30),
        ("!has(command.context.hold)", "has(command.expected_version)", 50),
    ],
)
async def test_a_busy_system_judged_again(old: str, new: str, more_than: int) -> None:
    """Refusals, denials, repeats, reused ids and conflicts: nothing under the same guards, else what a run gives."""
    strict = shipped()["alims.workflow_strict"]
    text = shipped()["alims.workflow"]
    turns, taken = await busy(text, strict)
    instead, _ = await busy(text.replace(old, new), strict)
    candidate = read_definition(text.replace(old, new)).definition
    assert candidate is not None
    names = {name for _, name in turns.store.workflows if turns.workflow(name).definition == candidate.name}
    recorded = {name: rows for name, rows in recorded_of(turns, taken).items() if name in names}
    found = await judged(recorded, candidate, CelEngine())
    differing = check_against(found, turns, instead, names)
    assert adds_up(found, sum(map(len, recorded.values())))
    assert (True, True) == (found.repeats > 20, differing > more_than if more_than else differing == 0), differing


async def door_judged(
    definition: Definition, *bodies: dict[str, Any], gone: int = 0, states: dict[str, str] | None = None
) -> Comparison:
    """Send commands to a door in one turn and judge them again; the first `gone` records are no longer there."""
    turns = Turns()
    for document in (door(), SECOND | {"limits": {}}):
        turns.store.add(compiled(document))
    taken = [sent(body) for body in bodies]
    await turns.take(*taken)
    recorded = recorded_of(turns, taken)
    (rows,) = recorded.values()
    rows[:gone] = [row._replace(record=None) for row in rows[:gone]]
    return await judged(recorded, definition, ScriptedGuards(), states)


CREATED = create("w", definition_version=1)
PUSHED = [{"name": "push", "from": ["shut"], "to": "ajar"}, {"name": "open", "from": ["ajar"], "to": "open"}]
STRICT = compiled(
    door() | {"transitions": [each for each in door()["transitions"] if each["name"] not in {"open", "pull"}]}
)


async def test_an_expected_version_is_held_against_what_the_candidate_makes() -> None:
    """A command that expects the version of a change the candidate refuses is refused too, as a conflict."""
    found = await door_judged(
        STRICT, CREATED, move("w", "open"), move("w", "shut", expected_version=2), move("w", "push")
    )
    assert {
        Difference("open", "accepted", "INVALID_TRANSITION"): ["w"],
        Difference("shut", "accepted", "VERSION_CONFLICT"): ["w"],
    } == {difference: each.workflows for difference, each in found.differences.items()}
    assert ({}, 1) == (found.ends, found.same_ends)


async def test_what_the_candidate_lets_through_is_a_difference_too() -> None:
    """A refusal that becomes a change, by the way it would take, and another end."""
    open_door = compiled(door() | {"transitions": [{"name": "pull", "from": "shut", "to": "bricked"}]})
    found = await door_judged(open_door, CREATED, move("w", "pull"))
    assert [Difference("pull", "GUARD_DENIED", "accepted")] == list(found.differences)
    assert [Ends("shut", "bricked")] == list(found.ends)


@pytest.mark.parametrize("gone", [1, 2, 3])
async def test_what_the_topic_has_lost_is_followed_as_it_was(gone: int) -> None:
    """What is left is judged on the workflow as it was then; what is lost is counted, and makes no difference."""
    commands = (CREATED, move("w", "open"), move("w", "shut", expected_version=2), move("w", "push"))
    found = await door_judged(compiled(door()), *commands, gone=gone)
    assert ({}, {}, 4 - gone) == (found.differences, found.ends, found.judged)
    assert {"its record is gone": gone} == dict(found.not_judged)


async def test_a_repeat_of_what_is_lost_is_a_repeat() -> None:
    """The journal remembers the command, as the service does."""
    found = await door_judged(compiled(door()), CREATED, CREATED, gone=1)
    assert (1, 0) == (found.repeats, found.differing)


async def test_a_beginning_that_the_candidate_does_not_have_is_not_judged() -> None:
    """A workflow that cannot be followed is counted, command by command, and shows no end."""
    windows = compiled(SECOND | {"states": {"closed": {"initial": True}}, "transitions": [], "limits": {}})
    found = await door_judged(windows, CREATED, move("w", "open"), gone=1)
    assert {"its record is gone": 1, "its workflow's beginning is gone": 1} == dict(found.not_judged)
    assert (1, {}, 0) == (found.ends_not_judged, found.ends, found.judged)


async def test_a_migration_is_followed() -> None:
    """Its version counts for the commands after it, and its state where the candidate has it."""
    commands = (
        CREATED,
        move("w", "push"),
        migrate("w", states={"ajar": "wide"}),
        move("w", "close", expected_version=3),
    )
    found = await door_judged(compiled(door()), *commands)
    assert {"a migration": 1} == dict(found.not_judged)
    assert {Difference("close", "accepted", "INVALID_TRANSITION")} == set(found.differences)
    both = {**SECOND, "states": door()["states"] | SECOND["states"] | {"shut": {"initial": True}}, "limits": {}}
    ways = [*door()["transitions"], {"name": "close", "from": "wide", "to": "shut"}]
    found = await door_judged(compiled(both | {"transitions": ways}), *commands)
    assert ({}, {}, 3) == (found.differences, found.ends, found.judged)


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
async def test_a_renamed_state_is_followed_too(gone: int) -> None:
    """Whatever record is gone, the mapping says where the workflow stands in the candidate."""
    states = {name: "wide" if name == "ajar" else name for name in door()["states"]}
    candidate = compiled(renamed(door() | {"transitions": PUSHED}, states))
    commands = (CREATED, move("w", "push"), move("w", "open", expected_version=2))
    found = await door_judged(candidate, *commands, gone=gone, states={"ajar": "wide"})
    assert ({}, {}, 1, 3 - gone) == (found.differences, found.ends, found.same_ends, found.judged)


async def test_a_state_that_another_absorbs() -> None:
    """The way into it is gone, and what leaves it leaves the state that takes its place."""
    candidate = compiled(door() | {"transitions": [{"name": "open", "from": "shut", "to": "open"}]})
    commands = (CREATED, move("w", "push"), move("w", "open"))
    found = await door_judged(candidate, *commands, states={"ajar": "shut"})
    assert [Difference("push", "accepted", "INVALID_TRANSITION")] == list(found.differences)
    assert ({}, 1) == (found.ends, found.same_ends)


async def test_a_guard_that_cannot_be_asked_now_makes_no_difference() -> None:
    """A backtest says so rather than taking an engine that is away for a refusal."""
    silent = door()
    ways = [each | {"guard": NOBODY_KNOWS} for each in silent["transitions"]]
    found = await door_judged(compiled(silent | {"transitions": ways}), CREATED, move("w", "open"))
    assert ({}, {}) == (found.differences, found.ends)
    assert {"its guard cannot be asked now": 1} == dict(found.not_judged)


async def test_a_guard_that_may_look_at_slas_is_not_judged_where_there_are_some() -> None:
    """SLAs are not made again, so that what it would have seen is not known; others are judged beside it."""
    promising = door() | {"slas": [{"name": "opening", "target": "1h"}]}
    for guard, unjudged in (("size(slas) == 0", 1), ("command.context.strong", 0)):
        ways = [each | {"guard": guard} if each["name"] == "open" else each for each in promising["transitions"]]
        found = await door_judged(compiled(promising | {"transitions": ways}), CREATED, move("w", "open"))
        assert unjudged == found.not_judged.total()
    free = door()
    ways = [each | {"guard": "size(slas) == 0"} if each["name"] == "open" else each for each in free["transitions"]]
    assert {} == (await door_judged(compiled(free | {"transitions": ways}), CREATED, move("w", "open"))).not_judged


@pytest.mark.parametrize(
    ("engine", "expression", "looks"),
    [
        ("cel", "slas.all(each, each.status != 'breached')", True),
        ("cel", "workflow.slas == null", True),
        ("cel", "size(workflow) > 3", True),
        ("cel", "workflow.state == 'x' && 'a' in .command.context", True),
        ("cel", "workflow.state == 'slas' && command.context.slas", False),
        ("jsonlogic", '{"==":[{"var":"slas.0.status"},"met"]}', True),
        ("jsonlogic", '{"==":[{"var":"workflow"},1]}', True),
        ("jsonlogic", '{"==":[{"var":"workflow.state"},"x"]}', False),
        ("remote", "shop/pay", True),
    ],
)
def test_whether_a_guard_may_look_at_slas(engine: str, expression: str, *, looks: bool) -> None:
    """As far as its text tells, and of a remote one always."""
    assert looks is looks_at_slas(Guard.model_validate({"engine": engine, "expression": expression}))


async def test_a_recorded_unreachable_guard_stays_unreachable() -> None:
    """Nobody can know now what the guard would have said then."""
    found = await door_judged(compiled(door()), CREATED, move("w", "open"), move("w", "jam"), move("w", "phone"))
    assert ({}, {"PREDICATE_UNAVAILABLE": 1}) == (found.differences, dict(found.believed))


def test_what_is_as_frequent_is_in_the_order_of_its_names() -> None:
    """Whatever workflow was judged first: two runs show the same."""
    found = {Ends(*pair): Found(count) for pair, count in ((("b", "a"), 1), ((None, "a"), 1), (("c", "a"), 2))}
    assert [Ends("c", "a"), Ends(None, "a"), Ends("b", "a")] == [ends for ends, _ in in_order(found)]
