"""What is known before a workflow is looked at: whether this command was decided, and whether it still may be.

The key is (root id, command id). Content is the body without `submitted_at` and token, so a retry that
only stamps a new time is the same command.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from contracts.commands import Command
from contracts.rejections import Code
from domain.canonical import canonical
from domain.instants import written
from domain.rejections import Refusal, refusal

NOT_CONTENT = frozenset({"submitted_at", "token"})
DELAY_SPARE = timedelta(hours=1)
"""How long before it would be forgotten the time of a delayed command must come: its tick may be late."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A command that was decided: its content's digest and its reply as it was written."""

    digest: bytes
    reply: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same command again: the answer is the first one's."""

    reply: bytes


def content_of(body: Mapping[str, Any]) -> bytes:
    """Return what a command says, as canonical JSON."""
    return canonical(
        body if NOT_CONTENT.isdisjoint(body) else {key: body[key] for key in body if key not in NOT_CONTENT}
    )


def content_digest(content: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256 of what a command says."""
    return sha256(content).digest()[:16]


def known(
    command: Command,
    digest: bytes,
    remembered: Remembered | None,
    *,
    now: datetime,
    database_time: datetime,
    broker_time: datetime,
    window: timedelta,
) -> Repeated | Refusal | None:
    """Return the stored reply, a refusal, or None for a command to decide.

    Age counts from `submitted_at`, at the latest from the broker's time, so what was forgotten cannot run again
    by being read again, whatever its sender's clock said. It is reckoned by the database's clock, by which outcomes
    are forgotten, also where `now` is another.
    """
    submitted_at = broker_time if command.submitted_at is None else min(command.submitted_at, broker_time)
    if submitted_at < database_time - window:
        return refusal(
            Code.EXPIRED,
            f"submitted at {written(submitted_at)}, which is longer ago than commands are remembered",
            clause="submitted_at >= now - window",
            values={
                "submitted_at": written(submitted_at),
                "now": written(database_time),
                "window_s": window.total_seconds(),
            },
        )
    if remembered is not None and remembered.digest == digest:
        return Repeated(remembered.reply)
    if command.expires_at is not None and command.expires_at <= now:
        return refusal(
            Code.EXPIRED,
            f"expired at {written(command.expires_at)}",
            clause="expires_at > now",
            values={"expires_at": written(command.expires_at), "now": written(now)},
        )
    if command.not_before is not None and command.not_before > now:
        return refusal(
            Code.INVALID_COMMAND,
            f"not_before is {written(command.not_before)}, and commands are remembered for {window.days} days: "
            "send it later, under a new id",
            clause="not_before < submitted_at + window - 1h",
            values={"not_before": written(command.not_before), "submitted_at": written(submitted_at)},
        )
    if remembered is not None:
        return refusal(
            Code.COMMAND_ID_REUSED,
            f"command id {command.command_id} was used for another command; send a new id",
        )
    return None
