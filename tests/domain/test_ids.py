"""Event ids, held against the standard library's uuid5."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import event_id, follow_up_id

WORKFLOW_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.uuids(), WORKFLOW_IDS, st.integers(1, 2**63 - 1))
def test_it_is_uuid5(incarnation: UUID, workflow_id: str, sequence: int) -> None:
    """The quick way gives the standard library's id, for any incarnation, workflow and sequence."""
    assert str(uuid5(incarnation, f"{workflow_id}:{sequence}")) == event_id(incarnation, workflow_id, sequence)


def test_each_part_counts() -> None:
    """Another incarnation, workflow or sequence is another id, even where digits could run together."""
    first, second = UUID(int=1), UUID(int=2)
    made = [event_id(first, "w", 1), event_id(second, "w", 1), event_id(first, "w1", 1), event_id(first, "w", 11)]
    assert len(made) == len(set(made))


@given(st.uuids(), st.sampled_from(["alert", "rung"]), st.integers(0, 9))
def test_an_id_of_what_follows_is_the_standard_librarys(event: UUID, rule: str, index: int) -> None:
    """Whoever reads an alert can make its id from the event's."""
    assert str(uuid5(event, f"{rule}:{index}")) == follow_up_id(str(event), rule, index)
