"""Every fault as data: its name, what it does, what it needs, and how it strikes and heals.

`strike` returns how often it struck, after it has healed what does not heal by itself; the round waits until all
partitions move again.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from service.local.stack import LocalStack
from tests.e2e.outside import rows, value
from tests.faults.network import Proxies, toxiproxy
from tests.faults.points import Action, Arm, Point
from tests.faults.stage import Stage, Window

SESSION_SECONDS = 6.0
BLOCKED_SECONDS = 15.0
FULL_SECONDS = 6.0
CUT_SECONDS = 9.0
HANG_SECONDS = 2.0
FAKETIME = "LIBFAKETIME"
LIBRARIES = ("/usr/lib", "/usr/local/lib")
DROP = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where application_name = 'turnstile' and datname = current_database() and pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which things go wrong; `missing` says why it cannot be had here, or None.

    `measures`: how soon decisions resume after each of its strikes is looked at.
    """

    name: str
    says: str
    strike: Callable[[Stage], Awaitable[int]]
    missing: Callable[[], str | None] = lambda: None
    measures: Literal["kill", "stop"] | None = None


async def kill_at(stage: Stage, *, points: Sequence[Point]) -> int:
    """Stop as many workers as there are points, start them armed; each dies at its point."""
    dying = stage.chance.sample(stage.hands, len(points))
    for hand, point in zip(dying, points, strict=True):
        await stage.stop(hand)
        # Claims are few: each start makes some. Everything else is passed many times a second.
        first = 1 if point is Point.CLAIMED else stage.chance.randrange(3, 40)
        await hand.begin(Arm(point, Action.KILL, first))
    for hand in dying:
        await hand.gone()
        await hand.begin()
    return len(points)


async def kill_anywhere(stage: Stage) -> int:
    """Kill two of the workers from outside, whatever they are doing."""
    dying = stage.chance.sample(stage.hands, 2)
    for hand in dying:
        hand.send(signal.SIGKILL)
        await hand.gone()
        await hand.begin()
    return len(dying)


async def kill_again_and_again(stage: Stage) -> int:
    """Kill one worker after the other from outside, each while the others still recover from the one before."""
    times = 10
    for _ in range(times):
        hand = stage.chance.choice(stage.hands)
        hand.send(signal.SIGKILL)
        await hand.gone()
        await hand.begin()
        await asyncio.sleep(stage.chance.uniform(1, 5))
    return times


async def stand_still_at(stage: Stage, *, points: Sequence[Point]) -> int:
    """Start workers armed to stand still at their points; let them go on when others own all."""
    zombies = stage.chance.sample(stage.hands, len(points))
    for hand, point in zip(zombies, points, strict=True):
        await stage.stop(hand)
        await hand.begin(Arm(point, Action.STAND_STILL, stage.chance.randrange(3, 40)))
    for hand in zombies:
        await stage.until_struck(1, hand)
    await stage.until_owned_without(*zombies)
    await stage.until_moving()
    for hand in zombies:
        hand.send(signal.SIGCONT)
    return len(points)


async def pause(stage: Stage) -> int:
    """Let one worker stand still for half to twice the session's timeout."""
    hand = stage.chance.choice(stage.hands)
    hand.send(signal.SIGSTOP)
    await asyncio.sleep(SESSION_SECONDS * stage.chance.uniform(0.5, 2))
    hand.send(signal.SIGCONT)
    return 1


async def rolling_restart(stage: Stage) -> int:
    """Stop and start one worker after another."""
    for hand in stage.hands:
        await stage.stop(hand)
        await hand.begin()
        await stage.until_well()
    return len(stage.hands)


async def come_and_go(stage: Stage) -> int:
    """Stop, kill and start workers in short order, before the group has settled."""
    times = 6
    for _ in range(times):
        hand = stage.chance.choice(stage.hands)
        if stage.chance.random() < 0.5:
            hand.send(signal.SIGKILL)
            await hand.gone()
        else:
            await stage.stop(hand)
        await asyncio.sleep(stage.chance.uniform(0, 2))
        await hand.begin()
    return times


async def block_loop(stage: Stage) -> int:
    """Block one worker's event loop until the group has evicted it."""
    hand = stage.chance.choice(stage.hands)
    await stage.stop(hand)
    await hand.begin(Arm(Point.BEFORE_APPLY, Action.BLOCK, 10, seconds=BLOCKED_SECONDS))
    await stage.until_struck(1, hand)
    await stage.until_owned_without(hand)
    await hand.gone()  # its watchdog ends it; whatever supervises it starts it again
    await hand.begin()
    return 1


