"""Machines of chance for the checker's tests, with what their guards mean said beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

# A guard's text, the condition it is about, and whether that has to hold; no text means anything else.
TEXTS: tuple[tuple[str | None, str, bool], ...] = (
    (None, "", True),
    (None, "", True),
    ("true", "", True),
    ("false", "", False),
    ("!(true)", "", False),
    ("p", "p", True),
    (" ( p ) ", "p", True),
    ("!p", "p", False),
    ("!(p)", "p", False),
    ("q == 1", "q == 1", True),
    ("!(q  ==  1)", "q == 1", False),
    ("!q == 1", "another", True),
    ("p && q", "p && q", True),
    ("!(p && q)", "p && q", False),
)
MEANING: Mapping[str | None, tuple[str, bool]] = {text and text.strip(): (about, holds) for text, about, holds in TEXTS}


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a machine may become."""

    states_max: int = 8
    clauses_max: int = 10


def machine(random: Random, shape: Shape = Shape()) -> dict[str, Any]:
    """Draw a document without errors of shape or reference."""
    states = [f"S{number}" for number in range(random.randint(1, shape.states_max))]
    terminal = set(random.sample(states, random.randint(0, min(2, len(states)))))
    leaving = [state for state in states if state not in terminal]
    initial = random.choice(states)
    transitions: list[dict[str, Any]] = []
    for number in range(random.randint(0, shape.clauses_max) if leaving else 0):
        sources = random.sample(leaving, random.randint(1, min(3, len(leaving))))
        target = random.choice([*states, *sources])
        clause = {"name": f"t{number}", "to": target, "from": sources if len(sources) > 1 else sources[0]}
        guard = random.choice(TEXTS)[0]
        transitions.append(clause if guard is None else clause | {"guard": guard})
    return {
        "name": "shop.drawn",
        "version": 1,
        "states": {state: {"initial": state == initial, "terminal": state in terminal} for state in states},
        "transitions": transitions,
    }
