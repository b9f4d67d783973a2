"""The adapters behind the handlers' ports, chosen in one place: PostgreSQL, the broker's producers, guard engines."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from handlers.ports import Claims, Guards, Outbox, Publisher, Store
from handlers.routes import SESSION_MS
from service.broker.publishers import Elsewhere, IdempotentPublisher, TransactionalPublisher
from service.predicates.engines import Engines, Remote
from service.settings import Settings
from service.store.adapter import PostgresStore
from service.store.pool import Pool

CLAIM_DAMPER = timedelta(milliseconds=2 * SESSION_MS)


class WholeStore(Store, Outbox, Claims, Protocol):
    """The store as a worker needs it: for turns, for relays, for claims."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a worker works with; `publisher` makes one for a partition, thrown away after any error.

    `engines` are what `guards` asks, to be closed with the worker.
    """

    store: WholeStore
    guards: Guards
    publisher: Callable[[int], Publisher]
    elsewhere: Elsewhere
    engines: Engines = field(default_factory=Engines)


def adapters(settings: Settings, bootstrap_servers: str, pool: Pool) -> Adapters:
    """Return the real ones."""
    elsewhere = Elsewhere(bootstrap_servers)
    engines = Engines(_remote(settings))

    def exactly_once(part: int) -> Publisher:
        return TransactionalPublisher(
            part,
            bootstrap_servers=bootstrap_servers,
            topics=settings.topics,
            group_id=settings.group_id,
            elsewhere=elsewhere,
        )

    def at_least_once(part: int) -> Publisher:
        return IdempotentPublisher(
            part, bootstrap_servers=bootstrap_servers, topics=settings.topics, elsewhere=elsewhere
        )

    return Adapters(
        store=PostgresStore(pool, owner=f"{socket.gethostname()}:{os.getpid()}", damper=CLAIM_DAMPER),
        guards=engines,
        publisher=exactly_once if settings.delivery == "exactly-once" else at_least_once,
        elsewhere=elsewhere,
        engines=engines,
    )


@asynccontextmanager
async def judging(settings: Settings) -> AsyncIterator[Engines]:
    """Give what judges guards, for the length of the block."""
    engines = Engines(_remote(settings))
    try:
        yield engines
    finally:
        await engines.close()


def _remote(settings: Settings) -> Remote | None:
    """Return the remote engine that the settings name."""
    if settings.predicate_url is None:
        return None
    # Here, since its HTTP library takes 25 MiB, which only a worker that asks such an engine should pay for.
    from service.predicates.configured import remote_engine  # noqa: PLC0415

    return remote_engine(settings)
