"""Two outcomes of the same commands side by side: as they were decided, and as a candidate would decide them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from contracts.commands import Command
from contracts.predicates import Guard
from domain.cel_text import reads
from domain.decision import Accepted, Decision
from domain.definition import RECOVER

Json = Mapping[str, Any]

ACCEPTED = "accepted"
EXAMPLES_MAX = 5
_NAMING = {"from_state", "to_state"}


def looks_at_slas(guard: Guard) -> bool:
    """Say whether a guard may look at SLAs, as far as its text tells; of a remote one nobody knows."""
    if guard.engine != "cel":
        return guard.engine == "remote" or "slas" in guard.expression or '"workflow"' in guard.expression
    found = reads(guard.expression)
    if found is None or "slas" in found:
        return True
    fields = found.get("workflow", {})
    return fields is None or "slas" in fields


class Outcome(NamedTuple):
    """What became of a command: `accepted` or a refusal's code, and where it led if it was a transition."""

    said: str
    transition: str | None = None
    to_state: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether it changed something."""
        return self.said == ACCEPTED


class Difference(NamedTuple):
    """What came out otherwise: for which transition, what was recorded, what the candidate says."""

    transition: str
    recorded: str
    candidate: str


class Ends(NamedTuple):
    """Where a workflow stands after all of its commands; None where it was never created."""

    recorded: str | None
    candidate: str | None


Differing = TypeVar("Differing", Difference, Ends)


@dataclass(slots=True)
class Found:
    """How often something was found, and the first workflows it was found in."""

    count: int = 0
    workflows: list[str] = field(default_factory=list)

    def add(self, workflow_id: str) -> None:
        """Count it once more."""
        self.count += 1
        if len(self.workflows) < EXAMPLES_MAX and workflow_id not in self.workflows:
            self.workflows.append(workflow_id)


@dataclass(slots=True)
class Comparison:
    """What a backtest came to: commands = same + differing + repeats + the sum of `not_judged`.

    `believed` counts those among the judged whose outcome only the running service could see, and was taken as it was.
    """

    workflows: int = 0
    commands: int = 0
    same: int = 0
    repeats: int = 0
    believed: Counter[str] = field(default_factory=Counter)
    not_judged: Counter[str] = field(default_factory=Counter)
    differences: dict[Difference, Found] = field(default_factory=dict)
    same_ends: int = 0
    ends_not_judged: int = 0
    ends: dict[Ends, Found] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Count the commands that come out otherwise."""
        return sum(found.count for found in self.differences.values())

    @property
    def judged(self) -> int:
        """Count the commands that were judged again."""
        return self.same + self.differing

    def compare(self, workflow_id: str, asked: str, recorded: Outcome, candidate: Outcome) -> None:
        """Take one command's two outcomes; `asked` names it where neither accepted it."""
        if recorded == candidate:
            self.same += 1
            return
        way = recorded.transition or candidate.transition or asked
        difference = Difference(way, _worded(recorded, candidate), _worded(candidate, recorded))
        self.differences.setdefault(difference, Found()).add(workflow_id)

    def end(self, workflow_id: str, ends: Ends) -> None:
        """Take a workflow's two last states."""
        if ends.recorded == ends.candidate:
            self.same_ends += 1
        else:
            self.ends.setdefault(ends, Found()).add(workflow_id)


def recorded_outcome(reply: Json, event: Json | None) -> Outcome:
    """Return what a stored reply says, with its event's way."""
    if reply["outcome"] != ACCEPTED:
        return Outcome(str(reply["rejection"]["code"]))
    return Outcome(ACCEPTED) if event is None else _way(event)


def event_in(states: Mapping[str, str], event: Json) -> Json:
    """Return a recorded event with a candidate's names of its states."""
    return {**event, **{name: states.get(event[name], event[name]) for name in _NAMING & event.keys()}}


def command_in(states: Mapping[str, str], command: Command) -> Command:
    """Return a recorded command as it would ask a candidate for what takes the place of the state it names."""
    if command.command_type != "request_transition" or command.target_state is None:
        return command
    return command.model_copy(update={"target_state": states.get(command.target_state, command.target_state)})


def outcome_of(decision: Decision) -> Outcome:
    """Return what a decision comes to."""
    return _way(decision.events[0]) if isinstance(decision, Accepted) else Outcome(decision.code.value)


def asked_for(command: Command) -> str:
    """Name what a command asks for, whatever becomes of it."""
    if command.command_type == "request_transition":
        return command.transition or f"to {command.target_state}"
    return RECOVER if command.command_type == "recover_workflow" else command.command_type


def in_order(differences: Mapping[Differing, Found]) -> Iterable[tuple[Differing, Found]]:
    """Return differences with the most frequent first, those that are as frequent by their names."""
    return sorted(differences.items(), key=lambda pair: (-pair[1].count, [name or "" for name in pair[0]]))


def _way(event: Json) -> Outcome:
    return Outcome(ACCEPTED, event.get("transition"), event.get("to_state"))


def _worded(outcome: Outcome, other: Outcome) -> str:
    """Say an outcome; where both accept, by the way that differs."""
    if outcome.accepted and other.accepted:
        return f"{outcome.transition or 'no transition'} to {outcome.to_state}"
    return outcome.said
