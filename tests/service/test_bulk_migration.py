"""A bulk migration over a store in memory: foreseen, carried out, met by changes and silence, and taken back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from contracts.rejections import Code
from domain.definition import Definition
from domain.sla_config import NOTHING
from domain.workflow import Workflow, parse
from service.event_logs.commands import Outgoing
from service.event_logs.drive import Pace
from service.migration.bulk import TRIES_MAX, Foreseen, Totals, carry_out, foresee
from service.migration.run import Promising, Run
from service.store.migrating import Standing
from tests.fakes.machines import DOOR, command, compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.turns import Turns, events
from tests.handlers.test_migrations import SECOND

SLA = {"name": "opening", "target": "1h", "stops": ["open"]}
VERSIONS = {1: compiled(door(max_open=20)), 2: compiled(SECOND | {"limits": {"max_open": 20}})}
NUMBER = 12
PACE = Pace(silence_s_max=0.05)


def bulk(**fields: Any) -> Run:  # noqa: ANN401 - of a run
    """Return a run from version 1 to 2."""
    asked = {"states": {"ajar": "wide"}, "reason": "because", "by": "ann"} | fields
    return Run(VERSIONS, 1, 2, **asked)


@dataclass
class Shop:
    """A running service in memory: its store, what is read of it, and the wire to it.

    `meddle` hears of each command before it is decided; `silent` workflows get no reply.
    """

    turns: Turns = field(default_factory=Turns)
    undone: Run | None = None
    meddle: Callable[[str], Sequence[dict[str, Any]]] = lambda _: ()
    silent: set[str] = field(default_factory=set)
    waiting: list[bytes] = field(default_factory=list)
    waiting_for: str = "a worker"

    async def open(self, versions: Mapping[int, Definition] = VERSIONS) -> None:
        """Create doors on version 1: of each four, one shut, one ajar, one open, one bricked up."""
        for definition in versions.values():
            self.turns.store.add(definition)
        for number in range(NUMBER):
            name = f"w{number:02}"
            ways = ((), ("push",), ("open",), ("brick",))[number % 4]
            bodies = [create(name, definition_version=1), *(move(name, way) for way in ways)]
            await self.turns.take(*map(sent, bodies))

    async def send(self, commands: Sequence[Outgoing], /) -> None:
        """Decide commands one by one."""
        for each in commands:
            for body in self.meddle(each.workflow_id):
                await self.turns.take(sent(body))
            record = CommandRecord(each.value, key=each.key, headers=list(each.headers))
            found = [row.reply for row in await self.turns.take(record) if row.reply is not None]
            if each.workflow_id not in self.silent:
                self.waiting.extend(found)

    async def replies(self, wait_s: float, /) -> Sequence[bytes]:
        """Return what was answered, after a moment."""
        await asyncio.sleep(min(wait_s, 0.001))
        found, self.waiting = self.waiting, []
        return found

    async def pages(self, limit: int) -> AsyncIterator[list[Standing]]:
        """Yield the open workflows on version 1, or those that the run to be undone has moved."""
        standing = [each for name in sorted(self.workflows) if (each := self._standing(name)) is not None]
        for start in range(0, len(standing), limit):
            yield standing[start : start + limit]

    async def these(self, workflow_ids: Sequence[str]) -> list[Standing]:
        """Return some as they stand."""
        return [Standing(self.workflows[name]) for name in workflow_ids]

    async def room(self) -> int | None:
        """Return how many more may be open."""
        count = self.turns.store.counts[DOOR]
        return (count.max_open or 0) - count.open

    @property
    def workflows(self) -> dict[str, Workflow]:
        """Return all that are stored."""
        return {name: parse(body) for (_, name), body in self.turns.store.workflows.items()}

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return a workflow's events."""
        return [event for event in events(self.turns.store.journal[0]) if event["workflow_id"] == name]

    def _standing(self, name: str) -> Standing | None:
        workflow = self.workflows[name]
        if self.undone is None:
            is_left = workflow.definition_version == 1 and workflow.completed_at is None
            return Standing(workflow) if is_left else None
        history = self.history(name)
        own = [event for event in history if event["correlation_id"] == self.undone.correlation_id]
        last = next(event for event in history if event["version"] == workflow.version)
        return Standing(workflow, last, own[-1]) if own and "undoes" not in own[-1]["details"] else None


@pytest.fixture
async def shop() -> Shop:
    """Give a shop with twelve doors, nine of them open work."""
    opened = Shop()
    await opened.open()
    return opened


async def carried_out(run: Run, shop: Shop, *, batch: int = 4) -> Totals:
    """Carry a run out, and see that its totals add up."""
    shop.undone = run if run.undo else None
    totals = await carry_out(run, shop, shop, batch=batch, pace=PACE)
    assert totals.workflows == totals.accepted + totals.refused.total() + totals.overtaken + totals.unanswered
    return totals


async def foreseen(run: Run, shop: Shop) -> Foreseen:
    """Foresee a run."""
    shop.undone = run if run.undo else None
    return await foresee(run, shop, Promising(NOTHING, {}, shop.turns.store.now))


