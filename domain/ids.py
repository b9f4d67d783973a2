"""Deterministic ids: the same change has the same event id wherever and however often it is made."""

from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from hashlib import _Hash

_VERSION_5 = "5"
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def event_id(incarnation: UUID, workflow_id: str, sequence: int) -> str:
    """Return uuid5(incarnation, "workflow_id:sequence") as text; the standard library's takes three times as long."""
    return _version_5(_begun(incarnation), f"{workflow_id}:{sequence}")


def follow_up_id(event: str, rule: str, index: int) -> str:
    """Return the id of what the service itself sends because of an event: uuid5(event id, "rule:index")."""
    return _version_5(sha1(bytes.fromhex(event.replace("-", "")), usedforsecurity=False), f"{rule}:{index}")


def _version_5(begun: "_Hash", name: str) -> str:
    hashed = begun.copy()
    hashed.update(name.encode())
    digest = hashed.hexdigest()
    return (
        f"{digest[:8]}-{digest[8:12]}-{_VERSION_5}{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
    )


@lru_cache(maxsize=1024)
def _begun(incarnation: UUID) -> "_Hash":
    return sha1(incarnation.bytes, usedforsecurity=False)
