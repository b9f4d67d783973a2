"""A simulation that cannot fail shows nothing: the protocol with a rule left out is caught."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.world import simulate

SEEDS_MAX = 600


def first_violation(mutant: Mutant) -> int:
    """Return the first seed that breaks a promise which the missing rule keeps."""
    for seed in range(SEEDS_MAX):
        if any(rule in mutant.breaks for rule, _ in simulate(seed, parts=mutant.parts).violations):
            return seed
    return SEEDS_MAX


@pytest.mark.timeout(900)
@pytest.mark.stack  # it needs no server, but more time than `make check` has
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught(name: str) -> None:
    """Within a few hundred seeds a promise is broken that the missing rule keeps."""
    assert first_violation(MUTANTS[name]) < SEEDS_MAX
