"""The running total: it survives a stop, and says how long decisions stood still."""

from pathlib import Path

from tests.faults.faults import faults
from tests.faults.run import FAULTS_A_ROUND, planned
from tests.faults.tally import PROMISED, Tally, gaps, unseen


def test_a_total_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A run that was stopped goes on with all that it had."""
    tally = Tally(next_seed=7, rounds=6, kills_and_pauses=40)
    tally.strikes["pause"] += 3
    tally.counts["exactly-once"]["commands"] += 1000
    tally.resumed["kill"] += [6.5, 7.5]
    tally.heard("exactly-once, calm", [0.01, 0.02, 0.03])
    tally.write(tmp_path / "total.json")
    again = Tally.read(tmp_path / "total.json")
    again.counts["at-least-once"]["commands"] += 1
    assert (7, 1001, {"pause": 3}, [6.5, 7.5]) == (
        again.next_seed,
        again.commands,
        again.strikes,
        again.resumed["kill"],
    )
    assert "p50 7.5 s, worst 7.5 s of 2" in again.table()


def test_an_empty_total_has_a_table() -> None:
    """A run that was stopped in its first round can still say so."""
    assert "0 rounds, 0 commands, 0 kills and pauses, 0 violations" in Tally().table()


def test_a_round_says_what_it_shows_of_promises() -> None:
    """How many there were, were kept and broken is in the table; a round in which none was broken shows nothing."""
    tally = Tally()
    tally.counts["exactly-once"].update({"SLAs": 9, "met": 4, "breaches": 5, "rungs": 12})
    assert "SLAs 9, met 4, breaches 5, rungs 12" in tally.table()
    assert [] == unseen(tally.counts["exactly-once"])
    assert ["breaches", "rungs"] == unseen({"SLAs": 9, "met": 9})
    assert list(PROMISED) == unseen({})


def test_the_longest_pause_around_a_strike_is_found() -> None:
    """Of all partitions the longest stretch without a decision counts, if it began soon enough."""
    steady = [(0, number / 10) for number in range(300)]
    stood_still = [(1, at) for _, at in steady if not 10.05 < at < 16.95]
    much_later = [(2, at) for _, at in steady if not 20.05 < at < 28.95]
    journal = [{"part": part, "decided_at": at} for part, at in [*steady, *stood_still, *much_later]]
    assert [7.0, 0.1] == [round(gap, 3) for gap in gaps(journal, [10.5, 1.0], reach_seconds=5)]


def test_the_same_total_plans_the_same_round() -> None:
    """A seed is all that a round depends on, besides what struck least so far."""
    known = faults("exactly-once")
    plan, again = planned(Tally(next_seed=4), known, 300), planned(Tally(next_seed=4), known, 300)
    assert ([fault.name for fault in plan.faults], FAULTS_A_ROUND) == (
        [fault.name for fault in again.faults],
        len(plan.faults),
    )


def test_faults_have_names_of_their_own() -> None:
    """A strike is counted under its fault's name."""
    for delivery in ("exactly-once", "at-least-once"):
        names = [fault.name for fault in faults(delivery)]
        assert sorted(set(names)) == sorted(names)
