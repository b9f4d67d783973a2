"""One order of what workers recorded: what nobody heard of is inferred, what nothing explains is said."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.spec.trace import linearize


class Tape:
    """Writes a trace by hand; time is the number of the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._calls = 0

    def begin(self, worker: str, step: str, **said: Any) -> int:  # noqa: ANN401 - as the recorder says it
        """Begin a step on partition 0; returns its number."""
        self._calls += 1
        self._line({"worker": worker, "call": self._calls, "step": step, "part": 0} | said)
        return self._calls

    def end(self, worker: str, call: int, outcome: str = "ok", **said: Any) -> None:  # noqa: ANN401
        """End a step."""
        self._line({"worker": worker, "call": call, "outcome": outcome} | said)

    def crash(self, worker: str) -> None:
        """Note a crash."""
        self._line({"worker": worker, "step": "crash"})

    def claim(self, worker: str, epoch: int, turn: int = 0, rows: int = 0) -> None:
        """Claim, with as many rows in the store as turns of one row each."""
        self.end(worker, self.begin(worker, "claim"), epoch=epoch, turn=turn, offset=rows, seq=rows + 1)

    def start(self, worker: str, cursor: int | None) -> int:
        """Start a publisher; returns its number."""
        call = self.begin(worker, "start")
        self.end(worker, call, cursor=cursor)
        return call

    def apply(self, worker: str, epoch: int, turn: int, outcome: str = "ok") -> None:
        """Apply a turn of one record that leaves one row; the fence holds what so many turns left."""
        said = {"epoch": epoch, "turn": turn, "offset": turn, "next_offset": turn + 1, "seq": turn + 1, "rows": 1}
        self.end(worker, self.begin(worker, "apply", **said), outcome)

    def publish(self, worker: str, start: int, seq: int, outcome: str = "ok") -> None:
        """Publish one row."""
        self.end(worker, self.begin(worker, "publish", start=start, seq=seq, rows=1), outcome)

    def order(self) -> list[str]:
        """Return the steps in their order with the workers, or what was found."""
        self.path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in self._lines))
        order = linearize([self.path])
        return list(order.findings) or [f"{event.worker} {event.step}" for event in order.events]

    def _line(self, line: dict[str, Any]) -> None:
        self._lines.append({"at": len(self._lines) + 1} | line)


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    """Give a tape on which worker a has claimed and started."""
    made = Tape(tmp_path / "trace.ndjson")
    made.claim("a", 1)
    assert 2 == made.start("a", None)
    return made


BEGUN = ["a claim", "a fence", "a cursor"]


def test_steps_come_in_the_order_they_were_taken(tape: Tape) -> None:
    """Without overlap, the order is that of the lines."""
    tape.apply("a", 1, 0)
    tape.publish("a", 2, 1)
    assert [*BEGUN, "a apply", "a publish"] == tape.order()


def test_steps_that_overlap_follow_the_store(tape: Tape) -> None:
    """A claim that began before an apply and found its turn comes after it."""
    claim = tape.begin("b", "claim")
    tape.apply("a", 1, 0)
    tape.end("b", claim, epoch=2, turn=1, offset=1, seq=2)
    assert [*BEGUN, "a apply", "b claim"] == tape.order()


def test_an_apply_nobody_heard_of_is_found_by_the_next_claim(tape: Tape) -> None:
    """The turn that the next owner finds was written, though the worker that wrote it was killed."""
    tape.apply("a", 1, 0, "unknown")
    tape.crash("a")
    tape.claim("b", 2, turn=1, rows=1)
    assert [*BEGUN, "a apply unheard", "a crash", "b claim"] == tape.order()


def test_an_apply_nobody_heard_of_may_not_have_been(tape: Tape) -> None:
    """The next owner finds the turn as it was: nothing was written."""
    tape.apply("a", 1, 0, "unknown")
    tape.claim("a", 2)
    assert [*BEGUN, "a claim"] == tape.order()


