"""Every metric's name, in one place. Prometheus scrapes them at /metrics."""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import accumulate
from time import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from handlers.commands import Taken
from handlers.parking import Parking
from handlers.ports import JournalRow, Turn

_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_GUARD_SECONDS = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
_LATE_SECONDS = (0.5, 1, 2, 2.5, 3, 3.5, 4, 5, 7.5, 10, 15, 30, 60, 300, 1800, 7200)
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BREACHED = ".SLA_BREACHED"


class LightHistogram(Collector):
    """A histogram for what happens with each command, by labels: one thread observes, so no lock is taken."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._named = name, documentation, tuple(labels)
        self._bounds = tuple(bounds)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Take one value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give what was observed so far, as Prometheus counts it: each bucket with those below it."""
        name, documentation, labels = self._named
        family = HistogramMetricFamily(name, documentation, labels=labels)
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for key, counts in self._counts.items():
            family.add_metric(key, list(zip(bounds, accumulate(counts), strict=True)), self._sums[key])
        yield family


class PredicateMetrics:
    """What the predicate engines report: see `service.predicates.reports`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = LightHistogram(
            "turnstile_predicate_seconds", "From asking an engine to its verdict", ("engine", "outcome"), _GUARD_SECONDS
        )
        registry.register(self._seconds)
        self._batch = Histogram(
            "turnstile_predicate_request_questions",
            "Questions in one request to the remote engine",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._retries = Counter(
            "turnstile_predicate_retries", "Requests to the remote engine that were sent again", registry=registry
        )
        self._under_way = Gauge(
            "turnstile_predicate_requests_under_way", "Requests to the remote engine under way", registry=registry
        )
        self._breaker = Gauge(
            "turnstile_predicate_breaker_state",
            "0 while the remote engine is asked, 1 while it is tried, 2 while it is left alone",
            registry=registry,
        )

    def judged(self, engine: str, outcome: str, seconds: float) -> None:
        """Take one verdict, and how long it took."""
        self._seconds.observe((engine, outcome), seconds)

    def sent(self, questions: int, under_way: int) -> None:
        """Take a request, and how many are under way now."""
        self._batch.observe(questions)
        self._under_way.set(under_way)

    def under_way(self, requests: int) -> None:
        """Take how many requests are under way."""
        self._under_way.set(requests)

    def retried(self) -> None:
        """Take a request that is sent again."""
        self._retries.inc()

    def breaker(self, state: int) -> None:
        """Take the breaker's state."""
        self._breaker.set(state)


