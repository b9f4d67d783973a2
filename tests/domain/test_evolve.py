"""Folding a history gives its workflow, and a merge patch does what RFC 7396 shows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evolve import evolve, fold, merge_patch
from domain.workflow import Workflow, dump, parse

AT = "2026-11-21T09:30:0{}.000000Z"
CREATED: dict[str, Any] = {
    "event_id": "e1",
    "sequence": 1,
    "workflow_id": "w",
    "root_id": "w",
    "definition": "shop.door",
    "definition_version": 1,
    "to_state": "shut",
    "version": 1,
    "timestamp": AT.format(0),
    "metadata": {"colour": "red", "size": {"height": 2, "width": 1}},
    "actor": "ann",
    "tenant": "acme",
    "details": {"name": "front", "estimated_seconds": 60},
}
OPENED = {"sequence": 2, "version": 2, "workflow_id": "w", "to_state": "open", "timestamp": AT.format(1)}
PAINTED = {
    "sequence": 3,
    "version": 3,
    "workflow_id": "w",
    "timestamp": AT.format(2),
    "metadata": {"colour": "blue", "size": {"width": None}},
}
BRICKED = {
    "sequence": 4,
    "version": 4,
    "workflow_id": "w",
    "to_state": "bricked",
    "timestamp": AT.format(3),
    "details": {"terminal": True, "output": {"bricks": 90}, "error": "no door"},
    "retry_count": 1,
}
JSON = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from("xy"),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def test_a_history_folds_to_its_workflow() -> None:
    """Creation, transition, patch and end each leave what they say, field by field."""
    expected = Workflow(
        workflow_id="w",
        root_id="w",
        definition="shop.door",
        definition_version=1,
        state="bricked",
        previous_state="open",
        version=4,
        sequence=4,
        created_at=AT.format(0),
        updated_at=AT.format(3),
        started_at=AT.format(1),
        completed_at=AT.format(3),
        metadata={"colour": "blue", "size": {"height": 2}},
        tenant="acme",
        initiated_by="ann",
        name="front",
        estimated_seconds=60,
        retry_count=1,
        last_error="no door",
        output={"bricks": 90},
    )
    assert expected == fold([CREATED, OPENED, PAINTED, BRICKED])


def test_no_history_is_no_workflow() -> None:
    """Nothing folds to nothing."""
    assert fold([]) is None


@pytest.mark.parametrize("history", [[OPENED], [CREATED, PAINTED], [CREATED, OPENED, OPENED], [CREATED, CREATED]])
def test_a_gap_or_a_repeat_is_refused(history: list[dict[str, Any]]) -> None:
    """An event that does not follow its workflow is never folded in silence."""
    with pytest.raises(ValueError, match=r"sequence|follow"):
        fold(history)


def test_the_workflow_before_is_left_as_it_was() -> None:
    """A change makes a new workflow: what a turn started from is still there to be compared."""
    metadata = {"colour": "red", "size": {"height": 2, "width": 1}}
    before = evolve(None, CREATED | {"metadata": metadata})
    evolve(evolve(before, OPENED), PAINTED)
    assert ("shut", 1) == (before.state, before.version)
    assert {"colour": "red", "size": {"height": 2, "width": 1}} == before.metadata == metadata


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_workflow_is_read_as_it_was_written(length: int) -> None:
    """Row and fold are the same bytes, and the same value, after each event."""
    workflow = fold([CREATED, OPENED, PAINTED, BRICKED][:length])
    assert workflow is not None
    assert workflow == parse(dump(workflow))
    assert dump(workflow) == dump(parse(dump(workflow)))


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_by_the_examples_of_its_rfc(
    target: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    """RFC 7396, appendix A, where both sides are objects."""
    assert expected == merge_patch(target, patch)


def _by_the_rfc(target: object, patch: object) -> object:
    """Write down RFC 7396's own pseudocode."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _by_the_rfc(result.get(name), value)
    return result


@given(OBJECTS, OBJECTS)
def test_merge_patch_by_the_pseudocode_of_its_rfc(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Any two objects merge as RFC 7396's section 2 computes, twice as once."""
    expected = _by_the_rfc(target, patch)
    assert expected == merge_patch(target, patch)
    assert expected == merge_patch(merge_patch(target, patch), patch)