@pytest.mark.parametrize(
    ("slas", "states", "timers"),
    [
        ([SLA], {}, {"kept": 6}),
        ([SLA | {"target": "2h"}], {}, {"moved": 6}),
        ([SLA], {"shut": "open"}, {"gone": 3, "kept": 3}),
        ([], {}, {"gone": 6}),
        ([SLA, SLA | {"name": "other", "starts": ["wide"]}], {}, {"kept": 6, "set": 3}),
    ],
)
async def test_what_becomes_of_timers_is_foreseen(
    slas: list[dict[str, Any]], states: dict[str, str], timers: dict[str, int]
) -> None:
    """Those that time waits for are kept, moved, set or gone, as carrying it out then has them; so does its undo."""
    first = compiled(door(max_open=20) | {"slas": [SLA]})
    versions = {1: first, 2: compiled(SECOND | {"limits": {"max_open": 20}, "slas": slas})}
    shop = Shop()
    await shop.open(versions)
    run = replace(bulk(states={"ajar": "wide"} | states), versions=versions)
    for each in (run, replace(run, undo=True, reason="a mistake")):
        before = dict(shop.turns.store.timers)
        plan = await foreseen(each, shop)
        if not each.undo:
            assert timers == dict(plan.timers)
        assert plan.moves.total() == (await carried_out(each, shop)).accepted == 9
        after = shop.turns.store.timers
        assert plan.timers.total() == len(before.keys() | after.keys())
        assert (plan.timers["set"], plan.timers["gone"]) == (len(after.keys() - before), len(before.keys() - after))
    assert len(after) == 6


def paint(name: str, number: object) -> dict[str, Any]:
    """Return a change that touches a workflow."""
    return command("update_metadata", name, f"paint {name} {number}", metadata={"colour": str(number)})


async def test_all_are_moved_and_taken_back(shop: Shop) -> None:
    """As foreseen, in one event each that names the run; the rows are as before but for version and sequence."""
    before = shop.workflows
    run, back = bulk(), bulk(undo=True, reason="a mistake")
    plan = await foreseen(run, shop)
    assert {("shut", "shut"): 3, ("ajar", "wide"): 3, ("open", "open"): 3} == dict(plan.moves)
    assert before == shop.workflows
    totals = await carried_out(run, shop)
    assert (9, 9, {}) == (totals.workflows, totals.accepted, dict(totals.refused))
    assert (await foreseen(back, shop)).moves.total() == 9
    assert 9 == (await carried_out(back, shop)).accepted
    for name, workflow in shop.workflows.items():
        steps = 2 if before[name].completed_at is None else 0
        kept = before[name]._replace(version=before[name].version + steps, sequence=before[name].sequence + steps,
                                     updated_at=workflow.updated_at)  # fmt: skip
        assert kept == workflow


async def test_what_would_be_refused_is_refused(shop: Shop) -> None:
    """Without a mapping the doors that are ajar cannot go, and stay as they are."""
    run = bulk(states={})
    plan, totals = await foreseen(run, shop), await carried_out(run, shop)
    expected = {("ajar", Code.INVALID_TRANSITION): 3}
    assert (expected, {Code.INVALID_TRANSITION: 3}) == (dict(plan.refused), dict(totals.refused))
    assert (plan.moves.total(), plan.workflows) == (totals.accepted, totals.workflows)


async def test_what_changes_meanwhile_is_read_and_sent_again(shop: Shop) -> None:
    """Three are changed between reading and deciding: each is moved all the same, and counted as a conflict."""
    touched: set[str] = set()

    def once(name: str) -> Sequence[dict[str, Any]]:
        new = name in {"w00", "w01", "w06"} - touched
        touched.add(name)
        return [paint(name, 1)] if new else ()

    shop.meddle = once
    totals = await carried_out(bulk(), shop)
    assert (9, 3, {}) == (totals.accepted, totals.conflicts, dict(totals.refused))


async def test_what_changes_every_time_is_given_up(shop: Shop) -> None:
    """Ten tries, then it counts as refused; the others do not wait for it for ever."""
    tries: list[str] = []

    def always(name: str) -> Sequence[dict[str, Any]]:
        if name != "w00":
            return ()
        tries.append(name)
        return [paint(name, len(tries))]

    shop.meddle = always
    totals = await carried_out(bulk(), shop)
    assert (8, TRIES_MAX - 1, {Code.VERSION_CONFLICT: 1}) == (totals.accepted, totals.conflicts, dict(totals.refused))
    assert TRIES_MAX == len(tries)


async def test_what_ends_meanwhile_is_refused(shop: Shop) -> None:
    """A workflow that comes to its end before its migration is decided stays where it ended."""
    shop.meddle = lambda name: [move(name, "brick")] if name == "w00" else ()
    totals = await carried_out(bulk(), shop)
    assert (8, 0, {Code.TERMINAL_STATE: 1}) == (totals.accepted, totals.conflicts, dict(totals.refused))


