"""A guard put to its engine: what is asked and what the engine may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.predicates import Guard

# What an expression may name; a definition that reads anything else is refused before it is stored.
VARIABLES = ("workflow", "command", "actor", "children", "slas", "now")


@dataclass(frozen=True, slots=True)
class Question:
    """A guard and its inputs: plain JSON under each of `VARIABLES`, `now` as RFC 3339 text.

    No text may hold a NUL: the CEL library ends a text there, so that "admin", NUL, "x" would equal "admin".
    The decoder refuses such commands before they come here.
    """

    guard: Guard
    inputs: Mapping[str, Any]