async def hang_guards(stage: Stage) -> int:
    """Let one partition's guards hang, over and over, at whichever worker owns it."""
    part, times = stage.chance.randrange(stage.settings.partitions), 3
    hand = stage.chance.choice(stage.hands)
    await stage.stop(hand)
    for other in stage.hands:
        if other is not hand:
            await stage.stop(other)
    await hand.begin(Arm(Point.ASKED, Action.HANG, 200, times, seconds=HANG_SECONDS, part=part))
    await stage.until_struck(1, hand)
    began = asyncio.get_running_loop().time()
    await stage.until_struck(times, hand)
    await asyncio.sleep(HANG_SECONDS)
    stage.windows["guards of another partition hang"] = Window(began, asyncio.get_running_loop().time(), part)
    for other in stage.hands:
        if other is not hand:
            await other.begin()
    return times


async def transient_errors(stage: Stage) -> int:
    """Let applies, publishes and commits fail, before and after they have done their work."""
    points = [point for point in FAILING if stage.settings.delivery == "exactly-once" or point not in NOT_AT_LEAST_ONCE]
    hand = stage.chance.choice(stage.hands)
    await stage.stop(hand)
    await hand.begin(*(Arm(point, Action.FAIL, stage.chance.randrange(5, 20), 2) for point in points))
    await stage.until_struck(2 * len(points), hand)
    return 2 * len(points)


async def kill_broker(stage: Stage) -> int:
    """Kill the broker and start it again on its data."""
    await _stack(stage).kill_broker()
    await _stack(stage).start_broker()
    return 1


async def kill_database(stage: Stage) -> int:
    """Kill PostgreSQL and start it again on its data."""
    await _stack(stage).kill_database()
    await asyncio.sleep(stage.chance.uniform(0, 2))
    await _stack(stage).start_database()
    return 1


async def restart_database(stage: Stage) -> int:
    """Stop PostgreSQL as an operator would, and start it again."""
    postgres = _stack(stage)._postgres  # noqa: SLF001 - a stack stops as a whole; here one server is to
    assert postgres is not None
    await postgres.stop()
    await _stack(stage).start_database()
    return 1


async def drop_connections(stage: Stage) -> int:
    """End every connection of the workers at the server, a few times."""
    dropped = 0
    for _ in range(3):
        dropped += int(await value(stage.endpoints, DROP))
        await asyncio.sleep(stage.chance.uniform(0.2, 1))
    return dropped


async def disturb_network(stage: Stage, toxic: str, *, broker: bool, database: bool) -> int:
    """Put one worker's network behind a proxy and disturb it for longer than a session."""
    hand = stage.chance.choice(stage.hands)
    async with Proxies.opened(stage.endpoints, stage.folder) as proxies:
        await stage.stop(hand)
        hand.reach(proxies.endpoints, f"{proxies.broker_port}:{proxies.broker_proxy}")
        await hand.begin()
        await stage.until_shared()
        names = ["broker"] * broker + ["database"] * database
        for name in names:
            await proxies.add(name, toxic)
        await asyncio.sleep(CUT_SECONDS)
        for name in names:
            await proxies.heal(name)
        await stage.until_moving()
        await hand.end()
    hand.reach(stage.endpoints, None)
    await hand.begin()
    return len(names)


