"""`max_open` is exact, though creations of one definition are decided on several partitions at once."""

from collections import Counter

import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.outside import Put, all_decided, creation, define, ids_on, move, outcomes, put, rows, send, value

pytestmark = pytest.mark.stack
MAX_OPEN = 10
DEFINITION = f"""
name: few
version: 1
kind: workflow
states:
  open: {{initial: true}}
  done: {{terminal: true}}
transitions:
  - {{name: finish, from: open, to: done}}
limits: {{max_open: {MAX_OPEN}}}
"""


async def _decide(settings: Settings, endpoints: Endpoints, records: list[Put]) -> Counter[str]:
    """Send records and count what becomes of them."""
    places = await send(endpoints, settings.topics.commands, records)
    await all_decided(settings, endpoints)
    became = await outcomes(settings, endpoints)
    return Counter(became[place] for place in places)


def _creations(settings: Settings, each: int) -> list[Put]:
    """Return creations of all partitions, one partition after the other in turn."""
    names = [ids_on(part, each, partitions=settings.partitions) for part in range(settings.partitions)]
    return [put(creation(name, "few")) for together in zip(*names, strict=True) for name in together]


async def _open(endpoints: Endpoints) -> list[str]:
    return [row["workflow_id"] for row in await rows(endpoints, "select workflow_id from workflow where is_open")]


async def test_never_more_than_max_open_and_every_free_place_is_given(settings: Settings, endpoints: Endpoints) -> None:
    """As many as may be are open; a place that a final transition frees is given once more, and no other."""
    await define(endpoints, DEFINITION)
    async with running(settings, endpoints):
        first = await _decide(settings, endpoints, _creations(settings, 40))
        assert Counter(accepted=MAX_OPEN, LIMIT_REACHED=120 - MAX_OPEN) == first
        finished = [put(move(name, "done")) for name in (await _open(endpoints))[:3]]
        assert Counter(accepted=3) == await _decide(settings, endpoints, finished)
        again = await _decide(settings, endpoints, _creations(settings, 10))
        assert Counter(accepted=3, LIMIT_REACHED=27) == again
        # In one go: who finishes makes room for who comes after on the same partition.
        at_home = {
            row["workflow_id"]: row["part"] for row in await rows(endpoints, "select * from workflow where is_open")
        }
        name, part = next(iter(at_home.items()))
        (successor,) = ids_on(part, 1, partitions=settings.partitions)
        relay = [
            put(creation(f"{name}-early", "few", root_id=name)),
            put(move(name, "done")),
            put(creation(successor, "few")),
        ]
        assert Counter(accepted=2, LIMIT_REACHED=1) == await _decide(settings, endpoints, relay)
    assert MAX_OPEN == len(await _open(endpoints))
    assert MAX_OPEN == await value(endpoints, "select open from open_count where definition = 'few'")


async def test_a_full_definition_and_a_taken_id_at_once(settings: Settings, endpoints: Endpoints) -> None:
    """The same ids under roots of different partitions, with too few places: each id and each place is given once."""
    await define(endpoints, DEFINITION)
    roots = [ids_on(part, 1, partitions=settings.partitions)[0] for part in range(settings.partitions)]
    records = [put(creation(f"child-{number}", "few", root_id=root)) for number in range(60) for root in roots]
    async with running(settings, endpoints):
        became = await _decide(settings, endpoints, records)
    assert (MAX_OPEN, 180) == (became["accepted"], became.total())
    assert {"accepted", "ALREADY_EXISTS", "LIMIT_REACHED"} == set(became)
    assert MAX_OPEN == await value(endpoints, "select open from open_count where definition = 'few'")
    assert MAX_OPEN == len(await _open(endpoints))
