"""The shipped definitions, each pair of states put to `decide` against tables written by hand."""

from dataclasses import dataclass, field
from itertools import product
from uuid import UUID

import pytest

from contracts.commands import COMMANDS
from contracts.predicates import Verdict
from contracts.rejections import Code
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition
from domain.guards import Question
from domain.rejections import Refusal
from domain.workflow import Workflow
from service.definitions.files import read_definition, shipped
from tests.fakes.machines import identified

NOW = "2026-11-21T09:30:00.000000Z"
ALLOW = Verdict(outcome="allow", engine="scripted")
Pairs = dict[tuple[str, str], str]


def pairs(**transitions: str) -> Pairs:
    """Read `name="a b > c"`: the transition leads from each of a and b to c."""
    split = {name: text.split(" > ") for name, text in transitions.items()}
    return {(source, target): name for name, (sources, target) in split.items() for source in sources.split()}


@dataclass(frozen=True)
class Table:
    """What SPEC says of a definition; the first state is the initial one, and an event without a type is usual."""

    states: str
    terminal: str
    transitions: Pairs
    events: dict[str, str]
    prefix: str
    kind: str = "workflow"
    created: str = "CREATED"
    usual: str = "TRANSITION"
    guarded: bool = False
    max_open: int | None = None
    max_retries: int | None = None
    retry: str | None = None
    final: Code = Code.TERMINAL_STATE
    metadata_default: dict[str, str] = field(default_factory=dict)


LABORATORY = "CREATED ACTIVE PAUSED COMPLETED FAILED CANCELLED"
STRICT = pairs(
    activate="CREATED > ACTIVE",
    pause="ACTIVE > PAUSED",
    resume="PAUSED > ACTIVE",
    complete="ACTIVE > COMPLETED",
    fail="ACTIVE > FAILED",
    cancel="ACTIVE PAUSED > CANCELLED",
)
TABLES = {
    "alims.workflow": Table(
        LABORATORY,
        "COMPLETED CANCELLED",
        STRICT | pairs(recover="FAILED > ACTIVE", cancel="ACTIVE PAUSED FAILED > CANCELLED"),
        {"fail": "FAILED", "recover": "RECOVERED"},
        "alims",
        guarded=True,
        max_open=1000,
        retry="recover",
        metadata_default={"type": "LIMS_WORKFLOW"},
    ),
    "alims.workflow_strict": Table(
        LABORATORY,
        "COMPLETED FAILED CANCELLED",
        STRICT,
        {"fail": "FAILED"},
        "alims",
        guarded=True,
        max_open=1000,
        metadata_default={"type": "LIMS_WORKFLOW"},
    ),
    "polaris.task": Table(
        "new in_progress blocked completed cancelled",
        "completed cancelled",
        pairs(
            start="new > in_progress",
            block="new in_progress > blocked",
            unblock="blocked > in_progress",
            complete="in_progress > completed",
            cancel="new in_progress blocked > cancelled",
        ),
        {},
        "polaris",
        kind="task",
        usual="TaskStateChanged",
        final=Code.INVALID_TRANSITION,
    ),
    "polaris.action_plan": Table(
        "draft active archived",
        "archived",
        pairs(activate="draft > active", archive="draft active > archived"),
        {"activate": "ActionPlanActivated", "archive": "ActionPlanArchived"},
        "polaris",
        final=Code.INVALID_TRANSITION,
    ),
    "gndp.process": Table(
        "pending running suspended completed failed cancelled",
        "completed cancelled",
        pairs(
            start="pending > running",
            suspend="running > suspended",
            resume="suspended > running",
            complete="running > completed",
            fail="running > failed",
            retry="failed > running",
            cancel="pending running suspended failed > cancelled",
        ),
        {
            "start": "PROCESS_STARTED",
            "suspend": "PROCESS_SUSPENDED",
            "resume": "PROCESS_RESUMED",
            "complete": "PROCESS_COMPLETED",
            "fail": "PROCESS_FAILED",
            "retry": "PROCESS_STARTED",
            "cancel": "PROCESS_CANCELLED",
        },
        "gndp",
        max_retries=3,
        retry="retry",
    ),
    "gndp.task": Table(
        "pending assigned in_progress completed failed skipped cancelled",
        "completed skipped cancelled",
        pairs(
            assign="pending > assigned",
            start="pending assigned > in_progress",
            release="assigned > pending",
            complete="in_progress > completed",
            fail="in_progress > failed",
            retry="failed > pending",
            skip="pending > skipped",
            cancel="pending assigned in_progress > cancelled",
        ),
        {"assign": "TASK_ASSIGNED", "start": "TASK_STARTED", "complete": "TASK_COMPLETED", "fail": "TASK_FAILED"},
        "gndp",
        kind="task",
        created="TASK_CREATED",
        max_retries=3,
        retry="retry",
    ),
}
PAIRS = [(name, *pair) for name, table in TABLES.items() for pair in product(table.states.split(), repeat=2)]
RETRIED = [name for name, table in TABLES.items() if table.max_retries is not None]


