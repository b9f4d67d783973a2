"""Asks guards from standard input on large inputs, within limits that the system enforces; one answer a line."""

import asyncio
import json
import resource
import sys
from pathlib import Path
from typing import Any

from contracts.predicates import Guard
from handlers.ports import verdicts
from service.predicates.engines import Engines
from tests.fakes.guards import question_of

CPU_SECONDS = 40
MEMORY_BYTES = 512 * 1024 * 1024
COMMAND = {"l": [1] * 3_000 + ["2" * 40] * 500, "s": "1" * 200_000} | {f"s{n}": "1" * 20_000 for n in range(2)}
INPUTS: dict[str, Any] = {
    "workflow": {"version": 1},
    "command": COMMAND,
    "actor": {},
    "children": [],
    "slas": [],
    "now": "2026-01-02T00:00:00.000000Z",
}


def refused_at_check(said: dict[str, Any]) -> bool:
    """Say whether a guard was found wrong before it was asked, and not asked all the same."""
    return said["flaw"] is not None and said["outcome"] == "unavailable"


def limit() -> None:
    """Let the system end this process beyond its processor time, and refuse it memory beyond what is allowed."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))


async def main() -> None:
    """Answer each."""
    engines = Engines()
    for engine, expression in json.load(sys.stdin):
        guard = Guard(engine=engine, expression=expression)
        flaw = engines.compile(guard)
        (verdict,) = await verdicts(engines, [question_of(guard, INPUTS)])
        said = {"flaw": flaw and flaw.message, "outcome": verdict.outcome, "cause": verdict.cause}
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    limit()
    asyncio.run(main())
