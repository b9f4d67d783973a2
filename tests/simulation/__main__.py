"""`python -m tests.simulation SEED` replays one world; `--seeds N --state FILE` runs many, on from the last time."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import SEEDS_TO_MEET_ALL, run
from tests.simulation.world import PRODUCT, simulate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed and show everything that happens in it")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--state", type=Path, help="where the next seed and the running totals are kept")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes run seeds side by side")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="leave one rule of the protocol out")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _replay(given.seed, given.mutant)
    totals = run(given.seeds, state=given.state, jobs=given.jobs, say=_say, mutant=given.mutant)
    for name, count in sorted(totals.struck.items()):
        _say(f"{count:>12,}  {name}")
    for seed, violations in sorted(totals.broken.items())[:1]:
        for rule, detail in violations:
            _say(f"seed {seed} breaks '{rule}': {detail}")
        mutant = "" if given.mutant is None else f" --mutant '{given.mutant}'"
        _say(f"replay it: python -m tests.simulation {seed}{mutant}")
    never = totals.never_struck if totals.seeds >= SEEDS_TO_MEET_ALL else []
    if never:
        _say(f"never struck: {', '.join(never)}")
    return 1 if totals.broken or never else 0


def _replay(seed: int, mutant: str | None) -> int:
    outcome = simulate(seed, parts=PRODUCT if mutant is None else MUTANTS[mutant].parts, say=_say)
    for rule, detail in outcome.violations:
        _say(f"seed {seed} breaks '{rule}': {detail}")
    _say(f"{outcome.steps} steps, digest {outcome.digest}, {len(outcome.violations)} violations")
    return 1 if outcome.violations else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
