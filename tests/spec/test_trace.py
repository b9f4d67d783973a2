"""A recorded run of real workers is a behaviour of the specification; the same run told otherwise is not."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from service.adapters import adapters
from service.app import Endpoints
from service.settings import Settings
from service.store.pool import open_pool
from tests.e2e.load import keep_sending
from tests.e2e.outside import busy, rows, worker_process
from tests.spec.steps import Event
from tests.spec.validate import first_accepted, validate
from tests.tracing import crashed, record

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
EVENTS_MIN = 200
THEFTS_MAX = 10
DEADLINE_SECONDS = 100
KINDS = (
    "claim, claim",
    "claim, fence",
    "fence, cursor",
    "cursor, apply",
    "cursor, publish",
    "apply, apply",
    "apply, publish",
    "publish, publish",
    "claim, fenced",
    "apply, crash",
)


async def _steal(settings: Settings, endpoints: Endpoints, path: Path) -> None:
    """Claim every partition as a worker would that the group gave them to, and do no more."""
    generations = {
        row["part"]: row["group_generation"] for row in await rows(endpoints, "select * from partition order by part")
    }
    pool = await open_pool(endpoints.database_url, size=1)
    try:
        thief = record(adapters(settings, endpoints.bootstrap_servers, pool), path, worker="thief").store
        for part, generation in generations.items():
            await thief.claim(part, generation)
    finally:
        await pool.close()


async def _run(settings: Settings, endpoints: Endpoints, folder: Path) -> Path:
    """Record two workers under load, both robbed of their partitions, one killed; returns the trace."""
    trace = folder / "trace.ndjson"
    command = (sys.executable, "-m", "tests.spec.traced_worker", trace)
    enough = asyncio.Event()
    sending = asyncio.create_task(keep_sending(settings, endpoints, enough, seed=11))
    try:
        async with (
            worker_process(settings, endpoints, folder / "one.log", command) as one,
            worker_process(settings, endpoints, folder / "two.log", command) as two,
        ):
            await busy(endpoints, turns=20, deadline_seconds=DEADLINE_SECONDS)
            for _ in range(THEFTS_MAX):  # a partition that changes hands just then is claimed anew, and nobody fenced
                await _steal(settings, endpoints, trace)
                await busy(endpoints, turns=20, deadline_seconds=DEADLINE_SECONDS)
                if b'"fenced"' in trace.read_bytes():
                    break
            killed = str(one.pid)
            await one.kill()
            crashed(trace, killed)
            await busy(endpoints, turns=60, deadline_seconds=DEADLINE_SECONDS)
            enough.set()
            assert 0 == await two.stop()
    finally:
        enough.set()
        await sending
    return trace


def _swaps(events: Sequence[Event]) -> Iterator[tuple[str, int, int]]:
    """Yield pairs of events that must not change places, by what they are, the first of each kind."""
    seen = set()
    for one, other in combinations(range(len(events)), 2):
        first, second = events[one], events[other]
        kind = f"{first.step}, {second.step}"
        if kind not in seen and _depends(first, second):
            seen.add(kind)
            yield kind, one, other


def _depends(first: Event, second: Event) -> bool:
    """Say whether the second could not have come before the first."""
    if second.step == "crash":
        return first.step == "apply" and first.worker == second.worker
    if first.part != second.part or first.step == "crash":
        return False
    match first.step, second.step:
        case ("claim", "claim") | ("apply", "apply") | ("publish", "publish"):
            return True
        case ("apply", "publish"):
            return first.said["seq"] < second.said["cursor"] + second.said["rows"]
        case ("claim", "fenced"):
            return first.said["epoch"] == second.said["epoch"] + 1
        case ("claim", "fence") | ("fence", "cursor") | ("cursor", "apply") | ("cursor", "publish"):
            return first.worker == second.worker
        case _:
            return False


async def test_a_real_run_is_a_behaviour_and_with_two_events_swapped_it_is_none(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """Workers are robbed and killed under load; their trace holds a crash and a fenced apply, and is accepted.

    Whatever two events that depend on each other change places, the rest of the trace as it is, it is rejected.
    """
    validated = validate([await _run(settings, endpoints, tmp_path)])
    assert [] == validated.findings
    assert (True, True, True) == (
        len(validated.events) >= EVENTS_MIN,
        validated.counts["crash"] >= 1,
        validated.counts["fenced"] >= 1,
    )
    swaps = {kind: _swapped(validated.events, one, other) for kind, one, other in _swaps(validated.events)}
    assert sorted(KINDS) == sorted(swaps)
    assert None is first_accepted(list(swaps.values()))


def _swapped(events: Sequence[Event], one: int, other: int) -> list[Event]:
    changed = list(events)
    changed[one], changed[other] = changed[other], changed[one]
    return changed
