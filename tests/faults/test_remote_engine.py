"""The remote engine down, hanging, talking garbage or failing: nothing guarded passes, everything else flows.

Four services side by side, each with an engine of its own that is struck in another way, all under a steady load of
three kinds of workflows: without a guard, with one that refuses when it cannot be asked, with one that waits.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts.predicates import Verdict
from domain.guards import Question
from service.app import Endpoints, running
from service.cli.surroundings import prepare
from service.predicates.dialects import PlainJson, Put
from service.settings import Settings
from service.store.pool import fresh_database
from tests.e2e.outside import all_decided, command, creation, define, end_offsets, outcomes, put, value
from tests.eventually import assert_eventually
from tests.faults.evidence import gather, judge
from tests.faults.sender import Sender
from tests.policies.engine import Json, ScriptedEngine, obliging, say, scripted_engine

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

FREE, REFUSES, WAITS = "police.free", "police.refuses", "police.waits"
MACHINE = """
name: {name}
version: 1
on_unavailable: {choice}
states: {{OPEN: {{initial: true}}}}
transitions:
  - {{name: step, from: OPEN, to: OPEN{guard}}}
"""
GUARD = ", guard: {remote: police/step}"
TEXTS = {
    FREE: MACHINE.format(name=FREE, choice="reject", guard=""),
    REFUSES: MACHINE.format(name=REFUSES, choice="reject", guard=GUARD),
    WAITS: MACHINE.format(name=WAITS, choice="wait", guard=GUARD),
}
WORKFLOWS = 10
PER_SECOND = 24
TRANSACTIONS_PER_SECOND = 30
CALM_SECONDS = 2.0
PATIENCE_SECONDS = 150.0

Strike = Callable[[ScriptedEngine], Awaitable[None]]


async def down(engine: ScriptedEngine) -> None:
    """Refuse connections."""
    await engine.down()


async def hang(engine: ScriptedEngine) -> None:
    """Take requests and say nothing."""

    async def silence(_engine: ScriptedEngine, _body: Json, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    engine.fault = silence


async def garble(engine: ScriptedEngine) -> None:
    """Answer what is none, much of it with an allow somewhere."""
    chance = random.Random(1)
    answers: list[Any] = [
        b"<html>true</html>", b'{"verdicts": [true', b"\x00\x01", {"verdicts": True}, {"verdicts": "true"},
        {"verdicts": []}, {"verdicts": [True] * 500}, {"verdicts": [1]}, {"verdicts": ["true"] * 3}, [True],
        {"result": True}, {"verdicts": [{"allow": "true"}]}, {"verdicts": [[True]]}, True,
    ]  # fmt: skip
    engine.fault = lambda _, __, writer: say(writer, chance.choice(answers))


async def fail(engine: ScriptedEngine) -> None:
    """Answer with status 500, whatever the body says."""

    def failing(_: ScriptedEngine, body: Json, writer: asyncio.StreamWriter) -> bool:
        return say(writer, {"verdicts": [True for _ in body["questions"]]}, "500 Oh")

    engine.fault = failing


async def heal(engine: ScriptedEngine) -> None:
    """Answer well again."""
    engine.fault = None
    if engine.is_down:
        await engine.up()


STRIKES: dict[str, Strike] = {"down": down, "hanging": hang, "garbage": garble, "500": fail}


@dataclass(slots=True)
class Load:
    """Creations of every kind, then steps; `kinds` says of each what was sent, in order, and to which workflow."""

    seed: int
    kinds: list[tuple[str, str]] = field(default_factory=list)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Yield commands without end; some are to be denied."""
        chance = random.Random(self.seed)
        names = [(kind, f"w-{uuid4()}") for kind in TEXTS for _ in range(WORKFLOWS)]
        for kind, name in names:
            self.kinds.append(("creation", name))
            yield creation(name, kind)
        while True:
            kind, name = chance.choice(names)
            self.kinds.append((kind, name))
            yield command(name, transition="step", context={"deny": True} if chance.random() < 0.2 else {})


