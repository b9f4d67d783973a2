"""The exit codes, and which error ends with which; `docs/cli.md` lists them."""

from enum import IntEnum

from aiokafka.errors import KafkaError

from client.client import ClientError, ReplyTimeout
from handlers.faults import Fault
from service.app import STUCK, NotReadyError
from service.broker.cluster import TopicsError
from service.cli.entry import INTERRUPTED
from service.event_logs.event import EventLogError
from service.local.errors import LocalStackError
from service.store.calendars import CalendarError
from service.store.partitions import WrongClusterError
from service.store.pool import DatabaseUnreachableError
from service.store.reads import TooSlowError
from service.store.schema import SchemaError
from service.store.versions import UnreadableVersionError, VersionTakenError
from service.watch import StuckError


class Exit(IntEnum):
    """What a script may rely on."""

    DONE = 0
    REFUSED = 1  # a command was rejected, a check found errors, something was not found
    USAGE = 2  # wrong words or unreadable input
    SURROUNDINGS = 3  # broker, database, schema or topics are not as needed
    TIMEOUT = 4  # no answer in time; the command may still be decided
    STUCK = STUCK  # the worker's loop or consumer was dead; a new process can go on
    INTERRUPTED = INTERRUPTED


class RefusedError(Exception):
    """What was asked for is not there or may not be."""


class UnreadableError(Exception):
    """What was given cannot be read; the message says where and why."""


EXIT_OF: dict[type[Exception], Exit] = {
    RefusedError: Exit.REFUSED,
    UnreadableError: Exit.USAGE,
    ReplyTimeout: Exit.TIMEOUT,
    TooSlowError: Exit.TIMEOUT,
    ClientError: Exit.SURROUNDINGS,
    NotReadyError: Exit.SURROUNDINGS,
    TopicsError: Exit.SURROUNDINGS,
    LocalStackError: Exit.SURROUNDINGS,
    WrongClusterError: Exit.SURROUNDINGS,
    DatabaseUnreachableError: Exit.SURROUNDINGS,
    SchemaError: Exit.SURROUNDINGS,
    StuckError: Exit.STUCK,
    Fault: Exit.SURROUNDINGS,
    KafkaError: Exit.SURROUNDINGS,
    UnreadableVersionError: Exit.SURROUNDINGS,
    VersionTakenError: Exit.REFUSED,
    CalendarError: Exit.REFUSED,
    EventLogError: Exit.USAGE,
}
EXPECTED = tuple(EXIT_OF)


def exit_of(error: Exception) -> Exit:
    """Return the code an expected error ends with."""
    return next(code for kind, code in EXIT_OF.items() if isinstance(error, kind))
