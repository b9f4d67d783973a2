"""A workflow as it stands: the fold of its events, byte for byte what the store's row holds.

Instants are text as `domain.instants` writes them, so that folding and storing never reformat.
"""

from typing import Any, NamedTuple

import orjson

from domain.canonical import canonical


class Workflow(NamedTuple):
    """One instance of a definition; `version` is 1 at creation and rises by 1 per accepted change."""

    workflow_id: str
    root_id: str
    definition: str
    definition_version: int
    state: str
    version: int
    sequence: int
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    tenant: str | None = None
    name: str | None = None
    type: str | None = None
    service_area: str | None = None
    owner: str | None = None
    priority: str | None = None
    initiated_by: str | None = None
    previous_state: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    due_at: str | None = None
    estimated_seconds: float | None = None
    retry_count: int = 0
    last_error: str | None = None
    input: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    slas: dict[str, Any] | None = None


_FIELDS = Workflow._fields
_REQUIRED = object()
_DEFAULTS = tuple(Workflow._field_defaults.get(field, _REQUIRED) for field in _FIELDS)


def dump(workflow: Workflow) -> bytes:
    """Write a workflow as canonical JSON; fields at their default are left out."""
    return canonical(
        {
            field: value
            for field, value, default in zip(_FIELDS, workflow, _DEFAULTS, strict=True)
            if value is not default  # each default is None or 0, of which there is one
        }
    )


def parse(body: bytes) -> Workflow:
    """Read what `dump` wrote."""
    return Workflow(**orjson.loads(body))
