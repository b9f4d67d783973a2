"""What the driver's errors mean: each is one of our faults, and none gets through as itself."""

import asyncpg
import pytest

from handlers.faults import Fault, Fenced, OutcomeUnknown, Poison, Transient
from service.store.pool import faults_of

ERRORS: list[tuple[Exception, type[Fault]]] = [
    (asyncpg.ConnectionDoesNotExistError("gone"), OutcomeUnknown),
    (asyncpg.InterfaceError("connection is closed"), OutcomeUnknown),
    (asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"), OutcomeUnknown),
    (ConnectionResetError(), OutcomeUnknown),
    (TimeoutError(), OutcomeUnknown),
    (asyncpg.AdminShutdownError("terminating"), Transient),
    (asyncpg.DiskFullError("no space left"), Transient),
    (asyncpg.ReadOnlySQLTransactionError("read-only"), Transient),
    (asyncpg.CharacterNotInRepertoireError("NUL"), Poison),
    (asyncpg.PostgresError.new({"C": "TS001", "M": "not at epoch"}), Fenced),
    (asyncpg.UndefinedTableError("ours"), Fault),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_each_error_of_the_driver_is_one_of_our_faults(error: Exception, expected: type[Fault]) -> None:
    """A lost connection is an unknown outcome, however the driver puts it; a full disk passes; the rest is ours."""
    with pytest.raises(Fault) as raised, faults_of(lost=OutcomeUnknown):
        raise error
    assert expected is raised.type
