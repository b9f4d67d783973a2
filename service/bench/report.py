"""The figures as programs and as people read them, each ratio beside its target."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any

from service.bench.latency import Quantiles
from service.bench.place import Ground
from service.bench.remote import ANSWER_SECONDS
from service.bench.scale import Scale
from service.bench.throughput import Guarded, Round, Spread
from service.bench.timers import DUE_AT_ONCE, Timed
from service.broker.publishers import BATCH_BYTES_MAX
from service.local.jars import KAFKA
from service.relay import ROWS_MAX
from service.settings import Delivery
from service.store.throwaway import DURABILITY

PER_SECOND, PER_SECOND_FLOOR = 12_000, 8_000
AGAINST_POSTGRES, HOT_AGAINST_SPREAD, GUARDED_AGAINST_WITHOUT = 0.25, 0.5, 0.8
AGAINST_EMPTY, EXACTLY_ONCE_MS = 2.5, 50.0
MEMORY_GROWTH = 1.05
REMOTE_PER_SECOND = 2_000
TICK_MS, DRAINING_AGAINST_IDLE, LATE_MS = 100.0, 2.0, 2_000.0

Row = tuple[str, str, str, str]


@dataclass(slots=True)
class Figures:
    """What was measured; None or empty where a part was not asked for."""

    spread: Spread | None = None
    hot: list[Round] = field(default_factory=list)
    guarded: Guarded | None = None
    latency: dict[Delivery, Quantiles] = field(default_factory=dict)
    empty: Quantiles | None = None
    memory: dict[int, int | None] = field(default_factory=dict)
    policed: Guarded | None = None
    timed: Timed | None = None

    @property
    def per_second(self) -> float | None:
        """The median round's transitions per second of many workflows."""
        return self.spread.per_second if self.spread else None

    @property
    def alone_per_second(self) -> float | None:
        """The median round's transitions per second of PostgreSQL alone."""
        return median(self.spread.alone_per_second) if self.spread else None

    @property
    def hot_per_second(self) -> float | None:
        """The median round's transitions per second of one workflow."""
        return median(each.per_second for each in self.hot) if self.hot else None

    @property
    def ratios(self) -> dict[str, float | None]:
        """Each figure against its baseline of the same run."""
        exactly_once = self.latency.get("exactly-once")
        held = list(self.memory.values())
        return {
            "against_postgres": _ratio(self.per_second, self.alone_per_second),
            "hot_against_spread": _ratio(self.hot_per_second, self.per_second),
            "guarded_against_without": (
                _ratio(self.guarded.per_second, self.guarded.without_per_second) if self.guarded else None
            ),
            "exactly_once_against_empty": _ratio(
                exactly_once.p50 if exactly_once else None, self.empty.p50 if self.empty else None
            ),
            "memory_growth": _ratio(held[-1], held[0]) if held else None,
            "draining_against_idle": self.timed.draining_against_idle if self.timed else None,
        }