async def test_a_silence_ends_it_and_starting_again_doubles_nothing(shop: Shop) -> None:
    """One reply stays out: it is counted, the later batches are not sent; the next run does the rest."""
    shop.silent = {"w05"}
    first = await carried_out(bulk(), shop)
    assert (8, 7, 1) == (first.workflows, first.accepted, first.unanswered)
    shop.silent = set()
    second = await carried_out(bulk(), shop)
    assert (1, 1, 0) == (second.workflows, second.accepted, second.unanswered)
    migrated = [name for name in shop.workflows for event in shop.history(name) if event["category"] == "definition"]
    assert (9, 9) == (len(migrated), len(set(migrated)))


async def test_starting_again_asks_anew_what_was_refused(shop: Shop) -> None:
    """What an earlier run was told is not what counts now, nor an outcome that it brought about."""
    await carried_out(bulk(states={}), shop)
    again = await carried_out(bulk(states={}), shop)
    assert (3, 0, {Code.INVALID_TRANSITION: 3}) == (again.workflows, again.duplicates, dict(again.refused))


async def test_what_somebody_else_migrates_first_is_left_alone(shop: Shop) -> None:
    """A run is about the workflows on one version: those that another run takes to a third stay there."""
    shop.turns.store.add(compiled(SECOND | {"version": 3}))
    met: set[str] = set()

    def first(name: str) -> Sequence[dict[str, Any]]:
        new = name in {"w00", "w01"} - met
        met.add(name)
        way = command("migrate_workflow", name, 1, to_version=3, states={"ajar": "wide"}, reason="first")
        return [way] if new else ()

    shop.meddle = first
    totals = await carried_out(bulk(), shop)
    assert (9, 7, 2, 2) == (totals.workflows, totals.accepted, totals.overtaken, totals.conflicts)
    assert [3, 3] == [shop.workflows[name].definition_version for name in ("w00", "w01")]


async def test_an_undo_leaves_what_was_touched(shop: Shop) -> None:
    """Changed, ended, migrated or taken back by somebody else since: refused, and nobody else's is undone."""
    await carried_out(bulk(), shop)
    await shop.turns.take(
        sent(paint("w00", 1)),
        sent(move("w02", "close")),
        sent(command("migrate_workflow", "w01", 1, to_version=1, states={"wide": "ajar"}, reason="alone")),
        sent(command("migrate_workflow", "w05", 2, undo=True, reason="alone")),
        sent(command("migrate_workflow", "w04", 3, to_version=1, reason="alone")),
        sent(move("w04", "brick")),
    )
    before = shop.workflows
    back = bulk(undo=True)
    plan, totals = await foreseen(back, shop), await carried_out(back, shop)
    refused = {Code.VERSION_CONFLICT: 4, Code.TERMINAL_STATE: 1}
    assert (9, 4, refused, 0) == (totals.workflows, totals.accepted, dict(totals.refused), totals.conflicts)
    assert (plan.moves.total(), plan.refused.total()) == (totals.accepted, totals.refused.total())
    kept = ("w00", "w01", "w02", "w04", "w05")
    assert [before[name] for name in kept] == [shop.workflows[name] for name in kept]


async def test_another_mapping_is_another_run(shop: Shop) -> None:
    """Its undo does not find what this one moved."""
    await carried_out(bulk(), shop)
    other = await carried_out(bulk(states={"ajar": "open"}, undo=True), shop)
    assert 0 == other.workflows


async def test_an_undo_foresees_the_limit(shop: Shop) -> None:
    """Where a mapping closed what others have taken the place of, the dry run counts what will be refused."""
    run, back = bulk(states={"ajar": "gone"}), bulk(states={"ajar": "gone"}, undo=True)
    await carried_out(run, shop)
    await shop.turns.take(*(sent(create(f"v{number}")) for number in range(13)))
    plan, totals = await foreseen(back, shop), await carried_out(back, shop)
    assert ({("gone", Code.LIMIT_REACHED): 2}, {Code.LIMIT_REACHED: 2}) == (dict(plan.refused), dict(totals.refused))
    for name in ("v0", "v1"):
        await shop.turns.take(
            sent(command("migrate_workflow", name, 1, to_version=1, reason="to end")), sent(move(name, "brick"))
        )
    plan, totals = await foreseen(back, shop), await carried_out(back, shop)
    assert (2, 2, {}) == (plan.moves.total(), totals.accepted, dict(totals.refused))


def test_the_id_of_a_command_follows_from_what_is_asked() -> None:
    """The same of the same workflow is the same; of another version of it, or for another reason, it is not."""
    workflow = Workflow("w", "root", DOOR, 1, "shut", 3, 3, "", "", {}, tenant="acme")
    standing, later = Standing(workflow), Standing(workflow._replace(version=4))
    body = bulk().body(standing)
    assert body == bulk().body(standing)
    ids = {body["command_id"], bulk().body(later)["command_id"], bulk(reason="else").body(standing)["command_id"]}
    assert 3 == len(ids)
    assert ("root", "acme", 3, "ann") == tuple(
        body[name] for name in ("root_id", "tenant", "expected_version", "requested_by")
    )
    assert b"root" == bulk().command(standing).key
    assert body == orjson.loads(bulk().command(standing).value)
