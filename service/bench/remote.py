"""How many commands a second become events where a remote policy engine judges each, beside those without a guard.

Rounds of both kinds take turns on one worker, so that the machine's noise is in both.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from service.bench.load import Fleet
from service.bench.place import STATES, Ground, define, place
from service.bench.scale import BenchError, Say, Scale
from service.bench.throughput import Guarded, course
from service.local.ports import HOST, choose_port, is_open
from service.local.process import Command, Watched, until

ANSWER_SECONDS = 0.005
START_SECONDS = 30.0
PATIENCE_SECONDS = 30.0
"""A slow moment of the machine is to show in the rate, not as commands that were refused."""
PORTS = range(16000, 20000)
POLICED = "bench.policed"
RING = f"""
name: {POLICED}
version: 1
kind: workflow
description: Two states and the ways between them, each guarded by a remote policy.
states: {{{STATES[0]}: {{initial: true}}, {STATES[1]}: {{}}}}
transitions:
  - {{name: forth, from: {STATES[0]}, to: {STATES[1]}, guard: {{remote: bench/forth}}}}
  - {{name: back, from: {STATES[1]}, to: {STATES[0]}, guard: {{remote: bench/back}}}}
"""


async def remote(ground: Ground, scale: Scale, say: Say) -> Guarded:
    """Measure transitions that a policy engine in another process allows, asked in batches."""
    found = Guarded()
    async with _engine(ground.folder) as url:
        patient = {"guard_seconds": PATIENCE_SECONDS, "predicate_seconds": PATIENCE_SECONDS}
        chosen = ground.chosen.model_copy(update={"predicate_url": url, "predicate_dialect": "json", **patient})
        async with place(replace(ground, chosen=chosen), "remote") as where:
            await define(where.database_url, RING)
            n_parts = where.settings.partitions
            policed, free = Fleet(scale.workflows, n_parts, definition=POLICED), Fleet(scale.workflows, n_parts)
            async with course(where, say) as runs:
                await runs.round([*policed.creates(), *free.creates()], "remote guards, creations (not counted)")
                for number in range(1, scale.rounds + 1):
                    what = f"round {number} of {scale.rounds}"
                    found.without.append(await runs.round(free.transitions(scale.transitions), f"no guards, {what}"))
                    found.guarded.append(
                        await runs.round(policed.transitions(scale.transitions), f"remote guards, {what}")
                    )
                    say(
                        f"{what}: {found.guarded[-1].per_second:,.0f}/s with remote guards, "
                        f"{found.without[-1].per_second:,.0f}/s without"
                    )
    return found


@asynccontextmanager
async def _engine(folder: Path) -> AsyncIterator[str]:
    port = choose_port(PORTS, None)
    process = Watched(
        Command(
            name="the policy engine",
            argv=[sys.executable, "-m", "service.bench.policies", str(port), str(ANSWER_SECONDS)],
            log=folder / "policies.log",
            cwd=Path.cwd(),
        )
    )
    try:
        if not await until(lambda: is_open(port), START_SECONDS):
            raise BenchError("the benchmark's policy engine does not start")
        yield f"http://{HOST}:{port}"
    finally:
        await process.stop()