class SameJudge:
    """Judges a recorded question as the scripted engine did."""

    async def ask(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        """Answer each question in its place."""
        puts = [Put(question.guard.expression, b"") for question in questions]
        told = [obliging(put.policy, each.inputs.whole()) for put, each in zip(puts, questions, strict=True)]
        return PlainJson("", len(puts)).verdicts(puts, orjson.dumps({"verdicts": told}))


@dataclass(slots=True)
class House:
    """One service, its engine and its client."""

    settings: Settings
    endpoints: Endpoints
    engine: ScriptedEngine
    load: Load
    sender: Sender

    async def steps(self) -> int:
        """Count the guarded transitions that were accepted."""
        query = "select coalesce(sum(version), 0) - count(*) from workflow where definition = any($1)"
        return int(await value(self.endpoints, query, [REFUSES, WAITS]))

    async def accepted_since(self, offset: int) -> int:
        """Count the guarded transitions that were accepted of the commands from an offset on."""
        query = """
            select count(*) from journal join workflow using (workflow_id)
             where kind = 'event' and record_offset >= $1 and definition = any($2)
        """
        return int(await value(self.endpoints, query, offset, [REFUSES, WAITS]))

    async def parked(self) -> int:
        """Count what is parked."""
        return int(await value(self.endpoints, "select count(*) from parked"))

    async def pace(self) -> str:
        """Say whether guarded transitions are accepted."""
        return "busy" if await self.steps() > WORKFLOWS else "idle"

    async def unanswered(self, until: float) -> list[int]:
        """Return the unguarded commands that were sent by some time and are not answered yet."""
        return [
            sent.number
            for sent, (kind, _) in zip(self.sender.log, self.load.kinds, strict=False)
            if kind == FREE and sent.sent_at < until and sent.place not in self.sender.answers
        ]

    async def told(self) -> dict[str, Counter[str]]:
        """Count what each kind was told."""
        found = await outcomes(self.settings, self.endpoints)
        counted: dict[str, Counter[str]] = {kind: Counter() for kind in (*TEXTS, "creation")}
        for sent, (kind, _) in zip(self.sender.log, self.load.kinds, strict=False):
            counted[kind][found.get(sent.place or "", "nothing")] += 1
        return counted


@asynccontextmanager
async def housed(settings: Settings, servers: Endpoints, seed: int) -> AsyncIterator[House]:
    """Prepare everything but the worker."""
    name = f"t{uuid4().hex[:12]}"
    async with scripted_engine() as engine, fresh_database(servers.database_url, name) as database_url:
        chosen = settings.model_copy(
            update={
                "prefix": name,
                "group_id": name,
                "partitions": 1,  # what is guarded and what is not share their turns, and four services one broker
                "transactions_per_second": TRANSACTIONS_PER_SECOND,
                "predicate_url": engine.url,
                "predicate_dialect": "json",
            }
        )
        endpoints = Endpoints(servers.bootstrap_servers, database_url)
        await prepare(chosen, endpoints)
        for text in TEXTS.values():
            await define(endpoints, text)
        load = Load(seed)
        sender = Sender(chosen, endpoints, map(put, load.commands()), per_second=PER_SECOND)
        yield House(chosen, endpoints, engine, load, sender)


async def endure(house: House, strike: Strike, seconds: float, evidence: Path) -> None:
    """Run a service through one fault, and judge all that it left."""
    clock = asyncio.get_running_loop().time
    async with running(house.settings, house.endpoints) as service, house.sender.running():
        await assert_eventually("busy", house.pace, deadline_seconds=PATIENCE_SECONDS)
        await asyncio.sleep(CALM_SECONDS)
        await strike(house.engine)
        allowed = house.engine.allowed  # and may be on its way yet
        struck_at = (await end_offsets(house.endpoints, house.settings.topics.commands))[0]
        await asyncio.sleep(seconds)
        nothing: list[int] = []
        all_that_is_free = partial(house.unanswered, clock())
        await assert_eventually(nothing, all_that_is_free, deadline_seconds=PATIENCE_SECONDS)  # while it lasts
        left_alone = service.telemetry.registry.get_sample_value("turnstile_predicate_breaker_state") or 0
        after = await house.steps()
        assert (0, allowed) == (await house.accepted_since(struck_at), house.engine.allowed)
        assert (True, True, True) == (after <= allowed, left_alone > 0, await house.parked() > 0)
        await heal(house.engine)
        await asyncio.sleep(CALM_SECONDS)
        await house.sender.settle()
        await assert_eventually(0, house.parked, deadline_seconds=PATIENCE_SECONDS, poll_seconds=0.5)
        await all_decided(house.settings, house.endpoints, deadline_seconds=PATIENCE_SECONDS)
        assert after < await house.steps() <= house.engine.allowed
    told = await house.told()
    denied = {"accepted", "GUARD_DENIED"}
    assert ({"accepted"}, {"accepted"}) == (set(told["creation"]), set(told[FREE]))
    assert (denied, denied | {"PREDICATE_UNAVAILABLE"}) == (set(told[WAITS]), set(told[REFUSES]))
    await gather(house.settings, house.endpoints, house.sender, evidence)
    findings = await judge(evidence, guards=SameJudge())
    assert [] == findings.violations[:20]
    assert {} == {name: 0 for name in ("decided again", "a guard not reached") if not findings.counts[name]}


@pytest.mark.parametrize(
    "seconds", [pytest.param(15.0, id="15 s"), pytest.param(60.0, id="a minute", marks=pytest.mark.slow)]
)
async def test_a_struck_engine_opens_nothing_and_holds_up_nobody(
    settings: Settings, servers: Endpoints, tmp_path: Path, seconds: float
) -> None:
    """Down, hanging, garbage and 500, each under load; afterwards all that waited has its verdict, in order."""
    async with AsyncExitStack() as street:  # prepared one after another: migrations are one at a time in a process
        houses = [await street.enter_async_context(housed(settings, servers, seed)) for seed in range(len(STRIKES))]
        async with asyncio.TaskGroup() as together:
            for house, (name, strike) in zip(houses, STRIKES.items(), strict=True):
                together.create_task(endure(house, strike, seconds, tmp_path / name), name=name)
