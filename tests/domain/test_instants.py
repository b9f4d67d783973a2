"""How instants are written: one text for one instant, whose order is the order of time."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from domain.instants import read, written

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=11))])
FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
SECONDS = st.integers(0, int((LAST - FIRST).total_seconds()))
INSTANTS = st.builds(
    lambda seconds, micros, zone: (FIRST + timedelta(seconds=seconds, microseconds=micros)).astimezone(zone),
    SECONDS,
    st.just(0) | st.integers(0, 999_999),
    ZONES,
)


@given(INSTANTS)
def test_an_instant_is_written_in_utc_with_six_digits_of_a_second(instant: datetime) -> None:
    """As Python's own ISO format has it, whichever zone it came in; and it is read back as it was."""
    expected = instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    assert expected == written(instant)
    assert instant == read(written(instant))


@given(INSTANTS, INSTANTS)
def test_the_order_of_texts_is_the_order_of_time(one: datetime, other: datetime) -> None:
    """Records are compared by their texts."""
    assert (one < other) == (written(one) < written(other))