class SlaMetrics:
    """What SLAs come to: each worker counts its own turns; how many are open is asked by the one that emits ticks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._breached = Counter("sla_records_breached", "SLAs breached", registry=registry)
        self._alerts = Counter("turnstile_alerts", "Alerts for people", registry=registry)
        self._follow_ups = Counter("turnstile_follow_ups", "Commands the service asked itself", registry=registry)
        self._open = Gauge(
            "turnstile_sla_open", "Open SLAs, at the worker that emits ticks", ["status"], registry=registry
        )
        self._late = Histogram(
            "turnstile_timer_lateness_seconds",
            "From when a step was due until it was taken, the grace included",
            buckets=_LATE_SECONDS,
            registry=registry,
        )
        self._tick_lag = Gauge(
            "turnstile_tick_lag_seconds",
            "How old the newest tick is whose commands are all decided",
            ["part"],
            registry=registry,
        )

    def applied(self, turn: Turn) -> None:
        """Count a committed turn."""
        kinds = Tally(row.kind for row in turn.rows)
        self._alerts.inc(kinds["alert"])
        self._follow_ups.inc(kinds["follow_up"])
        self._breached.inc(sum(row.type.endswith(_BREACHED) for row in turn.rows if row.kind == "event"))
        for late in turn.late:
            self._late.observe(late.total_seconds())

    def reached(self, part: int, tick_time: datetime | None) -> None:
        """Take the newest tick whose commands a partition has decided, if any; its age is asked at each scrape."""
        if tick_time is None:
            return
        self._tick_lag.labels(part).set_function(lambda: max(0.0, time() - tick_time.timestamp()))

    def opened(self, counts: Mapping[str, int] | None) -> None:
        """Show how many SLAs are open, by status; nothing where it is not known here."""
        self._open.clear()
        for status, count in (counts or {}).items():
            self._open.labels(status).set(count)

    def forget(self, part: int) -> None:
        """Show nothing more of a partition."""
        with suppress(KeyError):
            self._tick_lag.remove(part)


class Telemetry:
    """The metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.transitions = Counter(
            "workflow_transition", "Commands decided", ["entity_type", "result"], registry=registry
        )
        self.outbox_events = Counter(
            "outbox_events_processed", "Journal rows published", ["event_type", "status"], registry=registry
        )
        self.dead_letters = Counter("turnstile_dead_letters", "Records that could not be read", registry=registry)
        self.forwarded = Counter(
            "turnstile_commands_forwarded",
            "Commands that came on another partition than their root's",
            registry=registry,
        )
        self.turns = Counter("turnstile_turns", "Turns applied", ["part"], registry=registry)
        self.turn_records = Histogram(
            "turnstile_turn_rows", "Journal rows per turn", buckets=_BATCH_SIZES, registry=registry
        )
        self.turn_seconds = Histogram(
            "turnstile_turn_seconds", "From records taken to committed", buckets=_LATENCY_SECONDS, registry=registry
        )
        self.publish_seconds = Histogram(
            "turnstile_publish_seconds", "One transaction of the relay", buckets=_LATENCY_SECONDS, registry=registry
        )
        self.next_offset = Gauge("turnstile_next_offset", "Next command to decide", ["part"], registry=registry)
        self.backlog = Gauge("turnstile_outbox_depth", "Committed rows not published", ["part"], registry=registry)
        self.backlog_age = Gauge(
            "turnstile_outbox_age_seconds", "How long the oldest of them has waited here", ["part"], registry=registry
        )
        self.intake_paused = Gauge(
            "turnstile_intake_paused", "1 while the outbox holds intake back", ["part"], registry=registry
        )
        self.parked = Gauge("turnstile_parked", "Commands parked now", ["part"], registry=registry)
        self.parked_age = Gauge(
            "turnstile_parked_oldest_seconds", "How long the oldest command is parked", ["part"], registry=registry
        )
        self.parked_by_reason = Counter("turnstile_commands_parked", "Commands parked", ["reason"], registry=registry)
        self.guard_timeouts = Counter(
            "turnstile_guard_timeouts", "Guards that did not answer in time", registry=registry
        )
        self.predicates = PredicateMetrics(registry)
        self.slas = SlaMetrics(registry)
        self.isolated = Counter(
            "turnstile_commands_isolated", "Times our own code failed on a command", registry=registry
        )
        self.halted = Gauge("turnstile_partition_halted", "1 while a partition is halted", ["part"], registry=registry)
        self.owned = Gauge("turnstile_partitions_active", "Partitions this worker takes turns of", registry=registry)
        self.claims_lost = Counter("turnstile_claims_lost", "Times a partition was claimed again", registry=registry)
        self.relay_restarts = Counter("turnstile_relay_restarts", "Publishers thrown away", registry=registry)
        self.loop_lag = Gauge("turnstile_loop_lag_seconds", "How late the last turn of the loop was", registry=registry)
        self.tick_time = Gauge("turnstile_tick_time_seconds", "Time of the last tick emitted", registry=registry)
        self.ticks_leading = Gauge("turnstile_ticks_leading", "1 while this worker emits the ticks", registry=registry)

    def no_ticks_of_ours(self) -> None:
        """Say that this worker emits no ticks at all: the time of the last is no number, so no rule finds it old."""
        self.tick_time.set(float("nan"))

    def applied(self, part: int, taken: Taken) -> None:
        """Count a committed turn."""
        rows = taken.turn.rows
        self.turns.labels(part).inc()
        self.turn_records.observe(len(rows))
        self.next_offset.labels(part).set(taken.owned.next_offset)
        for (entity_type, result), count in taken.turn.outcomes.items():
            self.transitions.labels(entity_type, result).inc(count)
        kinds = Tally(row.kind for row in rows)
        self.dead_letters.inc(kinds["dead_letter"])
        self.forwarded.inc(kinds["forward"])
        for record in taken.turn.parked:
            self.parked_by_reason.labels(record.parked.reason).inc()
        self.isolated.inc(len(taken.turn.failures))
        self.slas.applied(taken.turn)

    def parking(self, part: int, parking: Parking | None, now: datetime | None) -> None:
        """Show what a partition has parked, as of its last tick; nothing where it is ours no longer."""
        oldest = None if parking is None else parking.oldest
        age = 0.0 if oldest is None or now is None else max(0.0, (now - oldest).total_seconds())
        self.parked.labels(part).set(0 if parking is None else len(parking))
        self.parked_age.labels(part).set(age)

    def forget(self, part: int) -> None:
        """Show nothing more of a partition that has gone: its last figures here would stand beside those elsewhere."""
        shown = (self.next_offset, self.backlog, self.backlog_age, self.intake_paused, self.halted)
        for gauge in (*shown, self.parked, self.parked_age):
            with suppress(KeyError):  # never shown
                gauge.remove(part)
        self.slas.forget(part)

    def age_of_backlog(self, part: int, age: Callable[[], float]) -> None:
        """Ask `age`, in seconds, at each scrape: it grows while nothing happens."""
        self.backlog_age.labels(part).set_function(age)

    def published(self, rows: Sequence[tuple[int, JournalRow]], seconds: float) -> None:
        """Count what the relay published."""
        self.publish_seconds.observe(seconds)
        for kind, count in Tally(row.type for _, row in rows).items():
            self.outbox_events.labels(kind, "published").inc(count)