async def shift_clock(stage: Stage) -> int:
    """Start two workers whose clocks are an hour off, one early, one late, and let them decide for a while."""
    early, late = stage.chance.sample(stage.hands, 2)
    for hand, shift in ((early, "-1h"), (late, "+1h")):
        await stage.stop(hand)
        hand.surroundings = {
            "LD_PRELOAD": str(_faketime()),
            "FAKETIME": shift,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        await hand.begin()
    await stage.until_shared()
    await asyncio.sleep(2)
    for hand in (early, late):
        hand.surroundings = {}
        await stage.stop(hand)
        await hand.begin()
    return 2


async def fill_database(stage: Stage) -> int:
    """Fill the database's disk, then make room again; start it where it has ended."""
    before = _refusals(stage)
    with _filled(stage.folder / "servers" / "postgres"):
        await asyncio.sleep(FULL_SECONDS)
    refused = _refusals(stage) - before
    try:
        await rows(stage.endpoints, "create temporary table room as select generate_series(1, 10)")
    except Exception:  # noqa: BLE001 - whatever it says, it does not serve
        await _stack(stage).kill_database()
        await _stack(stage).start_database()
    return refused


async def fill_broker(stage: Stage) -> int:
    """Fill the broker's disk, which ends it; make room and start it again."""
    before = _refusals(stage)
    with _filled(stage.folder / "servers" / "kafka"):
        await asyncio.sleep(FULL_SECONDS)
    refused = _refusals(stage) - before
    await _stack(stage).kill_broker()
    await _stack(stage).start_broker()
    return refused


def _refusals(stage: Stage) -> int:
    """Return how often the servers' logs say that a disk was full."""
    logs = (stage.folder / "servers").glob("*.log*")
    return sum(path.read_bytes().count(b"No space left on device") for path in logs)


def _stack(stage: Stage) -> LocalStack:
    assert stage.stack is not None, "this fault needs a stack of the round's own"
    return stage.stack


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Leave not a free byte on a disk during the block."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as out:
            block = bytes(1024 * 1024)
            while block:
                try:
                    out.write(block)
                except OSError:
                    block = block[: len(block) // 2]
        yield
    finally:
        filler.unlink(missing_ok=True)


def _faketime() -> Path | None:
    named = [Path(os.environ[FAKETIME])] if FAKETIME in os.environ else []
    found = [path for folder in LIBRARIES for path in Path(folder).glob("**/faketime/libfaketime.so.1")]
    return next((path for path in [*named, *found] if path.exists()), None)


def no_faketime() -> str | None:
    """Say that libfaketime is not here."""
    return None if _faketime() else f"libfaketime is not installed (Debian: faketime); or name it in {FAKETIME}"


def no_toxiproxy() -> str | None:
    """Say that toxiproxy is not here and cannot be built."""
    return None if toxiproxy() else "toxiproxy-server is not on the path, and there is no Go to build it"


def no_mount() -> str | None:
    """Say that no small disk can be made."""
    return None if os.geteuid() == 0 and Path("/proc/mounts").exists() else "a disk of its own takes root"


KILLS = (
    Point.CLAIMED,
    Point.BEFORE_APPLY,
    Point.WITHIN_APPLY,
    Point.AFTER_APPLY,
    Point.BEFORE_PUBLISH,
    Point.MID_TRANSACTION,
    Point.BEFORE_COMMIT,
    Point.WITHIN_COMMIT,
    Point.BEFORE_CURSOR,
)
FAILING = (
    Point.BEFORE_APPLY,
    Point.AFTER_APPLY,
    Point.MID_TRANSACTION,
    Point.BEFORE_COMMIT,
    Point.WITHIN_COMMIT,
    Point.BEFORE_CURSOR,
)
STANDING_STILL = (Point.BEFORE_APPLY, Point.WITHIN_APPLY, Point.BEFORE_PUBLISH, Point.BEFORE_COMMIT)
NOT_AT_LEAST_ONCE = {Point.BEFORE_COMMIT, Point.WITHIN_COMMIT}
"""Points that at-least-once publishing does not pass."""


def faults(delivery: str) -> tuple[Fault, ...]:
    """Return every fault there is in a delivery mode."""
    passed = [point for point in KILLS if delivery == "exactly-once" or point not in NOT_AT_LEAST_ONCE]
    pairs = list(zip(passed, passed[1:] + passed[:1], strict=True))
    still = [point for point in STANDING_STILL if point in passed]
    network = partial(Fault, missing=no_toxiproxy)
    return (
        *(
            Fault(f"kill {a}, {b}", "kill -9 at two points of a turn", partial(kill_at, points=(a, b)), measures="kill")
            for a, b in pairs
        ),
        Fault("kill anywhere", "kill -9 of two workers", kill_anywhere, measures="kill"),
        Fault("kill again and again", "kill -9 of one worker after the other", kill_again_and_again),
        *(
            Fault(f"stand still {point}", "SIGSTOP past the session, SIGCONT", partial(stand_still_at, points=(point,)))
            for point in still
        ),
        Fault("pause", "SIGSTOP for 0.5 to 2 sessions", pause),
        Fault("rolling restart", "SIGTERM one after another", rolling_restart, measures="stop"),
        Fault("come and go", "workers come and go before the group settles", come_and_go),
        Fault("blocked loop", "the event loop blocked for 15 s", block_loop),
        Fault("guards hang", "the guards of one partition hang", hang_guards),
        Fault("errors", "applies and publishes fail before and after their work", transient_errors),
        Fault("broker killed", "kill -9 of the broker, restart", kill_broker),
        Fault("database killed", "kill -9 of PostgreSQL, restart", kill_database),
        Fault("database restarted", "PostgreSQL stopped and started", restart_database),
        Fault("connections dropped", "pg_terminate_backend of every connection", drop_connections),
        network("slow network", "0.4 s to and from one worker", _network("latency", broker=True, database=True)),
        network("broker cut off", "one worker hears nothing from the broker", _network("timeout", broker=True)),
        network("database cut off", "one worker hears nothing from PostgreSQL", _network("timeout", database=True)),
        network("connections reset", "one worker's connections are reset", _network("reset_peer", broker=True)),
        Fault("clock off", "two workers' clocks an hour off", shift_clock, no_faketime),
        Fault("database disk full", "the database's disk is full", fill_database, no_mount),
        Fault("broker disk full", "the broker's disk is full", fill_broker, no_mount),
    )


def _network(toxic: str, *, broker: bool = False, database: bool = False) -> Callable[[Stage], Awaitable[int]]:
    return partial(disturb_network, toxic=toxic, broker=broker, database=database)
