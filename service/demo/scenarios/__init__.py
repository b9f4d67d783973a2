"""The scenarios by name, in the order in which they are played."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from service.demo.scenarios import concurrent, lifecycle, monitoring, predicate, properties, recovery, sla, stress
from service.demo.scene import Scene

LATER = ("process", "assignment")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario: its name, what it shows, and how it is played."""

    name: str
    title: str
    play: Callable[[Scene], Awaitable[None]]


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario("lifecycle", "one workflow through its whole life", lifecycle.play),
            Scenario("properties", "the eight properties, each tried from outside", properties.play),
            Scenario("concurrent", "many clients at once, on one workflow and on many", concurrent.play),
            Scenario("predicate", "guards allow and deny, and say why", predicate.play),
            Scenario("recovery", "the worker killed in the middle of traffic", recovery.play),
            Scenario("monitoring", "what Prometheus and a load balancer see", monitoring.play),
            Scenario("sla", "a month of promises in seconds", sla.play),
            Scenario("stress", "50 workflows, 200 transitions, 250 events", stress.play),
        )
    }
)


class UnknownScenarioError(Exception):
    """A name that no scenario has; the message lists those there are."""


def choose(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names, each once, all without a name; raises UnknownScenarioError."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise UnknownScenarioError(
            f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)} "
            f"({', '.join(LATER)} come with later releases)"
        )
    return [SCENARIOS[name] for name in dict.fromkeys(names or SCENARIOS)]
