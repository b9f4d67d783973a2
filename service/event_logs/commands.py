"""The commands that replay a log: each case is created at its first event's instant, then moved event by event.

Ids depend on the log's name, the case and the event's place within it alone, so that an import that starts over,
or that brings a log with later events, repeats the same ids and doubles nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import orjson

from domain.instants import written
from service.event_logs.event import NAME_LENGTH_MAX, LoggedEvent, UnusableEventError, in_order, nameable

_NAMESPACE = UUID("5b0f2d2e-6c1f-4b52-9f43-0d6f8f1d7a10")
_CREATION = 0


@dataclass(frozen=True, slots=True)
class Import:
    """Where a log goes: `log` prefixes the workflow ids, `definition` judges (its latest version unless one is named).

    A log imported against another definition needs another name: workflows are unique store-wide.
    """

    log: str
    definition: str
    definition_version: int | None = None


class Outgoing(NamedTuple):
    """A command ready to send under its root's key. `asks` is the target state, None for a creation.

    `root_id` is None for the workflow itself; `at` is when it happened, where time is logical.
    """

    command_id: str
    workflow_id: str
    asks: str | None
    value: bytes
    root_id: str | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    at: datetime | None = None

    @property
    def root(self) -> str:
        """Return the root's id, which decides the partition."""
        return self.root_id or self.workflow_id

    @property
    def key(self) -> bytes:
        """Return the record's key: the root id."""
        return self.root.encode()


def as_commands(events: Iterable[LoggedEvent], target: Import) -> Iterator[Outgoing]:
    """Yield the commands in the order in which things happened, ties in file order, each creation before its case.

    Raises UnusableEventError before the first where `check_ids` does.
    """
    ordered = in_order(list(events))
    check_ids(ordered, target.log)
    places: Counter[str] = Counter()
    for event in ordered:
        if event.case not in places:
            yield _creation(event, target)
        places[event.case] += 1
        yield _transition(event, target, places[event.case])


def check_ids(events: Iterable[LoggedEvent], log: str) -> None:
    """Raise UnusableEventError where a log's name and one of its cases make no workflow id."""
    if not nameable(log):
        raise UnusableEventError("the log", f"its name {log!r} is no plain text", "give it another by --name")
    for event in events:
        workflow = workflow_id(log, event.case)
        if len(workflow) > NAME_LENGTH_MAX:
            problem = f"the workflow id {workflow[:60]!r}… has {len(workflow)} characters"
            remedy = f"take a shorter log name: {NAME_LENGTH_MAX} at most"
            raise UnusableEventError(f"event {event.index + 1}", problem, remedy)


def number_of_commands(events: Iterable[LoggedEvent]) -> int:
    """Return how many commands `as_commands` yields: the events and a creation per case."""
    cases = Counter(event.case for event in events)
    return cases.total() + len(cases)


def workflow_id(log: str, case: str) -> str:
    """Return the id of a case's workflow: helpdesk:Case 1."""
    return f"{log}:{case}"


def command_id(log: str, case: str, place: int) -> str:
    """Return the id of the command for a case's event number `place`, from 1; 0 is the creation's."""
    return str(uuid5(_NAMESPACE, f"{log}\n{case}\n{place}"))


def _creation(event: LoggedEvent, target: Import) -> Outgoing:
    fields: dict[str, Any] = {"definition": target.definition, "name": event.case}
    if target.definition_version is not None:
        fields["definition_version"] = target.definition_version
    return _outgoing("create_workflow", event, target, place=_CREATION, fields=fields)


def _transition(event: LoggedEvent, target: Import, place: int) -> Outgoing:
    fields: dict[str, Any] = {"target_state": event.activity}
    if event.attributes:
        fields["context"] = event.attributes
    return _outgoing("request_transition", event, target, place=place, fields=fields)


def _outgoing(command_type: str, event: LoggedEvent, target: Import, *, place: int, fields: dict[str, Any]) -> Outgoing:
    workflow = workflow_id(target.log, event.case)
    command: dict[str, Any] = {
        "command_type": command_type,
        "command_id": command_id(target.log, event.case, place),
        "workflow_id": workflow,
        "occurred_at": written(event.occurred_at),
        **fields,
    }
    if event.resource is not None:
        command["requested_by"] = event.resource
    value = orjson.dumps(command)
    return Outgoing(command["command_id"], workflow, fields.get("target_state"), value, at=event.occurred_at)
