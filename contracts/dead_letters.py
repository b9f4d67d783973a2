"""What could not be read, kept whole enough to be looked at and sent again."""

from enum import StrEnum
from typing import Literal

from contracts.envelope import Contract, Instant

VALUE_BYTES_MAX = 256 * 1024
HEADER_BYTES_MAX = 64 * 1024


class DeadLetterReason(StrEnum):
    """Why a record could not be read as a command, or not be decided."""

    EMPTY = "EMPTY"
    NOT_JSON = "NOT_JSON"
    NOT_A_COMMAND = "NOT_A_COMMAND"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_HOPS = "TOO_MANY_HOPS"
    BAD_TICK = "BAD_TICK"
    NOT_STORABLE = "NOT_STORABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class DeadLetter(Contract):
    """One unreadable record: where it was, why, and at most its first 256 KiB and 64 KiB of headers, in base64."""

    topic: str
    partition: int
    offset: int
    broker_time: Instant
    reason: DeadLetterReason
    message: str
    key: str | None = None
    value: str | None = None
    encoding: Literal["base64"] = "base64"
    value_length: int
    value_sha256: str
    truncated: bool = False
    headers: tuple[tuple[str, str | None], ...] = ()