def test_a_transaction_nobody_heard_of_is_found_by_the_next_cursor(tape: Tape) -> None:
    """The cursor that the next publisher reads is past it, so it was committed."""
    tape.apply("a", 1, 0)
    tape.publish("a", 2, 1, "unknown")
    tape.start("a", 2)
    assert [*BEGUN, "a apply", "a publish unheard", "a fence", "a cursor"] == tape.order()


def test_a_transaction_nobody_heard_of_may_not_have_been(tape: Tape) -> None:
    """The cursor that the next publisher reads is where it was, and the rows go out again."""
    tape.apply("a", 1, 0)
    tape.publish("a", 2, 1, "unknown")
    tape.publish("a", tape.start("a", 1), 1)
    assert [*BEGUN, "a apply", "a fence", "a cursor", "a publish"] == tape.order()


def test_a_claim_nobody_heard_of_is_found_by_the_epochs(tape: Tape) -> None:
    """An epoch is missing, and somebody's claim has no answer: it was that one."""
    tape.end("b", tape.begin("b", "claim"), "unknown")
    tape.claim("a", 3)
    assert [*BEGUN, "b claim unheard", "a claim"] == tape.order()


def test_a_start_that_overlaps_a_reign_is_outside_of_it(tape: Tape) -> None:
    """A publisher that publishes has not been fenced yet, whenever the call that will fence it began."""
    tape.apply("a", 1, 0)
    tape.claim("b", 2, turn=1, rows=1)
    start = tape.begin("b", "start")
    tape.publish("a", 2, 1)
    tape.end("b", start, cursor=2)
    assert [*BEGUN, "a apply", "b claim", "a publish", "b fence", "b cursor"] == tape.order()


def test_an_epoch_nobody_claimed_is_a_finding(tape: Tape) -> None:
    """Epochs rise by one with each claim."""
    tape.claim("a", 3)
    assert ["partition 0: nobody claimed epoch 2"] == tape.order()


def test_an_epoch_given_twice_is_a_finding(tape: Tape) -> None:
    """No two claims have one epoch."""
    tape.claim("b", 1)
    assert ["partition 0: an epoch was given twice"] == tape.order()


def test_fenced_without_a_reason_is_a_finding(tape: Tape) -> None:
    """Somebody must have moved the row."""
    tape.apply("a", 1, 0, "fenced")
    expected = "nothing explains: fenced by worker a on partition 0, epoch 1, turn 0, offset 0"
    assert [expected] == tape.order()


def test_rows_published_twice_are_a_finding(tape: Tape) -> None:
    """Two transactions of one row cannot both be committed."""
    tape.apply("a", 1, 0)
    tape.publish("a", 2, 1)
    tape.publish("a", 2, 1)
    assert ["partition 0: rows from 1 on were published twice"] == tape.order()


def test_rows_skipped_are_a_finding(tape: Tape) -> None:
    """A transaction begins where the one before it ended."""
    tape.apply("a", 1, 0)
    tape.apply("a", 1, 1)
    tape.publish("a", 2, 2)
    assert ["partition 0: rows from 1 on were published by nobody"] == tape.order()


def test_a_publisher_that_was_fenced_and_publishes_is_a_finding(tape: Tape) -> None:
    """The older publisher commits although the newer one has."""
    for turn in range(3):
        tape.apply("a", 1, turn)
    tape.publish("a", 2, 1)
    tape.publish("a", tape.start("a", 2), 2)
    tape.publish("a", 2, 3)
    assert ["partition 0: a publisher published although a newer one had begun to"] == tape.order()


def test_what_time_forbids_is_a_finding(tape: Tape) -> None:
    """A claim that had ended cannot have found a turn that had not begun."""
    tape.claim("b", 2, turn=1, rows=1)
    tape.apply("a", 1, 0)
    (found,) = tape.order()
    assert found.startswith("no order: claim by worker b on partition 0, epoch 2, turn 1")
