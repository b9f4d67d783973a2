"""A tick is judged by how fast the processor was around it."""

import pytest

from service.bench.pace import at_best, pace


def test_what_ran_at_half_the_pace_counts_half() -> None:
    """Of three times one ran as fast as ever, one at half of it, one fell behind on the way."""
    assert at_best([0.08, 0.16, 0.12], [(2.0, 2.0), (4.0, 4.0), (2.0, 4.0)]) == pytest.approx([0.08] * 3)


def test_the_loop_takes_processor_time() -> None:
    """So there is something to divide by."""
    assert pace() > 0
