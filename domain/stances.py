"""What is known of a guard before anybody asks it: it is opaque, but for constants and literal negations.

Two guards of the same text have the same answer at the same moment, a text and its negation opposite ones; nothing
else is known, whatever the texts say.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from contracts.predicates import Guard
from domain.canonical import canonical
from domain.cel_text import Token, closing, tokens


class Stance(NamedTuple):
    """A condition, by its engine and text without layout, and whether it has to hold or not to hold."""

    condition: tuple[str, object]
    holds: bool

    def excludes(self, other: "Stance") -> bool:
        """Tell whether the two are never met at once."""
        return self.condition == other.condition and self.holds != other.holds


_TRUE = ("", True)
ALWAYS = Stance(_TRUE, holds=True)
NEVER = Stance(_TRUE, holds=False)


def stance(guard: Guard | None) -> Stance:
    """Return what a transition's guard comes to; none is always met."""
    return ALWAYS if guard is None else stance_of(guard.engine, guard.expression)


def stance_of(engine: str, expression: str) -> Stance:
    """Return what an expression comes to in its engine's language."""
    read = _READERS.get(engine)
    return Stance((engine, expression), holds=True) if read is None else read(expression)


def _cel(expression: str) -> Stance:
    """Take off negations and the parentheses around the whole; `!` binds to what is one operand."""
    part = tokens(expression)
    closes = closing(part)
    start, end, holds = 0, len(part), True
    while start < end:
        negations = start
        while negations < end and part[negations].text == "!":
            negations += 1
        enclosed = closes.get(negations) == end - 1 and part[negations].text == "("
        if not enclosed and (negations == start or not _is_operand(part, closes, negations, end)):
            break
        holds ^= (negations - start) % 2 == 1
        start = negations
        if not enclosed:
            break
        start, end = start + 1, end - 1
    text = "\0".join(token.text for token in part[start:end])  # which no expression holds
    if text in {"true", "false"}:
        return ALWAYS if (text == "true") == holds else NEVER
    return Stance(("cel", text), holds)


def _is_operand(part: list[Token], closes: Mapping[int, int], start: int, end: int) -> bool:
    """Tell whether no operator stands outside brackets: a path, a call, a literal, an index."""
    index, joined = start, True
    while index < end:
        token = part[index]
        if token.kind == "mark" and token.text != "." and index not in closes:
            return False
        if token.kind != "mark" and not joined:
            return False  # two words side by side: `in`
        joined = token.text == "."
        index = closes.get(index, index) + 1
    return start < end


def _jsonlogic(expression: str) -> Stance:
    """Take off `{"!": rule}` and `{"!": [rule]}`."""
    rule: Any = orjson.loads(expression)
    holds = True
    while isinstance(rule, dict) and list(rule) == ["!"]:
        inner = rule["!"]
        if isinstance(inner, list) and len(inner) != 1:
            break
        rule, holds = inner[0] if isinstance(inner, list) else inner, not holds
    if isinstance(rule, bool):
        return ALWAYS if rule == holds else NEVER
    return Stance(("jsonlogic", canonical(rule)), holds)


_READERS: Mapping[str, Callable[[str], Stance]] = {"cel": _cel, "jsonlogic": _jsonlogic}
