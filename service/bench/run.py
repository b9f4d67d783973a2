"""Runs the parts that were asked for, one after another on the same ground, and gathers their figures."""

from collections.abc import Set as AbstractSet
from typing import Any

from service.bench.latency import empty_transactions, latency
from service.bench.place import ground, machine
from service.bench.remote import remote
from service.bench.report import Figures, conditions
from service.bench.scale import Say, Scale
from service.bench.throughput import guarded, hot, memory, spread
from service.bench.timers import timers
from service.settings import Settings


async def measure(chosen: Settings, scale: Scale, parts: AbstractSet[str], say: Say) -> tuple[Figures, dict[str, Any]]:
    """Return the figures and the conditions they were made under; raises BenchError where none would be honest."""
    figures = Figures()
    async with ground(chosen, say) as base:
        if "throughput" in parts:
            figures.spread = await spread(base, scale, say)
        if "hot" in parts:
            figures.hot = await hot(base, scale, say)
        if "guarded" in parts:
            figures.guarded = await guarded(base, scale, say)
        if "latency" in parts:
            figures.latency["exactly-once"] = await latency(base, scale, "exactly-once", say)
            figures.latency["at-least-once"] = await latency(base, scale, "at-least-once", say)
            figures.empty = await empty_transactions(base, scale, say)
        if "memory" in parts:
            figures.memory = await memory(base, scale, say)
        if "remote" in parts:
            figures.policed = await remote(base, scale, say)
        if "timers" in parts:
            figures.timed = await timers(base, scale, say)
        return figures, conditions(base, scale, figures, machine(base))
