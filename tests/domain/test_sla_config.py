"""SLAs by configuration: to whom they are promised, and what becomes of a run when the configuration changes."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.slas import ConfiguredSlaDocument
from domain.sla_backtest import Figures, Past, Terms, compare, replay
from domain.sla_config import Configured, check_config, compile_config, unknown_in
from tests.domain.test_sla import HOUR, MONDAY, RUNGS, Life, machine, sla
from tests.domain.test_sla_account import STEPS, live


def config(version: int = 1, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a document: two hours for workflows of the test's machine."""
    clause = {"name": "reply", "target": "2h", "stops": ["answered"], **fields.pop("sla", {})}
    whose = {} if "kind" in fields else {"definition": "m"}
    return {"name": "lab", "version": version, **whose, "sla": clause, **fields}


def all_of(*documents: dict[str, Any]) -> Configured:
    """Compile documents."""
    return Configured.of(compile_config(ConfiguredSlaDocument.model_validate(each)) for each in documents)


@pytest.mark.parametrize(
    ("document", "promised"),
    [
        (config(), True),
        (config(kind="workflow"), True),
        (config(kind="task"), False),
        (config(definition="another"), False),
        (config(sla={"types": ["stat"]}), True),
        (config(sla={"types": ["routine"]}), False),
        (config(sla={"service_areas": ["lab"], "types": ["stat"]}), True),
        (config(sla={"service_areas": ["desk"], "types": ["stat"]}), False),
        (config(retired=True), False),
    ],
)
def test_it_is_promised_to_matching_workflows(document: dict[str, Any], *, promised: bool) -> None:
    """Definition or kind, service area and type; one that is retired is promised to nobody."""
    life = Life(configured=all_of(document), service_area="lab", type="stat")
    assert life.workflow is not None
    assert ({"reply"} if promised else set()) == set(life.workflow.slas or {})


def test_it_goes_before_the_definition_s_own_of_its_name_and_beside_the_others() -> None:
    """A workflow that it is not for has what the definition promises."""
    own = (sla(), sla(name="other"))
    life = Life(*own, configured=all_of(config(sla={"types": ["stat"]})), type="stat")
    assert (2 * 3600, "lab", 1) == (
        life.record().target_seconds,
        life.record().configured,
        life.record().configured_version,
    )
    assert (4 * 3600, None) == (life.record("other").target_seconds, life.record("other").configured)
    apart = Life(*own, configured=all_of(config(sla={"types": ["stat"]})), type="routine")
    assert (4 * 3600, None) == (apart.record().target_seconds, apart.record().configured)


def test_what_is_open_goes_on_under_the_version_that_promised_it() -> None:
    """A later version counts for what starts from then on, also as the next run of the same."""
    first, second = config(sla={"holds": ["asked"], "ladder": RUNGS}), config(2, sla={"target": "1h"})
    life = Life(configured=all_of(first))
    life.configured = all_of(first, second)
    life.move(MONDAY + 0.5 * HOUR, "asked")
    assert (True, None) == (life.record().held, life.due())
    life.move(MONDAY + 1.5 * HOUR, "working")
    assert MONDAY + 3 * HOUR == life.due()
    assert ["SLA_AT_RISK", "SLA_BREACHED", *["ESCALATION_TRIGGERED"] * 3] == life.tick(MONDAY + 9 * HOUR)
    life.move(MONDAY + 9 * HOUR, "answered")
    life.move(MONDAY + 10 * HOUR, "new")
    assert (2, 2, MONDAY + 11 * HOUR) == (life.record().run, life.record().configured_version, life.due())


