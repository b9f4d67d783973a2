"""A bulk migration as asked for: the command it sends to each workflow, and what the service will say to it.

Ids follow from what is asked and from the workflow's version, so that a run that starts over doubles nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4, uuid5

import orjson

from contracts.commands import COMMANDS
from contracts.envelope import HEADER_CORRELATION_ID, JsonObject
from domain.canonical import canonical
from domain.decide import decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition
from domain.instants import written
from domain.migration import Target, problem_of_states, target_version
from domain.rejections import Refusal
from domain.sla import Calendars
from domain.sla_config import Configured, promised
from domain.sla_events import Change, attend
from domain.workflow import Workflow
from service.event_logs.commands import Outgoing
from service.store.migrating import Standing

_NAMESPACE = UUID("0f6a5a0e-43a5-4a0b-9c55-0b7c9f8f2d31")
_NOBODY = UUID(int=0)


class Promising(NamedTuple):
    """What the SLAs of a run are foreseen with: those that are configured, every calendar, and when it would be."""

    configured: Configured
    calendars: Calendars
    now: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """Which workflows go where: the open ones on one version to another, or with `undo` those it moved, back.

    `versions` are all there are of the definition.
    """

    versions: Mapping[int, Definition]
    from_version: int
    to_version: int
    states: Mapping[str, str]
    reason: str
    by: str | None = None
    undo: bool = False
    anew: UUID | None = None
    """Of a run that asks what an earlier one was refused: it may be allowed by now, under an id that is not bound."""

    @property
    def definition(self) -> str:
        """Return the definition's name."""
        return self.versions[self.from_version].name

    @property
    def correlation_id(self) -> str:
        """Return what all of a run's events carry, its undo's too: it follows from versions and mapping."""
        asked = [self.definition, self.from_version, self.to_version, dict(self.states)]
        return str(uuid5(_NAMESPACE, canonical({"run": asked}).decode()))

    @property
    def problem(self) -> str | None:
        """Say what is wrong with the mapping, None if nothing is."""
        return problem_of_states(self.states, self.versions[self.from_version], self.versions[self.to_version])

    def is_about(self, workflow: Workflow) -> bool:
        """Whether a workflow is to be moved, as it stands: somebody else may have moved or closed it meanwhile."""
        return workflow.definition_version == self.from_version and workflow.completed_at is None

    def asked_anew(self) -> "Run":
        """Return the same run under ids that no command had."""
        return replace(self, anew=uuid4())

    def body(self, standing: Standing) -> JsonObject:
        """Return the command for a workflow as it stands; an undo expects it as the run has left it."""
        workflow, migration = standing.workflow, standing.migration
        way: JsonObject = {"undo": True} if self.undo else {"to_version": self.to_version}
        if self.states and not self.undo:
            way["states"] = dict(self.states)
        optional = {
            "root_id": None if workflow.root_id == workflow.workflow_id else workflow.root_id,
            "tenant": workflow.tenant,
            "requested_by": self.by,
        }
        body: JsonObject = {
            "command_type": "migrate_workflow",
            "workflow_id": workflow.workflow_id,
            "expected_version": workflow.version if migration is None else migration["version"],
            "reason": self.reason,
            **way,
            **{name: value for name, value in optional.items() if value is not None},
        }
        return {"command_id": str(uuid5(self.anew or UUID(self.correlation_id), canonical(body).decode())), **body}

    def command(self, standing: Standing) -> Outgoing:
        """Return the command as it is sent."""
        body = self.body(standing)
        workflow = standing.workflow
        correlation = (HEADER_CORRELATION_ID, self.correlation_id.encode())
        return Outgoing(
            body["command_id"], workflow.workflow_id, None, orjson.dumps(body), workflow.root_id, (correlation,)
        )

    def foreseen(self, standing: Standing, promising: Promising, *, room: int | None = None) -> Accepted | Refusal:
        """Decide the command for a workflow as the service will, changing nothing; `room` is left under `max_open`."""
        workflow = standing.workflow
        command = COMMANDS.validate_python(self.body(standing))
        last = standing.last if self.undo else None
        wanted = target_version(command, last) if command.command_type == "migrate_workflow" else None
        circumstances = Circumstances(written(promising.now), _NOBODY, str(command.command_id))
        decision = decide(
            command,
            workflow,
            self.versions.get(workflow.definition_version),
            facts=Facts(room={} if room is None else {workflow.definition: room}),
            circumstances=circumstances,
            target=Target(self.versions.get(wanted or 0), last),
        )
        if not isinstance(decision, Accepted | Refusal):
            raise TypeError("a migration asks no guard")
        if isinstance(decision, Refusal):
            return decision
        definition = self.versions[decision.workflow.definition_version]
        terms = promised(definition, promising.configured, decision.workflow)
        made = Change(command, decision.workflow, definition, terms, promising.calendars)
        return attend(decision, made, at=promising.now, circumstances=circumstances)
