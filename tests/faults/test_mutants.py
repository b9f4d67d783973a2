"""The protocol with a rule left out is caught: the schedule under which the product is right finds the mutant wrong."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from service.app import Endpoints
from service.broker.cluster import admin
from service.settings import Settings
from tests.e2e.outside import end_offsets
from tests.eventually import assert_eventually
from tests.faults.mutants import unfence
from tests.faults.points import Action, Arm, Point
from tests.faults.published import Kind
from tests.faults.stage import Cast, Stage, staged

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]
NOTHING: set[Kind] = set()


@pytest.mark.parametrize(("fenced", "expected"), [(True, NOTHING), (False, {Kind.DECIDED_TWICE})])
async def test_no_epoch_and_no_offset_check(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, *, fenced: bool, expected: set[Kind]
) -> None:
    """A worker stands still before its apply until others have decided its commands, then applies its turn."""
    if not fenced:
        await unfence(endpoints)
    arms = [[Arm(Point.BEFORE_APPLY, Action.STAND_STILL, 30)]]
    async with staged(settings, endpoints, tmp_path, Cast(seed=3, hands=2, arms=arms)) as stage:
        await come_back(stage)
        assert expected == _telling((await stage.verdict()).kinds, expected)


@pytest.mark.parametrize(("mutant", "expected"), [("none", NOTHING), ("one-producer", {Kind.DOUBLED})])
async def test_one_producer_for_all_partitions(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, mutant: str, expected: set[Kind]
) -> None:
    """A worker stands still before it publishes until others have published its rows, then publishes them too."""
    arms = [[Arm(Point.BEFORE_PUBLISH, Action.STAND_STILL, 30)]]
    cast = Cast(seed=4, hands=2, arms=arms, mutants=[mutant, mutant])
    async with staged(settings, endpoints, tmp_path, cast) as stage:
        await come_back(stage)
        assert expected == _telling((await stage.verdict()).kinds, expected)


@pytest.mark.parametrize(("mutant", "expected"), [("none", NOTHING), ("cursor-first", {Kind.DOUBLED})])
async def test_cursor_read_before_the_epoch(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, mutant: str, expected: set[Kind]
) -> None:
    """The old owner publishes what it held back just after the new one has read the cursor, and dies of it."""
    held_back = Arm(Point.BEFORE_PUBLISH, Action.STAND_STILL, 30, part=0)
    dies = Arm(Point.BEFORE_CURSOR, Action.KILL, 30, part=0)
    cast = Cast(seed=5, hands=1, arms=[[held_back, dies]])
    async with staged(settings, endpoints, tmp_path, cast) as stage:
        (old,) = stage.hands
        await stage.until_struck(1, old)
        new = await stage.join(Arm(Point.CURSOR_READ, Action.STAND_STILL, part=0), mutant=mutant)
        await stage.until_struck(1, new)
        old.send(signal.SIGCONT)
        await old.gone()
        await stage.until_struck(2, old)
        await old.end()
        new.send(signal.SIGCONT)
        await stage.until_shared()
        assert expected == _telling((await stage.verdict()).kinds, expected)


@pytest.mark.parametrize(("mutant", "expected"), [("none", NOTHING), ("unawaited-sends", {Kind.LOST})])
async def test_unawaited_sends(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, mutant: str, expected: set[Kind]
) -> None:
    """For a while the broker refuses every batch of events but those of one."""
    async with staged(settings, endpoints, tmp_path, Cast(seed=6, hands=1, mutants=[mutant])) as stage:
        await stage.until_moving()
        await _take_batches_of(settings, endpoints, 1200)
        if mutant == "none":
            await assert_eventually("again", stage.hands[0].trying)
        else:
            await _replies_go_on(stage)
        await _take_batches_of(settings, endpoints, 2 * 1024 * 1024)
        assert expected == _telling((await stage.verdict()).kinds, expected)


async def come_back(stage: Stage) -> None:
    """Let the first worker, which stands still, go on when others have done all that it had to do."""
    zombie = stage.hands[0]
    await stage.until_struck(1, zombie)
    await stage.until_owned_without(zombie)
    await stage.until_moving()
    zombie.send(signal.SIGCONT)
    with suppress(AssertionError):  # a mutant may stand still for good: that is found too
        await stage.until_shared()


def _telling(found: set[Kind], expected: set[Kind]) -> set[Kind]:
    """Return what tells: of a mutant, whether it broke what it must break; of the product, all that it broke."""
    return found & expected or found


async def _take_batches_of(settings: Settings, endpoints: Endpoints, bytes_max: int) -> None:
    resource = ConfigResource(
        ConfigResourceType.TOPIC, settings.topics.events, configs={"max.message.bytes": str(bytes_max)}
    )
    async with admin(endpoints.bootstrap_servers, deadline_seconds=30) as client:
        await client.alter_configs([resource])


async def _replies_go_on(stage: Stage) -> None:
    """Wait until far more is published than when asked first."""
    goal = 300 + sum((await end_offsets(stage.endpoints, stage.settings.topics.replies)).values())

    async def reached() -> str:
        ends = await end_offsets(stage.endpoints, stage.settings.topics.replies)
        return "there" if sum(ends.values()) >= goal else "not yet"

    await assert_eventually("there", reached, poll_seconds=0.3)
