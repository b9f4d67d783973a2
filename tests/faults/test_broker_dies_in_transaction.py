"""A broker that dies in the middle of a transaction: what was sent in it must never become visible."""

import asyncio
from pathlib import Path

import pytest

from handlers.ports import JournalRow
from service.app import Endpoints
from service.broker.publishers import TRANSACTION_MS_MAX, Elsewhere, TransactionalPublisher
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Settings
from tests.e2e.outside import read
from tests.publishers import started

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def _letter(text: bytes) -> JournalRow:
    body = b'{"topic": "t", "partition": 0, "offset": 1, "said": "%s"}' % text
    return JournalRow("dead_letter", None, None, "turnstile.dead_letter", 1, event=body)


async def test_a_transaction_that_timed_out_while_the_broker_was_away_stays_aborted(
    settings: Settings, tmp_path: Path
) -> None:
    """The broker comes back after the transaction's timeout, and forgets to write that it is aborted."""
    stack = LocalStack(tmp_path / "servers")
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
        await producer.send_and_wait(settings.topics.dead_letters, b'{"said": "never"}', partition=0)
        await stack.kill_broker()
        await asyncio.sleep(TRANSACTION_MS_MAX / 1000)
        await stack.start_broker()
        await dying.close()
        new = await started(publisher)
        await new.publish([(1, _letter(b"once"))])
        await new.close()
        found = [record.value for record in await read(endpoints, settings.topics.dead_letters)]
        assert [_letter(b"once").event] == found
    await erase(tmp_path / "servers")
