"""The shipped laboratory definitions, each pair of states against a table written by hand."""

from itertools import product

import pytest

from domain.definition import Definition
from service.definitions.files import read_definition, shipped

STATES = ("CREATED", "ACTIVE", "PAUSED", "COMPLETED", "FAILED", "CANCELLED")
STRICT = {
    ("CREATED", "ACTIVE"): "activate",
    ("ACTIVE", "PAUSED"): "pause",
    ("ACTIVE", "COMPLETED"): "complete",
    ("ACTIVE", "FAILED"): "fail",
    ("ACTIVE", "CANCELLED"): "cancel",
    ("PAUSED", "ACTIVE"): "resume",
    ("PAUSED", "CANCELLED"): "cancel",
}
USUAL = STRICT | {("FAILED", "ACTIVE"): "recover", ("FAILED", "CANCELLED"): "cancel"}
TABLES = {"alims.workflow": USUAL, "alims.workflow_strict": STRICT}
TERMINAL = {
    "alims.workflow": {"COMPLETED", "CANCELLED"},
    "alims.workflow_strict": {"COMPLETED", "CANCELLED", "FAILED"},
}


def definition(name: str) -> Definition:
    """Read a shipped definition."""
    parsed = read_definition(shipped()[name])
    assert parsed.findings == ()
    assert parsed.definition is not None
    return parsed.definition


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("source", "target"), [*product(STATES, STATES)])
def test_each_pair_of_states(name: str, source: str, target: str) -> None:
    """A pair has the transition of the table, guarded, or none."""
    reaching = definition(name).by_target.get((source, target), ())
    expected = TABLES[name].get((source, target))
    assert [expected] * (expected is not None) == [transition.name for transition in reaching]
    assert all(transition.guard is not None for transition in reaching)


@pytest.mark.parametrize("name", TABLES)
def test_the_frame_of_each(name: str) -> None:
    """States, ends, limit, metadata and event types are as promised."""
    read = definition(name)
    events = read.event_types
    recovered = {"recover": "RECOVERED"} if name == "alims.workflow" else {}
    assert (read.name, read.version, read.kind, read.initial) == (name, 1, "workflow", "CREATED")
    assert tuple(read.states) == STATES
    assert read.terminal == TERMINAL[name]
    assert len(read.transitions) == len(TABLES[name])
    assert (read.max_open, read.metadata_default) == (1000, {"type": "LIMS_WORKFLOW"})
    assert (events.prefix, events.created, events.transition) == ("alims", "CREATED", "TRANSITION")
    assert events.by_transition == {"fail": "FAILED"} | recovered
