"""A broker that dies in the middle of a transaction: what was sent in it must never become visible."""

import asyncio
from pathlib import Path

import orjson
import pytest

from handlers.ports import JournalRow
from service.app import Endpoints
from service.broker.publishers import TRANSACTION_MS_MAX, Elsewhere, TransactionalPublisher
from service.broker.records import own_records, own_topics
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Settings
from tests.e2e.outside import read
from tests.publishers import started

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
MOMENT = {"workflow_id": "w", "event_id": "e", "timestamp": "2026-11-22T09:00:00Z"}
ROWS = [
    (1, JournalRow("event", "w", "w", "e", 1, event=orjson.dumps(MOMENT), reply=b'{"said": "once"}')),
    (2, JournalRow("alert", "w", "w", "a", 1, event=orjson.dumps(MOMENT | {"alert_id": "a"}))),
    (3, JournalRow("dead_letter", None, None, "d", 2, event=b'{"topic": "t", "partition": 0, "offset": 1}')),
]
"""One row of each kind that a transaction publishes."""


async def test_a_transaction_that_timed_out_while_the_broker_was_away_stays_aborted(
    settings: Settings, tmp_path: Path
) -> None:
    """The broker comes back after the transaction's timeout, and forgets to write that it is aborted, on any topic."""
    stack = LocalStack(tmp_path / "servers")
    published = {record.topic: [record.value] for record in own_records(settings.topics, 0, ROWS)}
    async with stack as local:
        endpoints = Endpoints(local.bootstrap_servers, local.database_url)
        await prepare(settings, endpoints)
        elsewhere = Elsewhere(endpoints.bootstrap_servers)

        def publisher() -> TransactionalPublisher:
            return TransactionalPublisher(
                0,
                bootstrap_servers=endpoints.bootstrap_servers,
                topics=settings.topics,
                group_id=settings.group_id,
                elsewhere=elsewhere,
            )

        dying = await started(publisher)
        producer = dying._producer  # noqa: SLF001 - a transaction is to stay open
        await producer.begin_transaction()
        for topic in published:
            await producer.send_and_wait(topic, b'{"said": "never"}', partition=0)
        await stack.kill_broker()
        await asyncio.sleep(TRANSACTION_MS_MAX / 1000)
        await stack.start_broker()
        await dying.close()
        new = await started(publisher)
        await new.publish(ROWS)
        await new.close()
        found = {topic: [record.value for record in await read(endpoints, topic)] for topic in published}
        assert published == found
    await erase(tmp_path / "servers")


def test_every_topic_of_a_transaction_is_known(settings: Settings) -> None:
    """Whoever starts to publish aborts a transaction over these: one left out would show what an earlier one left."""
    assert {record.topic for record in own_records(settings.topics, 0, ROWS)} == set(own_topics(settings.topics))
