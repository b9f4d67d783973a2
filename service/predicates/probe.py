"""Whether the remote engine would judge guards: one question that nobody minds, asked as theirs are.

The policy is one that need not be there: OPA has no result for it, which is a denial and an answer like any other.
"""

from datetime import UTC, datetime
from time import perf_counter
from typing import NamedTuple

import orjson

from domain.instants import written
from service.predicates.configured import dialect, transport
from service.predicates.dialects import Put, Unreadable
from service.predicates.transport import OTHER, Failed
from service.settings import Settings

POLICY = "turnstile/doctor"


class Probed(NamedTuple):
    """How long it took, and why no verdict came, if none did."""

    seconds: float
    failed: Failed | None


async def probe(settings: Settings) -> Probed:
    """Ask once, on a connection of its own, for as long as one try may take; any verdict will do."""
    now = written(datetime.now(UTC))
    workflow = {"workflow_id": "", "definition": POLICY, "state": "", "version": 1, "metadata": {}}
    command = {"command_type": "request_transition", "workflow_id": "", "context": {}}
    actor = {"name": None, "tenant": None}
    inputs = {"workflow": workflow, "command": command, "actor": actor, "children": [], "slas": [], "now": now}
    speech, way = dialect(settings), transport(settings)
    put = Put(POLICY, orjson.dumps(inputs))
    began = perf_counter()
    try:
        found = await way.post(speech.request([put]), seconds=min(settings.predicate_seconds, settings.guard_seconds))
    finally:
        await way.close()
    seconds = perf_counter() - began
    if isinstance(found, Failed):
        return Probed(seconds, found)
    try:
        speech.verdicts([put], found)
    except Unreadable as unreadable:
        return Probed(seconds, Failed(str(unreadable), answered=True, mend=OTHER))
    return Probed(seconds, None)
