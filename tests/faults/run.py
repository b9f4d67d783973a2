"""The long form: rounds of faults under load until the total is reached, each on servers of its own, each judged.

`python -m tests.faults.run` goes on where the last run stopped. A violation ends it, keeps the evidence and says how
to play the round again; so does a round in which no SLA breached, and a fault that never struck.
"""

import argparse
import asyncio
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.app import Endpoints
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Delivery, Settings
from tests.e2e.load import commands
from tests.e2e.outside import define
from tests.faults.evidence import journal_of
from tests.faults.faults import Fault, faults
from tests.faults.history import Findings
from tests.faults.points import Action
from tests.faults.sender import spoilt
from tests.faults.stage import WORKFLOWS, Cast, Stage, staged
from tests.faults.storm import SAMPLE, amid, judged
from tests.faults.tally import PROMISED, Tally, gaps, unseen

MODES: tuple[Delivery, ...] = ("exactly-once", "exactly-once", "at-least-once")
"""Every third round publishes at least once."""
FAULTS_A_ROUND = 8
PARTITIONS = 6
CALM_SECONDS = 10.0
DISK_MIB = 1024
REACH_SECONDS = {"kill": 8.0, "stop": 2.0}
SERVER_KILLS = ("broker killed", "database killed")
STOPPED = 130
"""The exit code after Ctrl-C, as shells have it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: the seed of its load and its chances, and its faults in their order."""

    seed: int
    delivery: Delivery
    faults: Sequence[Fault]
    per_second: int

    def __str__(self) -> str:
        names = ";".join(fault.name for fault in self.faults)
        return f"--seed {self.seed} --delivery {self.delivery} --rate {self.per_second} --faults '{names}'"


def main() -> int:
    """Play rounds until the total is reached; returns 1 where a promise was broken, or none was put to the test."""
    arguments = _arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the client's words about a broker that is away
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        return _rounds(arguments)
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C; an unfinished round does not count, and nothing of it runs any more")
        return STOPPED


def _rounds(arguments: argparse.Namespace) -> int:
    state = arguments.folder / "total.json"
    if arguments.seed is not None:
        tally = Tally()
        well = asyncio.run(_round(_given(arguments), tally, arguments.folder))
        _say(tally.table())
        return not well
    tally = Tally.read(state)
    while tally.kills_and_pauses < arguments.kills or tally.commands < arguments.commands:
        plan = planned(tally, _possible(tally), arguments.rate)
        if not asyncio.run(_round(plan, tally, arguments.folder)):
            return 1
        tally.next_seed = plan.seed + 1
        tally.write(state)
        _say(
            f"total: {tally.rounds} rounds, {tally.commands} of {arguments.commands} commands, "
            f"{tally.kills_and_pauses} of {arguments.kills} kills and pauses, {tally.violations} violations"
        )
    _say(tally.table())
    idle = [fault.name for mode in MODES[1:] for fault in faults(mode) if not tally.strikes[fault.name]]
    idle = [name for name in idle if name not in tally.missing]
    _say("".join(f"never struck: {name}\n" for name in idle))
    return bool(idle)


def planned(tally: Tally, possible: Sequence[Fault], rate: int) -> Plan:
    """Choose the faults that struck least so far, in an order of chance."""
    chance = random.Random(tally.next_seed)
    shuffled = chance.sample(possible, len(possible))
    chosen = sorted(shuffled, key=lambda fault: tally.strikes[fault.name])[:FAULTS_A_ROUND]
    return Plan(tally.next_seed, _mode(tally), chance.sample(chosen, len(chosen)), rate)


def _mode(tally: Tally) -> Delivery:
    return MODES[tally.next_seed % len(MODES)]


def _possible(tally: Tally) -> list[Fault]:
    """Return the faults that this machine can have; the total remembers why it cannot have the others."""
    found = {fault: fault.missing() for fault in faults(_mode(tally))}
    known = {name: why for name, why in tally.missing.items() if name not in {fault.name for fault in found}}
    tally.missing = known | {fault.name: why for fault, why in found.items() if why is not None}
    return [fault for fault, why in found.items() if why is None]


def _given(arguments: argparse.Namespace) -> Plan:
    known = {fault.name: fault for fault in faults(arguments.delivery)}
    chosen = [known[name] for name in arguments.faults.split(";")] if arguments.faults else list(known.values())
    return Plan(arguments.seed, arguments.delivery, chosen, arguments.rate)


async def _round(plan: Plan, tally: Tally, kept: Path) -> bool:
    """Play one round on servers of its own; keep what it left where it did not end well; returns whether it did."""
    _say(f"round {plan.seed}, {plan.delivery}")
    folder = _made(plan)
    servers = folder / "servers"
    small = any(fault.name.endswith("disk full") for fault in plan.faults)
    well = False
    try:
        with _disks(servers, small=small):
            findings = await _play(plan, tally, folder)
        tally.rounds += 1
        tally.counts[plan.delivery].update(findings.counts)
        tally.violations += len(findings.violations)
        well = _shows(findings)
    finally:
        if not well:
            _keep(folder, kept, plan)
        await erase(servers)
        shutil.rmtree(folder)
    return well


