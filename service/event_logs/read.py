"""A log file as a stream of events, whatever its format; every way in which it can be bad becomes an EventLogError."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from service.event_logs import csv_log, xes
from service.event_logs.csv_log import XES_COLUMNS, Columns
from service.event_logs.event import LoggedEvent, RawEvent, UnreadableLogError, logged

_SUFFIXES = (".xes", ".csv")


def read_log(path: Path, columns: Columns = XES_COLUMNS) -> Iterator[LoggedEvent]:
    """Yield the events of a .xes, .xes.gz, .csv or .csv.gz file in file order; raises EventLogError.

    Memory holds one trace of an XES file, one row of a CSV file. `columns` is about CSV alone.
    """
    index = 0
    for raw in _raw_events(path, columns):
        yield logged(raw, path=path, index=index)
        index += 1
    if not index:
        raise UnreadableLogError(path.name, "the log holds no event", "check that it is the file you mean")


def log_name(path: Path) -> str:
    """Return the file's name without what says its format: helpdesk for helpdesk.xes.gz."""
    name = path.name
    for suffix in (".gz", *_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def _raw_events(path: Path, columns: Columns) -> Iterator[RawEvent]:
    zipped = path.name.lower().endswith(".gz")
    suffix = Path(path.name[:-3] if zipped else path.name).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UnreadableLogError(path.name, "its name says no known format", "name it .xes, .xes.gz, .csv or .csv.gz")
    try:
        with _opened(path, zipped=zipped) as stream:
            if suffix == ".xes":
                yield from xes.raw_events(stream, path.name)
            else:
                yield from csv_log.raw_events(stream, path.name, columns)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise UnreadableLogError(
                path.name, f"it is not gzip ({error})", "unpack it or take .gz off its name"
            ) from None
        raise UnreadableLogError(
            path.name, error.strerror or str(error), "check the path and its permissions"
        ) from None
    except (EOFError, zlib.error) as error:
        raise UnreadableLogError(
            path.name, f"its gzip data is cut or damaged ({error})", "fetch the file again"
        ) from None


def _opened(path: Path, *, zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")
