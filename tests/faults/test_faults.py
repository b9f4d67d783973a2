"""The fault suite's short form: the most telling faults on a real broker and database, judged from the outside."""

import signal
from pathlib import Path

import pytest

from service.app import Endpoints
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Settings
from tests.faults.faults import faults
from tests.faults.history import Findings
from tests.faults.points import Action, Arm, Point
from tests.faults.stage import Cast, Stage, staged

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
KILL_POINTS = [
    (Point.BEFORE_APPLY, Point.MID_TRANSACTION),
    (Point.WITHIN_APPLY, Point.BEFORE_COMMIT),
    (Point.AFTER_APPLY, Point.WITHIN_COMMIT),
    (Point.BEFORE_PUBLISH, Point.BEFORE_CURSOR),
]


def bears(findings: Findings) -> None:
    """Assert that nothing is wrong, and that there was enough to look at."""
    assert [] == findings.violations[:20]
    counts = findings.counts
    assert counts["refused"] >= 0.2 * counts["commands"], counts
    looked_at = (
        "duplicates",
        "dead letters",
        "rows of kind forward",
        "answered after later ones",
        "decided again",
        "commands sent after a reply",
    )
    assert {} == {name: counts[name] for name in looked_at if not counts[name]}


async def test_a_worker_killed_at_any_point_costs_nothing_but_time(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """Two of three workers kill themselves at once, each at another point of a turn, over and over."""
    async with staged(settings, endpoints, tmp_path, Cast(seed=1)) as stage:
        await stage.until_shared()
        for number, pair in enumerate(KILL_POINTS):
            await die_at(stage, *pair, first=5 + number)
        await die_at(stage, Point.CLAIMED, Point.CLAIMED, first=1)
        assert 2 * len(KILL_POINTS) + 2 == len(stage.struck)
        bears(await stage.verdict())


async def die_at(stage: Stage, *points: Point, first: int) -> None:
    """Let workers start anew, each armed to kill itself, and others take over."""
    dying = stage.hands[: len(points)]
    for hand, point in zip(dying, points, strict=True):
        await hand.end()
        await hand.begin(Arm(point, Action.KILL, first))
    for hand in dying:
        await hand.gone()
    for hand in dying:
        await hand.end()


async def test_zombies_are_fenced(settings: Settings, endpoints: Endpoints, tmp_path: Path) -> None:
    """A worker stands still before its apply, another before its commit, until others have gone on without them."""
    arms = [[Arm(Point.BEFORE_APPLY, Action.STAND_STILL, 30)], [Arm(Point.BEFORE_COMMIT, Action.STAND_STILL, 30)]]
    async with staged(settings, endpoints, tmp_path, Cast(seed=2, arms=arms)) as stage:
        zombies = stage.hands[:2]
        for zombie in zombies:
            await stage.until_struck(1, zombie)
        await stage.until_owned_without(*zombies)
        await stage.until_moving()
        for zombie in zombies:
            zombie.send(signal.SIGCONT)
        await stage.until_shared()
        bears(await stage.verdict())


async def test_servers_die_and_workers_are_rolled(settings: Settings, tmp_path: Path) -> None:
    """Broker and database are killed, connections dropped, three workers restarted one by one, all under load."""
    wanted = ("broker killed", "database killed", "connections dropped", "rolling restart")
    chosen = [fault for fault in faults(settings.delivery) if fault.name in wanted]
    stack = LocalStack(tmp_path / "servers")
    async with stack as local:
        endpoints = Endpoints(local.bootstrap_servers, local.database_url)
        await prepare(settings, endpoints)
        async with staged(settings, endpoints, tmp_path, Cast(seed=7), stack=stack) as stage:
            await stage.until_shared()
            struck = {}
            for fault in chosen:
                struck[fault.name] = await fault.strike(stage)
                await stage.until_well()
            assert set(wanted) == {name for name, number in struck.items() if number > 0}
            bears(await stage.verdict())
    await erase(tmp_path / "servers")


async def test_at_least_once_repeats_word_for_word_and_only_after_a_fault(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """A worker dies with rows published whose cursor nobody noted: they come again, and nothing else does."""
    chosen = settings.model_copy(update={"delivery": "at-least-once"})
    async with staged(chosen, endpoints, tmp_path, Cast(seed=8, hands=2)) as stage:
        await stage.until_shared()
        await die_at(stage, Point.BEFORE_CURSOR, first=20)
        assert 1 == len(stage.struck)
        findings = await stage.verdict()
        bears(findings)
        assert findings.counts["repeats"] > 0
