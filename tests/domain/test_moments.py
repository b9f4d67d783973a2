"""A workflow as it was, by version and by time, and what is different between two moments."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evolve import fold
from domain.moments import NoSuchMoment, Then, as_of, differences
from tests.domain.test_evolve import BRICKED, CREATED, OPENED, PAINTED

HISTORY: list[dict[str, Any]] = [CREATED, OPENED, PAINTED, BRICKED]  # a second apart, from 09:30:00 on
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "x"]),
    lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=5,
)
METADATA = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def at(seconds: int, micro: int = 0) -> datetime:
    """Return an instant of the history's minute."""
    return datetime(2026, 11, 21, 9, 30, seconds, micro, UTC)


@pytest.mark.parametrize(
    ("moment", "events"),
    [(1, 1), (2, 2), (4, 4), (at(0), 1), (at(0, 999_999), 1), (at(1), 2), (at(2, 1), 3), (at(3), 4), (at(59), 4)],
    ids=str,
)
def test_a_moment_is_after_the_last_event_up_to_it(moment: int | datetime, events: int) -> None:
    """A version is what it left; an instant counts what was decided at it."""
    assert Then(fold(HISTORY[:events]), events) == as_of(HISTORY, moment)  # type: ignore[arg-type] # it is one


def test_a_version_of_several_events_is_after_the_last_of_them() -> None:
    """One change may make several events."""
    history = [CREATED, OPENED, PAINTED | {"version": 2}, BRICKED | {"version": 3}]
    assert [1, 3, 4] == [then.events for version in (1, 2, 3) if isinstance(then := as_of(history, version), Then)]


def test_order_is_by_sequence_where_the_clock_went_back() -> None:
    """After a failover a later event may bear an earlier time: the last one up to the instant counts."""
    history = [CREATED, OPENED | {"timestamp": BRICKED["timestamp"]}, PAINTED, BRICKED]
    then = as_of(history, at(2))
    assert isinstance(then, Then)
    assert (3, 3) == (then.events, then.workflow.version)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (0, "has no version 0: its first is 1"),
        (5, "has no version 5 yet: it is at version 4"),
        (
            datetime(2026, 11, 21, 9, 29, 59, tzinfo=UTC),
            "did not exist at 2026-11-21T09:29:59.000000Z: it was created at 2026-11-21T09:30:00.000000Z",
        ),
    ],
    ids=str,
)
def test_before_and_beyond_there_is_nothing(moment: int | datetime, reason: str) -> None:
    """Each with what there is instead."""
    assert NoSuchMoment(reason) == as_of(HISTORY, moment)
    assert NoSuchMoment("has no events") == as_of([], moment)


def test_differences_name_the_innermost_field() -> None:
    """What was not there before, or is not afterwards, has no value on that side."""
    before, after = fold(HISTORY[:2]), fold(HISTORY)
    assert before is not None
    assert after is not None
    times = {"updated_at", "sequence", "version", "completed_at", "retry_count", "last_error", "output"}
    assert [
        {"path": ("state",), "before": "open", "after": "bricked"},
        {"path": ("metadata", "colour"), "before": "red", "after": "blue"},
        {"path": ("metadata", "size", "width"), "before": 1},
        {"path": ("previous_state",), "before": "shut", "after": "open"},
    ] == [each for each in differences(before, after) if each["path"][0] not in times]
    assert {"path": ("output",), "after": {"bricks": 90}} in differences(before, after)
    assert () == differences(after, after)


def _placed(target: dict[str, Any], difference: dict[str, Any]) -> None:
    *outer, last = difference["path"]
    for key in outer:
        target = target[key]
    if "after" in difference:
        target[last] = difference["after"]
    else:
        del target[last]


def _copied(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value


@given(METADATA, METADATA)
def test_differences_are_all_there_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Done to what was before they give what is afterwards, and without any the two are alike, types included."""
    before, after = (fold([CREATED | {"metadata": metadata}]) for metadata in (one, other))
    assert before is not None
    assert after is not None
    found = differences(before, after)
    made = {"metadata": _copied(one)}
    for difference in found:
        _placed(made, difference)
    assert _typed(other) == _typed(made["metadata"])
    assert bool(found) == (_typed(one) != _typed(other))


def _typed(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Tell true from 1, and 1.0 not from 1, as JSON does."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return (isinstance(value, bool), value)
