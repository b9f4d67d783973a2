"""Brings the schema to the version this build knows, and refuses to work on one that is not meant for it.

A later schema says which builds may still work on it (`schema_floor`): so two releases run side by side while
one replaces the other.
"""

from dataclasses import dataclass


class SchemaError(Exception):
    """The database's schema is not the one this build works with; the message says what to do."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version found, None for an empty database; the one this build knows; the oldest that may still work on it."""

    found: str | None
    known: str
    floor: str | None = None

    @property
    def fits(self) -> bool:
        """Say whether this build may work on it: it is its own, or a later one that still takes this build."""
        if self.found is None or self.floor is None:
            return False
        return self.found == self.known or self.floor <= self.known < self.found


async def migrate(database_url: str) -> SchemaState:
    """Run the missing steps; safe to call at the same time from several processes."""
    from service.store.upgrade import upgrade  # noqa: PLC0415 - Alembic takes a quarter of every verb's start

    return await upgrade(database_url)


async def state(database_url: str) -> SchemaState:
    """Return the version found and the version known."""
    from service.store.upgrade import look  # noqa: PLC0415 - as above

    return await look(database_url)


async def check(database_url: str) -> None:
    """Raise SchemaError unless the schema is one that this build works on."""
    must_fit(await state(database_url))


def must_fit(found: SchemaState) -> None:
    """Raise SchemaError unless this build works on a schema."""
    if found.found is None:
        raise SchemaError("the database has no schema yet: run `turnstile db migrate`")
    if not found.fits:
        mend = "run `turnstile db migrate`" if found.found < found.known else "start the release that belongs to it"
        raise SchemaError(f"the database's schema is {found.found}, this build knows {found.known}: {mend}")
