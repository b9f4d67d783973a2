"""What a scrape shows of a partition, while it is here and after."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from handlers.commands import Taken
from handlers.ports import JournalRow, Ownership, Turn
from service.telemetry import Telemetry

AGE = "turnstile_outbox_age_seconds"


def shown(telemetry: Telemetry, part: str) -> set[str]:
    """Return the gauges that a scrape shows of a partition."""
    return {
        sample.name
        for family in telemetry.registry.collect()
        if family.type == "gauge"
        for sample in family.samples
        if sample.labels.get("part") == part
    }


def test_a_partition_that_has_gone_is_shown_no_more() -> None:
    """Its last figures would stand beside those of its new owner for ever; the other partitions stay."""
    telemetry = Telemetry()
    for part in (1, 2):
        telemetry.backlog.labels(part).set(5)
        telemetry.halted.labels(part).set(1)
        telemetry.age_of_backlog(part, lambda: 3.0)
        telemetry.slas.reached(part, datetime.now(UTC))
    telemetry.forget(1)
    telemetry.forget(7)  # never seen
    assert set() == shown(telemetry, "1")
    assert {
        "turnstile_outbox_depth",
        "turnstile_partition_halted",
        "turnstile_outbox_age_seconds",
        "turnstile_tick_lag_seconds",
    } == shown(telemetry, "2")


def test_the_age_is_asked_at_each_scrape() -> None:
    """It grows while nothing happens that could set it."""
    telemetry = Telemetry()
    ages = iter([1.0, 2.0])
    telemetry.age_of_backlog(0, lambda: next(ages))
    assert [1.0, 2.0] == [telemetry.registry.get_sample_value(AGE, {"part": "0"}) for _ in range(2)]


def test_what_slas_come_to_is_counted() -> None:
    """Breaches by their events, whom they told, what they asked for, and how late each step was."""
    telemetry = Telemetry()
    turn = Turn(0, datetime.now(UTC), late=[timedelta(seconds=2.2), timedelta(seconds=40)])
    for kind, type_ in (
        ("event", "shop.SLA_AT_RISK"), ("event", "shop.SLA_BREACHED"), ("alert", "turnstile.alert"),
        ("event", "shop.SLA_BREACHED"), ("follow_up", "turnstile.follow_up"), ("reply", "shop.SLA_BREACHED"),
    ):  # fmt: skip
        turn.rows.append(JournalRow(kind, "w", "w", type_, 0))
    telemetry.applied(0, Taken(Ownership(0, 1, 1, 0, 1, 1, UUID(int=1), 1), turn, 1))

    def sample(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(name, labels)

    assert (2, 1, 1) == tuple(
        sample(name) for name in ("sla_records_breached_total", "turnstile_alerts_total", "turnstile_follow_ups_total")
    )
    late = "turnstile_timer_lateness_seconds"
    assert (0, 1, 2) == tuple(sample(f"{late}_bucket", le=le) for le in ("2.0", "2.5", "60.0"))


def test_open_slas_are_shown_by_who_knows() -> None:
    """A worker that emits ticks no more shows none: its last figures would stand beside the new one's."""
    telemetry = Telemetry()
    telemetry.slas.opened({"on_track": 3, "breached": 1})
    name = "turnstile_sla_open"
    assert 3 == telemetry.registry.get_sample_value(name, {"status": "on_track"})
    telemetry.slas.opened(None)
    assert None is telemetry.registry.get_sample_value(name, {"status": "on_track"})


def test_the_age_of_the_newest_tick_grows() -> None:
    """It is that of the tick, not of the last look; before the first tick there is none."""
    telemetry = Telemetry()
    telemetry.slas.reached(0, None)
    assert set() == shown(telemetry, "0")
    telemetry.slas.reached(0, datetime.now(UTC) - timedelta(seconds=50))
    ages = [telemetry.registry.get_sample_value("turnstile_tick_lag_seconds", {"part": "0"}) or 0 for _ in range(2)]
    assert 50 <= ages[0] <= ages[1]


def test_verdicts_are_counted_as_the_library_counts_them() -> None:
    """What a scrape shows of them is what its own histogram would show, a bound's own value within it."""
    telemetry, own = Telemetry(), CollectorRegistry()
    bounds = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
    name = "turnstile_predicate_seconds"
    expected = Histogram(
        name, "From asking an engine to its verdict", ["engine", "outcome"], buckets=bounds, registry=own
    )
    for engine, outcome in (("cel", "allow"), ("remote", "unavailable")):
        for seconds in (0.0, *bounds, 0.0004, 0.0004, 3.0):
            telemetry.predicates.judged(engine, outcome, seconds)
            expected.labels(engine, outcome).observe(seconds)

    def told(registry: CollectorRegistry) -> list[str]:
        shown = generate_latest(registry).decode().splitlines()
        return sorted(line for line in shown if name in line and f"{name}_created" not in line)

    assert told(own) == told(telemetry.registry)
