"""What a guard may look at: the whole, and any part of it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import COMMANDS
from domain.guards import VARIABLES, Inputs, cut
from domain.workflow import Workflow

NOW = "2026-11-21T09:30:00.000000Z"
MOVE = {
    "command_type": "request_transition",
    "command_id": "11111111-2222-4333-8444-555555555555",
    "workflow_id": "w",
    "transition": "pull",
    "requested_by": "ann",
    "expected_version": 3,
    "occurred_at": "2026-11-21T11:00:00+02:00",
    "context": {"qc": {"passed": True, "by": None}, "items": [{"n": 1}], "n": 0, "text": ""},
}
CREATE = {
    "command_type": "create_workflow",
    "command_id": "11111111-2222-4333-8444-666666666666",
    "workflow_id": "w",
    "definition": "d",
    "estimated_seconds": 1.5,
    "metadata": {"a": {"b": {}}},
}
MIGRATE = {
    "command_type": "migrate_workflow",
    "command_id": "11111111-2222-4333-8444-777777777777",
    "workflow_id": "w",
    "reason": "r",
    "to_version": 2,
    "states": {"x": "y"},
}
BARE = Workflow("w", "w", "d", 1, "new", 3, 4, NOW, NOW, {})
FULL = BARE._replace(
    metadata={"qc": {"passed": False}},
    retry_count=2,
    output={"n": 1},
    slas={"reply": {"run": 1, "status": "met"}, "answer": {"run": 2, "status": "on_track"}},
)


def inputs(workflow: Workflow, body: dict[str, Any]) -> Inputs:
    """Return what a guard sees of a command on a workflow."""
    return Inputs(workflow, COMMANDS.validate_python(body), NOW)


OTHERS = (
    "command_id command_type context occurred_at requested_by states estimated_seconds to_version "
    "qc passed by items n text x a b name tenant nobody model_fields __dict__"
)
FIELDS = (*Workflow._fields, *OTHERS.split())
BELOW = st.recursive(
    st.none(), lambda inner: st.none() | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4), max_leaves=8
)
READS = st.dictionaries(st.sampled_from(VARIABLES), BELOW)
ASKED = st.builds(inputs, st.sampled_from([BARE, FULL]), st.sampled_from([MOVE, CREATE, MIGRATE]))


@given(asked=ASKED, reads=READS)
def test_a_part_is_what_it_is_of_the_whole(asked: Inputs, reads: dict[str, Any]) -> None:
    """Whichever fields are read, there or not: what an engine is shown never depends on how much of it is."""
    assert cut(asked.whole(), reads) == asked.part(reads)
    assert list(reads) == list(asked.part(reads))


def test_the_whole_is_plain_json_under_each_name() -> None:
    """The command as it was sent with its defaults, the workflow with every field, SLAs by name."""
    assert {
        "workflow": FULL._asdict(),
        "command": {**MOVE, "occurred_at": "2026-11-21T09:00:00Z"},
        "actor": {"name": "ann", "tenant": None},
        "children": [],
        "slas": [
            {"name": "answer", "run": 2, "status": "on_track"},
            {"name": "reply", "run": 1, "status": "met"},
        ],
        "now": NOW,
    } == inputs(FULL, MOVE).whole()
    assert tuple(inputs(BARE, CREATE).whole()) == VARIABLES
