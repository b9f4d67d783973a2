"""A lab that promises to test samples within seconds: most are tested late or never, some in time.

Part of the load of whoever wants promises broken; when it ends, every one of them has had its time.
"""

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.e2e.outside import all_decided, command, creation, rows
from tests.eventually import assert_eventually
from tests.faults.history import Findings
from tests.faults.published import Kind, Violation
from tests.faults.stage import Stage

SAMPLE = """
name: lab.sample
version: 1
states: {received: {initial: true}, shelved: {}, tested: {}, escalated: {}, reported: {terminal: true}}
transitions:
  - {name: test, from: [received, escalated], to: tested}
  - {name: shelve, from: [received, escalated], to: shelved}
  - {name: fetch, from: shelved, to: received}
  - {name: escalate, from: received, to: escalated}
  - {name: again, from: tested, to: received}
  - {name: report, from: tested, to: reported}
slas:
  - name: testing
    target: 3s
    warning: 1s
    starts: [received]
    holds: [shelved]
    stops: [tested]
    ladder:
      - {after: 0s, alert: lab-lead}
      - {after: 2s, priority: high, transition: escalate}
      - {after: 4s, alert: director}
  - {name: reporting, target: 30m, stops: [reported]}
"""
LADDER = 3
SHARE = 0.1
"""Of a mixed load, how much is about samples."""
LEFT = "select workflow_id, due_at from timer where name = 'testing'"


def storm(seed: int) -> Iterator[dict[str, Any]]:
    """Yield samples without end, of which most are tested late or never, and what is done with the newest of them."""
    chance = random.Random(seed)
    number = 0
    while True:
        kind = chance.random()
        name = f"s-{seed}-{max(number - int(chance.expovariate(0.02)), 0)}"
        if kind < 0.3 or number == 0:
            number += 1
            yield creation(f"s-{seed}-{number}", "lab.sample")
        elif kind < 0.8:
            yield command(name, transition=chance.choice(("test", "shelve", "fetch", "again", "report")))
        elif kind < 0.95:
            yield command(name, chance.choice(("pause_sla", "resume_sla")), sla="testing", reason="so")
        else:
            yield command(name, "extend_sla", sla="testing", seconds=2, reason="so")


def amid(others: Iterator[dict[str, Any]], *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield other commands with a storm's among them."""
    chance, samples = random.Random(seed), storm(seed)
    while True:
        yield next(samples if chance.random() < SHARE else others)


async def judged(stage: Stage) -> Findings:
    """Send no more, wait until time alone changes nothing more of a short promise, and judge what is left."""
    await stage.sender.settle()

    async def left() -> int:
        return len(await rows(stage.endpoints, LEFT))

    with suppress(AssertionError):  # what is left undone is among the findings
        await all_decided(stage.settings, stage.endpoints)
        await assert_eventually(0, left, poll_seconds=0.3)
    findings = await stage.verdict()
    for row in await rows(stage.endpoints, LEFT):
        what = f"testing is to go on at {row['due_at']}, and nothing came of it to the end"
        findings.violations.append(Violation(Kind.OVERDUE, row["workflow_id"], what))
    return findings
