"""Reaches what a verb needs: the database alone, the broker alone, or a client; and says what to do where it cannot."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiokafka.errors import KafkaError

from client.client import Client
from service.broker.cluster import TopicsError, admin, cluster_facts
from service.cli.output import complain
from service.cli.surroundings import bootstrap_servers, database_url, writing
from service.settings import Settings
from service.store.pool import Connection
from service.store.reads import reading

LISTEN_SECONDS = 5.0


@asynccontextmanager
async def asking(chosen: Settings) -> AsyncIterator[Connection]:
    """Give a connection that only reads."""
    async with reading(database_url(chosen)) as connection:
        yield connection


@asynccontextmanager
async def changing(chosen: Settings) -> AsyncIterator[Connection]:
    """Give a connection for a small write."""
    async with writing(database_url(chosen)) as connection:
        yield connection


@asynccontextmanager
async def client_of(chosen: Settings) -> AsyncIterator[Client]:
    """Give a client, once the topics are known to be there."""
    address = bootstrap_servers(chosen)
    with broker_words(address):
        await topic_there(address, chosen.topics.commands)
        async with Client(address, topics=chosen.topics) as client:
            yield client


@asynccontextmanager
async def silence_told(chosen: Settings) -> AsyncIterator[None]:
    """Say when the broker answers no longer, and when it does again: its library waits for it without a word."""
    task = asyncio.create_task(_tell_of_silence(bootstrap_servers(chosen)))
    try:
        yield
    finally:
        task.cancel()


async def _tell_of_silence(address: str) -> None:
    silent = False
    while True:
        await asyncio.sleep(LISTEN_SECONDS)
        try:
            async with admin(address, deadline_seconds=LISTEN_SECONDS):  # it starts by asking
                if silent:
                    complain(f"the broker at {address} answers again")
                silent = False
        except TopicsError as error:
            if not silent:
                complain(f"{error} Waiting for it; Ctrl-C ends")
            silent = True


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
