"""What an event does to a workflow. Folding a workflow's events over `evolve` gives its row."""

from collections.abc import Iterable, Mapping
from typing import Any

from domain.workflow import Workflow

Json = Mapping[str, Any]

MIGRATION = "definition"
"""The category of an event that takes a workflow to another version of its definition."""
SLA = "sla"
"""The category of an event about SLAs; one that comes of another event, or of time, leaves the version as it is."""
CREATED_DETAILS = ("name", "type", "service_area", "owner", "priority", "due_at", "estimated_seconds", "input")


def evolve(workflow: Workflow | None, event: Json) -> Workflow:
    """Return the workflow after `event`; None before its first.

    An event without a workflow is a creation, one of the category `MIGRATION` a migration, any other with `to_state` a
    transition, with `metadata` a merge patch; `changed` in its details are fields that get other values. The records
    in `slas` take the places of those before. Raises ValueError where the event does not follow the workflow.
    """
    if workflow is None:
        return _created(event)
    if event["sequence"] != workflow.sequence + 1:
        raise ValueError(f"event {event['sequence']} does not follow {workflow.sequence} of {workflow.workflow_id}")
    if event.get("category") == MIGRATION:
        return _migrated(workflow, event)
    if "to_state" in event:
        return _moved(workflow, event)
    return workflow._replace(
        version=event["version"],
        sequence=event["sequence"],
        updated_at=event["timestamp"],
        metadata=merge_patch(workflow.metadata, event["metadata"]) if "metadata" in event else workflow.metadata,
        slas=_promised(workflow, event),
        **event.get("details", {}).get("changed", {}),
    )


def with_slas(workflow: Workflow, event: Json) -> Workflow:
    """Return a workflow with the records of an event that has some."""
    return workflow._replace(slas=_promised(workflow, event))


def _promised(workflow: Workflow, event: Json) -> dict[str, Any] | None:
    return {**(workflow.slas or {}), **event["slas"]} if "slas" in event else workflow.slas


def fold(events: Iterable[Json]) -> Workflow | None:
    """Return the workflow that a history makes."""
    workflow = None
    for event in events:
        workflow = evolve(workflow, event)
    return workflow


def merge_patch(target: Json, patch: Json) -> dict[str, Any]:
    """Return `target` with an RFC 7396 merge patch applied."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge_patch(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _created(event: Json) -> Workflow:
    details = event.get("details", {})
    if event["sequence"] != 1:
        raise ValueError(f"the first event of {event['workflow_id']} has sequence {event['sequence']}")
    return Workflow(
        workflow_id=event["workflow_id"],
        root_id=event["root_id"],
        definition=event["definition"],
        definition_version=event["definition_version"],
        state=event["to_state"],
        version=event["version"],
        sequence=event["sequence"],
        created_at=event["timestamp"],
        updated_at=event["timestamp"],
        completed_at=event["timestamp"] if details.get("terminal") else None,
        metadata=event.get("metadata", {}),
        tenant=event.get("tenant"),
        initiated_by=event.get("actor"),
        slas=event.get("slas"),
        **{field: details[field] for field in CREATED_DETAILS if field in details},
    )


def _moved(workflow: Workflow, event: Json) -> Workflow:
    details = event.get("details", {})
    at = event["timestamp"]
    return workflow._replace(
        state=event["to_state"],
        previous_state=workflow.state,
        version=event["version"],
        sequence=event["sequence"],
        updated_at=at,
        started_at=workflow.started_at or at,
        completed_at=at if details.get("terminal") else None,
        retry_count=event.get("retry_count", 0),
        last_error=details.get("error", workflow.last_error),
        output=details.get("output", workflow.output),
        slas=_promised(workflow, event),
    )


def _migrated(workflow: Workflow, event: Json) -> Workflow:
    """Leave what the last transition left, so that an undo gives back what was there before."""
    at = event["timestamp"]
    return workflow._replace(
        definition_version=event["definition_version"],
        state=event["to_state"],
        version=event["version"],
        sequence=event["sequence"],
        updated_at=at,
        completed_at=at if event.get("details", {}).get("terminal") else None,
        slas=_promised(workflow, event),
    )