def definition(name: str) -> Definition:
    """Read a shipped definition."""
    parsed = read_definition(shipped()[name])
    assert [] == [finding for finding in parsed.findings if finding.severity != "note"]
    assert parsed.definition is not None
    return parsed.definition


def moved(name: str, source: str, target: str, *, retry_count: int = 0) -> Accepted | Refusal:
    """Ask for a state of a workflow that is in another, whose guard allows."""
    workflow = Workflow(
        workflow_id="w",
        root_id="w",
        definition=name,
        definition_version=1,
        state=source,
        version=4,
        sequence=4,
        created_at=NOW,
        updated_at=NOW,
        started_at=NOW,
        metadata={},
        retry_count=retry_count,
    )
    body = {
        "command_type": "request_transition",
        "command_id": identified(name),
        "workflow_id": "w",
        "target_state": target,
    }
    command = COMMANDS.validate_python(body)
    circumstances = Circumstances(NOW, UUID(int=1), body["command_id"])
    decision = decide(command, workflow, definition(name), facts=Facts(), circumstances=circumstances)
    if isinstance(decision, Question):
        decision = conclude(decision, ALLOW, command, workflow, definition(name), circumstances)
    assert isinstance(decision, Accepted | Refusal)
    return decision


def test_each_definition_that_ships_has_its_table() -> None:
    """None comes without one."""
    assert set(TABLES) == set(shipped())


@pytest.mark.parametrize(("name", "source", "target"), PAIRS)
def test_each_pair_of_states(name: str, source: str, target: str) -> None:
    """A pair of the table is taken, with its event; every other is refused, an end by the definition's own code."""
    table = TABLES[name]
    transition = table.transitions.get((source, target))
    decision = moved(name, source, target)
    if transition is None:
        final = source in table.terminal.split()
        assert isinstance(decision, Refusal)
        assert (table.final if final else Code.INVALID_TRANSITION, final) == (decision.code, decision.allowed == ())
        return
    assert isinstance(decision, Accepted)
    (event,) = decision.events
    closes = target in table.terminal.split()
    assert (transition, table.events.get(transition, table.usual), source, target, target) == (
        event["transition"],
        event["event_type"],
        event["from_state"],
        event["to_state"],
        decision.workflow.state,
    )
    assert (-1 if closes else 0, closes) == (decision.open_delta, decision.workflow.completed_at is not None)
    assert int(transition == table.retry) == decision.workflow.retry_count == event.get("retry_count", 0)


@pytest.mark.parametrize("name", TABLES)
def test_the_frame_of_each(name: str) -> None:
    """States, ends, limits, metadata, guards and event types are as promised."""
    read, table = definition(name), TABLES[name]
    events = read.event_types
    assert (read.name, read.version, read.kind) == (name, 1, table.kind)
    assert (table.states.split(), table.states.split()[0]) == ([*read.states], read.initial)
    assert set(table.terminal.split()) == read.terminal
    assert table.transitions == {(way.source, way.target): way.name for way in read.transitions}
    assert {table.guarded} == {way.guard is not None for way in read.transitions}
    assert (table.max_open, table.max_retries) == (read.max_open, read.max_retries)
    assert table.metadata_default == read.metadata_default
    assert (table.prefix, table.created, table.usual) == (events.prefix, events.created, events.transition)
    assert table.events == events.by_transition


@pytest.mark.parametrize("name", RETRIED)
def test_spent_retries_are_refused(name: str) -> None:
    """The last retry is taken and counted, the next is refused with why, and no longer shown as a way."""
    table = TABLES[name]
    most = table.max_retries or 0
    ((source, target),) = [pair for pair, transition in table.transitions.items() if transition == table.retry]
    last = moved(name, source, target, retry_count=most - 1)
    assert isinstance(last, Accepted)
    assert most == last.workflow.retry_count
    spent = moved(name, source, target, retry_count=most)
    assert isinstance(spent, Refusal)
    assert (Code.LIMIT_REACHED, {"retry_count": most, "max_retries": most}) == (spent.code, (spent.why or {})["values"])
    left = {transition for (start, _), transition in table.transitions.items() if start == source} - {table.retry}
    assert left == {way["transition"] for way in spent.allowed or ()}
