"""Why a command was refused: the codes, their HTTP statuses and the shape of a rejection.

The order of the members is the order of the checks; the first failure is the rejection.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Any

from contracts.envelope import Contract, JsonObject


class Code(StrEnum):
    """The rejection codes, in the order in which they are checked."""

    INVALID_COMMAND = "INVALID_COMMAND"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    EXPIRED = "EXPIRED"
    COMMAND_ID_REUSED = "COMMAND_ID_REUSED"
    UNKNOWN_DEFINITION = "UNKNOWN_DEFINITION"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    NOT_FOUND = "NOT_FOUND"
    TERMINAL_STATE = "TERMINAL_STATE"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    FORBIDDEN = "FORBIDDEN"
    DEPENDENCIES_UNMET = "DEPENDENCIES_UNMET"
    GUARD_DENIED = "GUARD_DENIED"
    PREDICATE_UNAVAILABLE = "PREDICATE_UNAVAILABLE"
    LIMIT_REACHED = "LIMIT_REACHED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


STATUS = MappingProxyType(
    {
        Code.INVALID_COMMAND: 400,
        Code.UNAUTHENTICATED: 401,
        Code.EXPIRED: 410,
        Code.COMMAND_ID_REUSED: 409,
        Code.UNKNOWN_DEFINITION: 400,
        Code.ALREADY_EXISTS: 409,
        Code.NOT_FOUND: 404,
        Code.TERMINAL_STATE: 409,
        Code.VERSION_CONFLICT: 409,
        Code.INVALID_TRANSITION: 400,
        Code.FORBIDDEN: 403,
        Code.DEPENDENCIES_UNMET: 409,
        Code.GUARD_DENIED: 400,
        Code.PREDICATE_UNAVAILABLE: 503,
        Code.LIMIT_REACHED: 409,
        Code.INTERNAL_ERROR: 500,
    }
)

# A refusal that may pass when sent again: it does not bind the command id.
RETRYABLE = frozenset({Code.PREDICATE_UNAVAILABLE})


class AllowedTransition(Contract):
    """A transition the workflow could take now, whether or not its guard would allow it."""

    transition: str
    target_state: str
    guarded: bool


class Rejection(Contract):
    """One refusal: `code`, a sentence, `why` (the failing clause and the values it saw), what is allowed now.

    Where a guard was asked, `why.verdict` holds its provenance, as an event's `verdict` does.
    """

    code: Code
    status: int
    message: str
    retryable: bool = False
    why: dict[str, Any] | None = None
    allowed: tuple[AllowedTransition, ...] | None = None
    details: JsonObject | None = None
