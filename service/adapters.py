"""The adapters behind the handlers' ports, chosen in one place: PostgreSQL, the broker's producers, engines."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from handlers.ports import Claims, Guards, Outbox, Publisher, Store
from handlers.routes import SESSION_MS
from service.broker.publishers import Elsewhere, IdempotentPublisher, TransactionalPublisher
from service.predicates.engines import Engines
from service.settings import Settings
from service.store.adapter import PostgresStore
from service.store.pool import Pool

CLAIM_DAMPER = timedelta(milliseconds=2 * SESSION_MS)


class WholeStore(Store, Outbox, Claims, Protocol):
    """The store as a worker needs it: for turns, for relays, for claims."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a worker works with; `publisher` makes one for a partition, thrown away after any error."""

    store: WholeStore
    guards: Guards
    publisher: Callable[[int], Publisher]
    elsewhere: Elsewhere


def adapters(settings: Settings, bootstrap_servers: str, pool: Pool) -> Adapters:
    """Return the real ones."""
    elsewhere = Elsewhere(bootstrap_servers)

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
        guards=Engines.in_process(),
        publisher=exactly_once if settings.delivery == "exactly-once" else at_least_once,
        elsewhere=elsewhere,
    )
