"""Deterministic ids: the same change has the same event id wherever and however often it is made."""

from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from hashlib import _Hash

_VERSION_5 = "5"
_VARIANT = "89ab"


def event_id(incarnation: UUID, workflow_id: str, sequence: int) -> str:
    """Return uuid5(incarnation, "workflow_id:sequence") as text; the standard library's takes three times as long."""
    hashed = _begun(incarnation).copy()
    hashed.update(f"{workflow_id}:{sequence}".encode())
    digest = hashed.hexdigest()
    variant = _VARIANT[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-{_VERSION_5}{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def follow_up_id(event: str, rule: str, index: int) -> str:
    """Return the id of what the service itself sends because of an event: uuid5(event id, "rule:index")."""
    return str(uuid5(UUID(event), f"{rule}:{index}"))


@lru_cache(maxsize=1024)
def _begun(incarnation: UUID) -> "_Hash":
    return sha1(incarnation.bytes, usedforsecurity=False)
