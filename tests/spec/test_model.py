"""The protocol's specification holds in its finite models, and each way to break the protocol breaks it."""

import re
from collections.abc import Mapping

import pytest

from tests.spec.tlc import SPEC, Checked, check

pytestmark = pytest.mark.stack
ONE_WORKER = {"Workers": "{w1}", "Crashes": "0", "Losses": "0"}
TWICE = {"Log": "TwiceLog"} | ONE_WORKER
VERSIONS = {"Log": "VersionLog"} | ONE_WORKER
TERMINAL = {"Log": "TerminalLog"} | ONE_WORKER
TWO_PARTS = {"Parts": "{1, 2}", "Log": "TwoLogs", "TurnRecords": "1"} | ONE_WORKER
SMALL_STATES_MIN = 20_000
FULL_STATES_MIN = 250_000


def _check(config: str, changed: Mapping[str, str], *left_out: str, invariant: str | None = None) -> Checked:
    """Check a model with some constants given otherwise and some checks left out; for one invariant, or for all."""
    text = (SPEC / config).read_text()
    for name, value in (*changed.items(), *((name, "FALSE") for name in left_out)):
        text, found = re.subn(rf"(?m)^(    {name}) (=|<-) .*$", rf"\1 \2 {value}", text)
        assert 1 == found, name
    if invariant is not None:
        text = f"{text.partition('INVARIANTS')[0]}INVARIANTS\n    {invariant}\n"
    return check("Models", text)


def test_the_small_model_holds() -> None:
    """Two owners of one partition, a crash and a lost answer: all properties hold in every state there is."""
    checked = _check("small.cfg", {})
    assert (None, True) == (checked.violated, checked.distinct_states >= SMALL_STATES_MIN)


def test_a_run_without_mishap_decides_and_publishes_everything() -> None:
    """The end, all decided and all published, can be reached: the model does not hold for want of steps."""
    assert "NotFinished" == _check("small.cfg", {}, invariant="NotFinished").violated


@pytest.mark.parametrize(
    ("violated", "left_out", "changed"),
    [
        ("OneOutcomeEach", ("EpochChecked", "TurnChecked"), {}),
        ("VersionMonotonicity", ("EpochChecked", "TurnChecked", "VersionKept"), {}),
        ("StateConsistency", ("OneCommit",), {}),
        ("PublishedOnceInOrder", ("ProducerFenced",), {}),
        ("PublishedOnceInOrder", ("CursorAfterFence",), {}),
        ("PublishedOnceInOrder", ("AllSent",), {}),
        ("PredicateLogicIntegration", ("FailClosed",), {}),
        ("AcceptedOnce", ("Deduplicated",), TWICE),
        ("ConcurrentSafety", ("VersionExpected",), VERSIONS),
        ("TransitionValidity", ("TerminalKept",), TERMINAL),
        ("TerminalStateImmutability", ("TerminalKept",), TERMINAL),
        ("BoundedWorkflows", ("CounterChecked",), TWO_PARTS),
        ("WorkflowUniqueness", ("IdsChecked",), TWO_PARTS),
    ],
)
def test_what_is_left_out_is_missed(violated: str, left_out: tuple[str, ...], changed: Mapping[str, str]) -> None:
    """Without a check of the protocol, the property that it is there for does not hold."""
    assert violated == _check("small.cfg", changed, *left_out, invariant=violated).violated


@pytest.mark.parametrize("changed", [TWICE, VERSIONS, TERMINAL, TWO_PARTS], ids=lambda given: given["Log"])
def test_nothing_left_out_nothing_missed(changed: Mapping[str, str]) -> None:
    """The same logs of commands, with every check: all properties hold, so it was the check that was missed."""
    assert None is _check("small.cfg", changed).violated


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_full_model_holds() -> None:
    """Three workers, two partitions, four commands, two crashes: all properties hold in every state there is."""
    checked = _check("full.cfg", {})
    assert (None, True) == (checked.violated, checked.distinct_states > FULL_STATES_MIN)


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["EpochChecked", "TurnChecked"])
def test_half_a_fence_is_enough(left_out: str) -> None:
    """Epoch alone, or turn and offset alone, keep every promise; only without both are they broken."""
    assert None is _check("small.cfg", {}, left_out).violated
