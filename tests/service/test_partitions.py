"""What a store knows of its partitions: which log they were adopted for, and how many there are."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from handlers.faults import Fenced
from handlers.ports import JournalRow, LastDecided, Ownership, Turn
from service.app import Endpoints
from service.store import adoption, partitions, schema
from service.store.adapter import PostgresStore
from service.store.pool import Pool, fresh_database, open_pool
from tests.fakes.machines import identified
from tests.suites.test_store import AT

pytestmark = pytest.mark.stack


@pytest.fixture
async def pool(servers: Endpoints) -> AsyncIterator[Pool]:
    """Give an empty store of one partition."""
    async with fresh_database(servers.database_url, f"a{uuid4().hex[:12]}") as url:
        await schema.migrate(url)
        opened = await open_pool(url, size=2)
        try:
            async with opened.acquire() as connection:
                await partitions.ensure(connection, cluster_id="c", n_parts=1)
            yield opened
        finally:
            await opened.close()


def answered(offset: int, command: str) -> JournalRow:
    """Return the row of a command that was refused."""
    reply = b'{"command_id":"%s"}' % identified(command).encode()
    return JournalRow("reply", "w", "w", "turnstile.reply", offset, command_id=identified(command), reply=reply)


async def test_of_a_topic_made_anew_nothing_is_known_by_the_offsets_of_the_old_one(pool: Pool) -> None:
    """A record that left no answer, such as one that was forwarded, is not taken for the command once at its offset."""
    store = PostgresStore(pool, owner="tests", damper=timedelta())
    owned = await store.claim(0, 1)
    rows = [answered(offset, f"old {offset}") for offset in range(5)]
    owned = await _applied(store, owned, Turn(5, AT, rows=rows))
    assert LastDecided(4, identified("old 4")) == await store.last_decided(owned)
    await store.note_halted(owned, "made anew")
    async with pool.acquire() as connection:
        before = await adoption.standing(connection, 0)
        assert before is not None
        assert (4, identified("old 4")) == await adoption.decided_within(connection, 0, 0, 5)
        await adoption.adopt(connection, before, cluster_id="c", next_offset=0, next_seq=before.next_seq, by="a person")
        owned = await store.claim(0, 1)
        forward = answered(2, "new 2")._replace(kind="forward", reply=None, command_id=None)
        owned = await _applied(store, owned, Turn(3, AT, rows=[answered(0, "new 0"), answered(1, "new 1"), forward]))
        assert LastDecided(1, identified("new 1")) == await store.last_decided(owned)
        assert (1, identified("new 1")) == await adoption.decided_within(connection, 0, 0, 5)


async def test_an_owner_from_before_partitions_were_added_claims_again(pool: Pool) -> None:
    """Where a root belongs depends on how many there are: who goes by the old number decides nothing more."""
    store = PostgresStore(pool, owner="tests", damper=timedelta())
    owned = await store.claim(0, 1)
    async with pool.acquire() as connection:
        assert 2 == await partitions.grow(connection, cluster_id="c", n_parts=3)
        with pytest.raises(Fenced):
            await store.apply(owned, Turn(1, AT, rows=[answered(0, "by the old number")]))
        owned = await store.claim(0, 1)
        assert 3 == owned.n_parts
        assert 0 == await partitions.grow(connection, cluster_id="c", n_parts=3)
    await _applied(store, owned, Turn(1, AT, rows=[answered(0, "by the new number")]))


async def _applied(store: PostgresStore, owned: Ownership, turn: Turn) -> Ownership:
    outcome = await store.apply(owned, turn)
    assert isinstance(outcome, Ownership)
    return outcome
