"""The remote engine as the settings describe it."""

from service.predicates.dialects import Dialect, Opa, PlainJson
from service.predicates.remote import Bounds, RemoteEngine
from service.predicates.transport import Http
from service.settings import Settings


def remote_engine(settings: Settings) -> RemoteEngine:
    """Return the engine at the settings' address."""
    bounds = Bounds(
        patience_seconds=settings.guard_seconds,
        seconds=settings.predicate_seconds,
        retries=settings.predicate_retries,
        concurrency=settings.predicate_concurrency,
        failures_max=settings.predicate_breaker_failures,
        open_seconds=settings.predicate_breaker_seconds,
    )
    return RemoteEngine(dialect(settings), transport(settings), bounds)


def dialect(settings: Settings) -> Dialect:
    """Return what is spoken at the settings' address."""
    url, batch_max = settings.predicate_url or "", settings.predicate_batch_max
    if settings.predicate_dialect == "opa":
        return Opa(url, batch_max, settings.predicate_opa_batch)
    return PlainJson(url, batch_max)


def transport(settings: Settings) -> Http:
    """Return what carries requests there."""
    return Http(connections=settings.predicate_concurrency, token_file=settings.predicate_token_file)
