"""CEL as the translation of conditions builds it: pieces that know how tightly they bind and what they give."""

import ast
import re
from dataclasses import dataclass
from math import isfinite
from typing import Literal

Kind = Literal["any", "bool", "int", "float", "text", "null", "list", "instant"]

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# fmt: off
RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
})
TYPES = frozenset({
    "bool", "bytes", "double", "dyn", "duration", "google", "has", "int", "list", "map", "null_type", "size", "string",
    "timestamp", "type", "uint",
})
# fmt: on
# How tightly CEL binds, loosest first.
CHOICE, OR, AND, RELATION, SUM, PRODUCT, UNARY, MEMBER = range(8)
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class UnsupportedError(Exception):
    """A way out of the translation, never seen outside of it: `node` cannot be written in CEL."""

    def __init__(self, node: ast.AST, message: str) -> None:
        self.node = node
        self.message = message


@dataclass(frozen=True, slots=True)
class Cel:
    """A piece of CEL: how tightly it binds, what it gives as far as that is known, and whether it reads a path."""

    text: str
    level: int
    kind: Kind = "any"
    path: bool = False

    def at(self, level: int) -> str:
        """Return the text as an operand that has to bind at least so tightly."""
        return self.text if self.level >= level else f"({self.text})"


def all_of(parts: list[Cel], *, exact: bool) -> Cel:
    """Join with `and`: by `&&` where only `True` matters, else so that an error is not hidden by what comes after."""
    if not exact and len(parts) > 1:
        return Cel(" && ".join(part.at(AND) for part in parts), AND, "bool")
    piece = parts[-1]
    for part in reversed(parts[:-1]):
        piece = choice(part, piece, Cel("false", MEMBER, "bool"))
    return piece


def any_of(parts: list[Cel]) -> Cel:
    """Join with `or`, never by `||`: it would take a later part that is true for an earlier one that is an error."""
    piece = parts[-1]
    for part in reversed(parts[:-1]):
        piece = choice(part, Cel("true", MEMBER, "bool"), piece)
    return piece


def choice(test: Cel, chosen: Cel, other: Cel) -> Cel:
    """Write `chosen` if `test`, else `other`: what is not chosen is not looked at."""
    kind = chosen.kind if chosen.kind == other.kind else "any"
    if "any" not in {chosen.kind, other.kind} and kind == "any":
        chosen = Cel(f"dyn({chosen.text})", MEMBER)  # CEL wants one type, unless it does not know it
    return Cel(f"{test.at(OR)} ? {chosen.at(OR)} : {other.text}", CHOICE, kind)


def instant(node: ast.expr, piece: Cel) -> Cel:
    """Read a text as the instant that it names."""
    if piece.kind not in {"any", "text"}:
        raise UnsupportedError(
            node, "now is compared with an instant: a text such as '2026-11-21T09:30:00Z', or a field that holds one"
        )
    return Cel(f"timestamp({piece.text})", MEMBER, "instant")


def literal(node: ast.expr, value: object) -> Cel:
    """Write a value of Python's out."""
    if value is None:
        return Cel("null", MEMBER, "null")
    if isinstance(value, bool):
        return Cel(str(value).lower(), MEMBER, "bool")
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return Cel(str(value), MEMBER if value >= 0 else UNARY, "int")
    if isinstance(value, float) and isfinite(value):
        return Cel(repr(value), MEMBER if repr(value)[0] != "-" else UNARY, "float")
    if isinstance(value, str) and not _UNWRITABLE.search(value):
        return Cel(f'"{"".join(_ESCAPED.get(each, each) for each in value)}"', MEMBER, "text")
    raise UnsupportedError(node, "this value cannot be written in CEL: numbers have 64 bits, texts no NUL")


def field_step(name: str) -> str:
    """Write the step to a field, also to one whose name CEL keeps for itself."""
    return f'["{name}"]' if name in RESERVED else f".{name}"
