"""A simulation that cannot fail shows nothing: the protocol with a rule left out is caught."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.world import simulate

SEEDS_MAX = 600


def first_violations(mutant: Mutant) -> tuple[int, set[str]]:
    """Return the first seed that breaks a rule of the mutant's, and which rules break there."""
    for seed in range(SEEDS_MAX):
        rules = {rule for rule, _ in simulate(seed, parts=mutant.parts).violations}
        if rules:
            return seed, rules
    return SEEDS_MAX, set()


@pytest.mark.timeout(900)
@pytest.mark.stack  # it needs no server, but more time than `make check` has
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught(name: str) -> None:
    """Within a few hundred seeds a promise is broken, and it is one that the missing rule keeps."""
    mutant = MUTANTS[name]
    seed, rules = first_violations(mutant)
    assert seed < SEEDS_MAX
    assert rules & mutant.breaks, rules
