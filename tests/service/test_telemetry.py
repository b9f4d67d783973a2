"""What a scrape shows of a partition, while it is here and after."""

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
    telemetry.forget(1)
    telemetry.forget(7)  # never seen
    assert set() == shown(telemetry, "1")
    assert {"turnstile_outbox_depth", "turnstile_partition_halted", "turnstile_outbox_age_seconds"} == shown(
        telemetry, "2"
    )


def test_the_age_is_asked_at_each_scrape() -> None:
    """It grows while nothing happens that could set it."""
    telemetry = Telemetry()
    ages = iter([1.0, 2.0])
    telemetry.age_of_backlog(0, lambda: next(ages))
    assert [1.0, 2.0] == [telemetry.registry.get_sample_value(AGE, {"part": "0"}) for _ in range(2)]
