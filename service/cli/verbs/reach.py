"""Reaches what a verb needs: the database alone, the broker alone, or a client; and says what to do where it cannot."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiokafka.errors import KafkaError

from client.client import Client
from service.app import NotReadyError
from service.broker.cluster import TopicsError, cluster_facts
from service.local.stack import running
from service.settings import Settings
from service.store.pool import Connection, open_pool
from service.store.reads import reading


def database_url(chosen: Settings) -> str:
    """Return the database's address; raises NotReadyError."""
    local = running(chosen.data_dir)
    url = chosen.database_url or (local.database_url if local else "")
    if not url:
        raise _missing("database", "TURNSTILE_DATABASE_URL")
    return url


def bootstrap_servers(chosen: Settings) -> str:
    """Return the broker's address; raises NotReadyError."""
    local = running(chosen.data_dir)
    address = chosen.bootstrap_servers or (local.bootstrap_servers if local else "")
    if not address:
        raise _missing("broker", "TURNSTILE_BOOTSTRAP_SERVERS")
    return address


@asynccontextmanager
async def asking(chosen: Settings) -> AsyncIterator[Connection]:
    """Give a connection that only reads."""
    async with reading(database_url(chosen)) as connection:
        yield connection


@asynccontextmanager
async def changing(chosen: Settings) -> AsyncIterator[Connection]:
    """Give a connection for a small write."""
    pool = await open_pool(database_url(chosen), size=1, statement_seconds_max=30)
    try:
        async with pool.acquire() as connection:
            yield connection
    finally:
        await pool.close()


@asynccontextmanager
async def client_of(chosen: Settings) -> AsyncIterator[Client]:
    """Give a client, once the topics are known to be there."""
    address = bootstrap_servers(chosen)
    with broker_words(address):
        await topic_there(address, chosen.topics.commands)
        async with Client(address, topics=chosen.topics) as client:
            yield client


@contextmanager
def broker_words(address: str) -> Iterator[None]:
    """Say what to do about the broker's errors, and keep its library from saying them a second time."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except KafkaError as error:
        raise TopicsError(
            f"the broker at {address} does not do it: {error}; is it running? `turnstile doctor`"
        ) from error


async def topic_there(address: str, topic: str) -> int:
    """Return a topic's partitions; raises TopicsError where it is not there, since asking for it could create it."""
    facts = await cluster_facts(address, topic)
    if not facts.partitions:
        raise TopicsError(f"there is no topic {topic}: run `turnstile topics create`")
    return facts.partitions


def _missing(what: str, variable: str) -> NotReadyError:
    return NotReadyError(f"no {what}: start the embedded one with `turnstile dev`, or set {variable}")
