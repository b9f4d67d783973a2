"""What is stored in versions that never change: definitions, calendars and configured SLAs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.store.pool import Connection

APPLY_LOCK = 7405
Kind = Literal["definition", "calendar", "sla_config"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as the store has it; `source` is the text that was applied."""

    name: str
    version: int
    digest: str
    applied_at: datetime
    applied_by: str | None
    source: str


class VersionTakenError(Exception):
    """The version is taken by other content."""


class UnreadableVersionError(Exception):
    """A version that is stored and that this build cannot read; no `Fault`: who does not need it can go on."""

    def __init__(self, what: str, findings: object) -> None:
        super().__init__(
            f"{what} is not one that this build reads: a later build applied it, which has to take this one's place "
            f"({findings})"
        )


async def is_applied(connection: Connection, kind: Kind, name: str, version: int, digest: str) -> bool:
    """Say whether a version is stored already, and keep others from storing any until the transaction ends.

    One lock for all of them: what is promised is checked against calendars, and calendars against what is promised.

    Raises VersionTakenError where the version has another digest.
    """
    await connection.execute("select pg_advisory_xact_lock($1)", APPLY_LOCK)
    stored = await connection.fetchval(
        f"select digest from {kind} where name = $1 and version = $2",  # noqa: S608 - one of the names above
        name,
        version,
    )
    if stored is not None and stored != digest:
        raise VersionTakenError(
            f"{name} version {version} is applied already and never changes: give the change version {version + 1}"
        )
    return stored is not None