def test_one_of_the_definition_that_is_open_is_not_taken_over() -> None:
    """Configured after it started: it keeps its own target and stops."""
    life = Life(sla())
    life.configured = all_of(config(sla={"target": "1h", "stops": ["working"]}))
    life.move(MONDAY + HOUR, "working")
    assert ("on_track", MONDAY + 4 * HOUR) == (life.record().status, life.due())


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_retired_or_gone_is_kept_but_climbs_no_more(*, gone: bool) -> None:
    """Nothing is held by accident: it warns, breaches and ends as it would have; its ladder is over."""
    document = config(sla={"ladder": RUNGS})
    life = Life(configured=all_of(document))
    life.configured = Configured() if gone else all_of(document, config(2, retired=True))
    life.move(MONDAY + HOUR, "working")
    assert (False, MONDAY + 2 * HOUR) == (life.record().held, life.due())
    assert ["SLA_AT_RISK", "SLA_BREACHED"] == life.tick(MONDAY + 9 * HOUR)
    life.move(MONDAY + 10 * HOUR, "closed")
    assert ("breached", 8 * 3600) == (life.record().status, life.record().breach_seconds)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("rungs", [RUNGS, [{"after": "1h", "alert": "lead", "every": "1h"}]], ids=["three", "repeated"])
def test_what_is_retired_on_its_ladder_says_so_once_and_goes_on(rungs: list[dict[str, Any]], *, gone: bool) -> None:
    """A rung was to come next: when it would have, nobody is told or asked anything, by a tick or a command first."""
    document = config(sla={"ladder": rungs})
    by_tick, by_command = Life(configured=all_of(document)), Life(configured=all_of(document))
    for life in (by_tick, by_command):
        life.tick(MONDAY + 2 * HOUR)
        told = [life.alerts.copy(), life.asked.copy()]
        life.configured = Configured() if gone else all_of(document, config(2, retired=True))
        assert [] == life.tick(MONDAY + 3 * HOUR - timedelta(seconds=1))
        if life is by_tick:
            assert ["ESCALATION_ENDED"] == life.tick(MONDAY + 9 * HOUR)
            assert (None, []) == (life.record().next_at, life.tick(MONDAY + 90 * HOUR))
            assert ["TRANSITION"] == life.move(MONDAY + 100 * HOUR, "closed")
        else:
            assert ["TRANSITION", "ESCALATION_ENDED"] == life.move(MONDAY + 100 * HOUR, "closed")
        assert ("breached", 98 * 3600) == (life.record().status, life.record().breach_seconds)
        assert told == [life.alerts, life.asked]


def test_a_document_is_checked_by_itself_and_against_a_definition() -> None:
    """Times and the ladder's order; states and transitions of the definition that it names."""
    document = ConfiguredSlaDocument.model_validate(
        config(sla={"target": "0h", "holds": ["asleep"], "ladder": [RUNGS[2], {"after": "1h", "transition": "wake"}]})
    )
    assert [("RUNGS_NOT_IN_ORDER", ("sla", "ladder", 1, "after")), ("BAD_TARGET", ("sla", "target"))] == [
        (found.code, found.path) for found in check_config(document)
    ]
    assert ["state asleep", "transition wake"] == list(unknown_in(compile_config(document), machine()))


@given(st.lists(STEPS, max_size=12), st.integers(0, 10**12))
def test_a_backtest_knows_what_was_configured_then(steps: list[tuple[int, int, str]], later: int) -> None:
    """A configuration that changed meanwhile makes no difference: what was recorded comes out again."""
    first, second = config(sla={"holds": ["asked"], "ladder": RUNGS}), config(2, sla={"target": "1h"})
    life = Life(configured=all_of(first))
    middle = len(steps) // 2
    live(life, steps[:middle])
    life.configured = all_of(first, second)
    end = live(life, [(700_000 * middle, 0, "tick"), *steps[middle:]])
    past = Past(life.history, {1: life.definition}, life.calendars, all_of(first, second, config(3, retired=True)))
    figures: dict[str, Figures] = {}
    compare(past, Terms(), figures, end + timedelta(microseconds=later))
    assert 0 == figures["reply"].differing
    again = replay(past, Terms())
    assert life.record() == again["reply", life.record().run]