def _shows(findings: Findings) -> bool:
    """Say what a round found, and return whether it shows that every promise was put to the test and kept."""
    _say(f"  promises: {', '.join(f'{findings.counts[name]} {name}' for name in PROMISED)}")
    for violation in findings.violations[:50]:
        _say(str(violation))
    missed = unseen(findings.counts)
    for name in missed:
        _say(f"  there were no {name}: that shows nothing")
    return not findings.violations and not missed


async def _play(plan: Plan, tally: Tally, folder: Path) -> Findings:
    name = f"f{plan.seed}"
    settings = Settings(
        prefix=name, group_id=name, http_port=0, partitions=PARTITIONS, delivery=plan.delivery, log_level="info"
    )
    stack = LocalStack(folder / "servers", report=_say)
    async with stack as local:
        endpoints = Endpoints(local.bootstrap_servers, local.database_url)
        await prepare(settings, endpoints)
        await define(endpoints, SAMPLE)
        async with staged(settings, endpoints, folder, _cast(plan), stack=stack) as stage:
            measured: dict[str, list[float]] = {"kill": [], "stop": []}
            with _heard():
                await stage.until_shared()
                await stage.keep_still(CALM_SECONDS)
                for fault in plan.faults:
                    await _strike(stage, fault, tally, measured)
                findings = await judged(stage)
            for what, window in stage.windows.items():
                tally.heard(f"{plan.delivery}, {what}", stage.latencies(window))
    for what, at in measured.items():
        tally.resumed[what] += gaps(journal_of(folder / "evidence"), at, reach_seconds=REACH_SECONDS[what])
    return findings


@contextmanager
def _heard() -> Iterator[None]:
    """Say at once that Ctrl-C was heard."""
    try:
        yield
    except (asyncio.CancelledError, KeyboardInterrupt):
        _say("Ctrl-C: ending the round")
        raise


def _cast(plan: Plan) -> Cast:
    """Return three workers, and a client that sends all sorts of commands with a storm of breaches among them."""
    bodies = amid(commands(seed=plan.seed, workflows=WORKFLOWS), seed=plan.seed)
    stream = spoilt(bodies, seed=plan.seed, partitions=PARTITIONS)
    return Cast(plan.seed, hands=3, per_second=plan.per_second, stream=stream)


async def _strike(stage: Stage, fault: Fault, tally: Tally, measured: dict[str, list[float]]) -> None:
    began, struck, stops = time.time(), len(stage.struck), len(stage.stops)
    number = await fault.strike(stage)
    await stage.until_well()
    of_it = stage.struck[struck:]
    halting = [strike.at for strike in of_it if strike.action in {Action.KILL, Action.STAND_STILL}]
    tally.strikes[fault.name] += number
    tally.kills_and_pauses += len(halting) + number * (fault.name in SERVER_KILLS)
    if fault.measures == "kill":
        measured["kill"] += halting
    if fault.measures == "stop":
        measured["stop"] += stage.stops[stops:]
    _say(f"  {fault.name}: struck {number} times, moving again after {time.time() - began:.0f} s")


def _made(plan: Plan) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"turnstile-faults-{plan.seed}-"))
    folder.chmod(0o755)  # PostgreSQL's account looks in
    return folder


@contextmanager
def _disks(servers: Path, *, small: bool) -> Iterator[None]:
    """Give broker and database a disk each that can be filled, where a fault is to do so."""
    mounted: list[Path] = []
    try:
        for name in ("kafka", "postgres") if small else ():
            place = servers / name
            place.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", place], check=True)
            mounted.append(place)
        yield
    finally:
        for place in mounted:
            subprocess.run(["umount", "-l", place], check=False)


def _keep(folder: Path, kept: Path, plan: Plan) -> None:
    place = kept / f"round-{plan.seed}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("kafka", "postgres"))
    (place / "again").write_text(f"python -m tests.faults.run {plan}\n", "utf-8")
    _say(f"everything is kept in {place}; play it again with\n  python -m tests.faults.run {plan}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills and pauses to reach")
    parser.add_argument("--commands", type=int, default=500_000, help="commands to reach")
    parser.add_argument("--rate", type=int, default=300, help="commands a second")
    parser.add_argument("--folder", type=Path, default=Path(".faults"), help="the total, and what a violation leaves")
    parser.add_argument("--seed", type=int, help="play one round, apart from the total")
    parser.add_argument("--delivery", choices=sorted(set(MODES)), default="exactly-once", help="of that round")
    parser.add_argument("--faults", help="of that round, by name, with ; between them")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