def document(figures: Figures, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the figures as one JSON object; what was not measured is null."""
    spread = figures.spread
    found: dict[str, Any] = {
        "transitions_per_second": _rounded(figures.per_second, 1),
        "postgres_alone_per_second": _rounded(figures.alone_per_second, 1),
        "hot_workflow_per_second": _rounded(figures.hot_per_second, 1),
        "guarded_per_second": _rounded(figures.guarded.per_second if figures.guarded else None, 1),
        "latency_ms": {mode: _written(quantiles) for mode, quantiles in figures.latency.items()} or None,
        "empty_transaction_ms": _written(figures.empty) if figures.empty else None,
        "worker_rss_bytes": spread.rounds[-1].rss_bytes if spread else None,
        "worker_cpu_us": _rounded(spread.cpu_us, 2) if spread else None,
        "ratios": {name: _rounded(ratio, 3) for name, ratio in figures.ratios.items()},
        "settings": settings,
    }
    if figures.memory:
        found["worker_rss_bytes_at"] = {str(count): held for count, held in figures.memory.items()}
    if figures.policed is not None:
        found["remote_guards"] = {
            "transitions_per_second": round(figures.policed.per_second, 1),
            "without_guards_per_second": round(figures.policed.without_per_second, 1),
            "engine_answers_in_seconds": ANSWER_SECONDS,
        }
    if (timed := figures.timed) is not None:
        quantiles = {
            "tick_ms": timed.ticks,
            "tick_at_best_pace_ms": timed.ticks_at_best,
            "late_ms": timed.late,
            "idle_ms": timed.idle,
            "draining_ms": timed.draining,
        }
        found["timers"] = {
            "pending": timed.pending,
            "due_at_once": timed.due_at_once,
            "drained_seconds": round(timed.drained_seconds, 1),
            "late_at_commands_per_second": timed.late_rate,
            **{name: _written(each) if each else None for name, each in quantiles.items()},
        }
    return found


def conditions(ground: Ground, scale: Scale, figures: Figures, versions: dict[str, str]) -> dict[str, Any]:
    """Return under what conditions the figures were made."""
    chosen = ground.chosen
    spread = figures.spread
    return {
        **{name: ground.database[name] for name in DURABILITY},
        "acks": "all",
        "partitions": chosen.partitions,
        "replication": chosen.replication,
        "turn_records_max": chosen.turn_records_max,
        "turn_rows_mean": spread and round(median(spread.rows_per_turn), 1),
        "relay_rows_max": ROWS_MAX,
        "relay_batch_bytes_max": BATCH_BYTES_MAX,
        "transactions_per_second_max": chosen.transactions_per_second,
        "rounds": scale.rounds,
        "transitions_per_round": scale.transitions,
        "workflows": scale.workflows,
        "hot_commands_per_round": scale.hot,
        "latency_commands_per_second": scale.rate,
        "latency_seconds": scale.seconds,
        "broker": "given" if ground.external else KAFKA,
        "database": "given" if chosen.database_url is not None else "embedded",
        "versions": {"turnstile": version("turnstile"), "aiokafka": version("aiokafka"), **versions},
        "cores": os.cpu_count(),
    }


def rows(figures: Figures) -> Sequence[Row]:
    """Return the table for people: what, how much, the target, and whether it is met."""
    return [
        *_speed(figures),
        *_guarded(figures),
        *_policed(figures),
        *_latency(figures),
        *_memory(figures),
        *_timed(figures),
    ]


def _speed(figures: Figures) -> Iterator[Row]:
    ratios = figures.ratios
    spread, rate, hot = figures.spread, figures.per_second, figures.hot_per_second
    if spread is not None and rate is not None:
        verdict = "met" if rate >= PER_SECOND else "above the floor" if rate >= PER_SECOND_FLOOR else "missed"
        yield "transitions per second", f"{rate:,.0f}", f">= {PER_SECOND:,}, floor {PER_SECOND_FLOOR:,}", verdict
        yield "PostgreSQL alone, per second", f"{figures.alone_per_second:,.0f}", "", ""
        yield from _judged("  against it", ratios["against_postgres"], at_least=AGAINST_POSTGRES)
        yield "worker CPU per transition", "-" if spread.cpu_us is None else f"{spread.cpu_us:.1f} us", "", ""
        yield "worker memory", _mib(spread.rounds[-1].rss_bytes), "", ""
    if hot is not None:
        yield "one workflow, per second", f"{hot:,.0f}", "", ""
        yield from _judged("  against many", ratios["hot_against_spread"], at_least=HOT_AGAINST_SPREAD)


def _policed(figures: Figures) -> Iterator[Row]:
    if figures.policed is not None:
        rate = figures.policed.per_second
        met = _met(met=rate >= REMOTE_PER_SECOND)
        yield "remote guards, transitions per second", f"{rate:,.0f}", f">= {REMOTE_PER_SECOND:,}", met
        yield "  the same without guards", f"{figures.policed.without_per_second:,.0f}", "", ""


def _guarded(figures: Figures) -> Iterator[Row]:
    if figures.guarded is not None:
        yield "guarded transitions per second", f"{figures.guarded.per_second:,.0f}", "", ""
        ratio = figures.ratios["guarded_against_without"]
        yield from _judged("  against without guards", ratio, at_least=GUARDED_AGAINST_WITHOUT)


def _latency(figures: Figures) -> Iterator[Row]:
    for mode, quantiles in figures.latency.items():
        if mode == "exactly-once":
            met = _met(met=quantiles.p50 <= EXACTLY_ONCE_MS)
            yield f"latency, {mode}", _shown(quantiles), f"p50 <= {EXACTLY_ONCE_MS:.0f} ms", met
        else:
            yield f"latency, {mode}", _shown(quantiles), "", ""
    if figures.empty is not None:
        yield "empty Kafka transaction", _shown(figures.empty), "", ""
    ratio = figures.ratios["exactly_once_against_empty"]
    yield from _judged("  exactly-once p50 against it", ratio, at_most=AGAINST_EMPTY)


def _memory(figures: Figures) -> Iterator[Row]:
    for count, held in figures.memory.items():
        yield f"worker memory at {count:,} transitions", _mib(held), "", ""
    yield from _judged("  growth", figures.ratios["memory_growth"], at_most=MEMORY_GROWTH)


def _timed(figures: Figures) -> Iterator[Row]:
    timed = figures.timed
    if timed is None:
        return
    if timed.ticks is not None:
        met = _met(met=timed.ticks.p99 < TICK_MS)
        what = f"a tick that finds {DUE_AT_ONCE} of {timed.pending:,} timers due"
        yield what, _shown(timed.ticks), f"p99 < {TICK_MS:.0f} ms", met
    if timed.ticks_at_best is not None:
        yield "  at the processor's best pace", _shown(timed.ticks_at_best), "", ""
    if timed.idle is not None and timed.draining is not None:
        yield "commands, no timer due", _shown(timed.idle), "", ""
        yield f"commands, {timed.due_at_once:,} timers due", _shown(timed.draining), "", ""
        ratio = figures.ratios["draining_against_idle"]
        yield from _judged("  p99 against none due", ratio, at_most=DRAINING_AGAINST_IDLE)
        yield "  until they had fired", f"{timed.drained_seconds:.1f} s", "", ""
    if timed.late is not None:
        met = _met(met=timed.late.p99 < LATE_MS)
        yield f"lateness at {timed.late_rate:,} commands a second", _shown(timed.late), f"p99 < {LATE_MS:.0f} ms", met


def _judged(
    what: str, ratio: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> Iterator[Row]:
    """Yield a ratio beside its target, nothing for one that was not measured."""
    if ratio is not None and at_least is not None:
        yield what, f"{ratio:.2f}", f">= {at_least}", _met(met=ratio >= at_least)
    elif ratio is not None and at_most is not None:
        yield what, f"{ratio:.2f}", f"<= {at_most}", _met(met=ratio <= at_most)


def _ratio(figure: float | None, baseline: float | None) -> float | None:
    return figure / baseline if figure and baseline else None


def _written(quantiles: Quantiles) -> dict[str, float]:
    return {name: round(value, 2) for name, value in quantiles._asdict().items()}


def _shown(quantiles: Quantiles) -> str:
    return f"p50 {quantiles.p50:.1f} ms, p99 {quantiles.p99:.1f} ms"


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.1f} MiB"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _met(*, met: bool) -> str:
    return "met" if met else "missed"
