"""SLAs by configuration as stored: immutable once applied, every version kept for the runs that are under it."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from domain.sla_config import NOTHING, Configured, SlaConfig
from service.slas.files import ParsedSla, compile_stored
from service.store.calendars import check_promise
from service.store.pool import Connection, faults_of
from service.store.versions import Stored, UnreadableVersionError, is_applied

_STORED = "select name, version, digest, applied_at, applied_by, source, body from sla_config"


@dataclass(frozen=True, slots=True)
class StoredSla(Stored):
    """A configured SLA's version."""

    body: str

    def compiled(self) -> SlaConfig:
        """Compile it as it was applied."""
        found = compile_stored(orjson.loads(self.body))
        if not isinstance(found, SlaConfig):
            raise UnreadableVersionError(f"SLA {self.name} version {self.version}", found)
        return found


async def apply_sla(
    connection: Connection, parsed: ParsedSla, config: SlaConfig, source: str, *, applied_by: str | None
) -> bool:
    """Store a version; returns False where the same is stored already.

    Raises VersionTakenError, and CalendarError where what it promises is reckoned by no calendar that is stored.
    """
    with faults_of():
        async with connection.transaction():
            if await is_applied(connection, "sla_config", config.name, config.version, parsed.digest):
                return False
            if not config.retired:
                await check_promise(connection, config.terms)
            await connection.execute(
                """
                insert into sla_config (name, version, body, source, digest, applied_by)
                values ($1, $2, $3, $4, $5, $6)
                """,
                config.name,
                config.version,
                parsed.canonical.decode(),
                source,
                parsed.digest,
                applied_by,
            )
    return True


async def load_configured(connection: Connection, known: Configured = NOTHING) -> Configured:
    """Return every version, those that are known already as they are."""
    with faults_of():
        rows = await connection.fetch(
            f"""
            {_STORED} c where not exists (
                select from unnest($1::text[], $2::int[]) as known (name, version)
                 where known.name = c.name and known.version = c.version
            )
            """,
            [name for name, _ in known.versions],
            [version for _, version in known.versions],
        )
    if not rows:
        return known
    return Configured.of([*known.versions.values(), *(StoredSla(**dict(row)).compiled() for row in rows)])


async def list_slas(connection: Connection, name: str | None = None) -> Sequence[StoredSla]:
    """Return every version, newest first."""
    with faults_of():
        rows = await connection.fetch(
            f"{_STORED} where $1::text is null or name = $1 order by name, version desc",
            name,
        )
    return [StoredSla(**dict(row)) for row in rows]
