"""What a CEL expression's text tells: its clauses, the paths it reads, and how much work it may make.

The library bounds recursion (32) and iterations (100,000) but neither the size of what is built in a loop nor the
time of one step, so loops are kept to a form whose work can be foreseen from the inputs' size.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from domain.guards import VARIABLES, Reads

_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
    |(?P<text>(?:[rR][bB]?|[bB][rR])(?:\"{3}(?:.|\n)*?\"{3}|'{3}(?:.|\n)*?'{3}|"[^"\n]*"|'[^'\n]*')
     |[bB]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`\n]*`)
    |(?P<mark>&&|\|\||.)""",
    re.VERBOSE,
)
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d{1,4})(?:,(?P<most>\d{1,4})?)?\}|.", re.DOTALL)
_ESCAPES = re.compile(r"\\[xXuU0-7]")
_LOOPS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_CONSTANTS = frozenset({"true", "false", "null"})
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_CLOSES = frozenset(_PAIRS.values())
_DEPTH_MAX = 2
# Nanoseconds per byte, element and call, rounded up from measurements.
_MATCH_NS_PER_BYTE = 1000
_INSTRUCTION_NS_PER_BYTE = 60  # where an automaton of all states would be too large, each instruction is tried
_INSTRUCTIONS_MAX = 10_000  # of a pattern that is not read here
_ELEMENT_NS = 30
_COMPARED_BYTES_PER_NS = 10


class Token(NamedTuple):
    """A piece of an expression: `kind` is text, number, name or mark; `start` and `end` its place."""

    kind: str
    text: str
    start: int
    end: int


class Search(NamedTuple):
    """A `contains`: whether in a loop, and how long what it looks for is in bytes, None where the inputs say."""

    inside: bool
    needle: int | None


class Work(NamedTuple):
    """How the work grows with the inputs: `depth` of loops, reads within them, `matches` within and outside.

    Those are in nanoseconds per byte of text, all together. A text that is searched is at most `joined` of the inputs'.
    """

    depth: int
    reads: int
    matches_inside: int
    matches_outside: int
    literals: int
    searches: tuple[Search, ...] = ()
    joined: int = 1

    @property
    def grows(self) -> bool:
        """Whether the inputs' size could make it more than a guard may do."""
        return bool(self.depth or self.matches_outside or self.searches)

    def nanoseconds(self, *, widest: int, elements: int, longest: int) -> int:
        """Estimate the worst case for a widest list or map, a total of elements and a longest text in bytes."""
        rounds: int = max(widest, self.literals) ** self.depth
        step = max(longest, elements * _ELEMENT_NS) * self.reads + longest * self.matches_inside
        sought = sum((rounds if each.inside else 1) * self._compared(each, longest) for each in self.searches)
        return rounds * step + longest * self.matches_outside + sought // _COMPARED_BYTES_PER_NS

    def _compared(self, search: Search, longest: int) -> int:
        """Bound the bytes that a search compares: it tries to find the whole of one text at each place of another."""
        searched = longest * self.joined
        return searched * search.needle if search.needle is not None else searched * searched // 4


def tokens(expression: str) -> list[Token]:
    """Cut an expression into tokens, blanks and comments left out."""
    return [
        Token(found.lastgroup or "", found[0], found.start(), found.end())
        for found in _TOKEN.finditer(expression)
        if found.lastgroup != "blank"
    ]


@lru_cache(1024)
def clauses(expression: str) -> tuple[str, ...]:
    """Split the top-level conjunction of a valid expression into its clauses, through parentheses around them."""
    return tuple(expression[part[0].start : part[-1].end] for part in _conjuncts(tokens(expression)))


def _conjuncts(part: list[Token]) -> Iterator[list[Token]]:
    closes = closing(part)
    top = [index for index in _outside(part, closes) if part[index].text in {"&&", "||", "?"}]
    if any(part[index].text != "&&" for index in top):
        yield part
    elif top:
        for after, before in zip([-1, *top], [*top, len(part)], strict=True):
            yield from _conjuncts(part[after + 1 : before])
    elif part and part[0].text == "(" and closes.get(0) == len(part) - 1:
        yield from _conjuncts(part[1:-1])
    elif part:
        yield part


def _outside(part: list[Token], closes: dict[int, int]) -> Iterator[int]:
    """Yield the indices that no bracket encloses, in order."""
    index = 0
    while index < len(part):
        yield index
        index = closes.get(index, index) + 1


def closing(part: list[Token]) -> dict[int, int]:
    """Return for each opening bracket the index of the closing one."""
    pairs, open_ones = dict[int, int](), list[int]()
    for index, token in enumerate(part):
        if token.kind == "mark" and token.text in _PAIRS:
            open_ones.append(index)
        elif token.kind == "mark" and open_ones and token.text == _PAIRS[part[open_ones[-1]].text]:
            pairs[open_ones.pop()] = index
    return pairs


@lru_cache(1024)
def paths(expression: str) -> tuple[tuple[str, ...], ...]:
    """Return the dotted paths an expression reads that begin with a variable, in order, each once."""
    part = [*tokens(expression), Token("end", "", 0, 0)]
    found: dict[tuple[str, ...], None] = {}
    for index, token in enumerate(part):
        if token.text not in VARIABLES or token.kind != "name" or (index and part[index - 1].text == "."):
            continue
        path, at = [token.text], index + 1
        while part[at].text == "." and part[at + 1].kind == "name" and part[at + 2].text != "(":
            path.append(part[at + 1].text.strip("`"))
            at += 2
        found[tuple(path)] = None
    return tuple(found)


def reads(expression: str) -> Reads | None:
    """Return what an expression may look at, nested: None stands for all that is there.

    Handing over no more costs a guard a third of its time: the library copies whatever it is given.
    """
    part = tokens(expression)
    for index, token in enumerate(part):
        before = part[index - 1] if index else None
        begins = before is None or before.text == "in" or (before.kind == "mark" and before.text not in _CLOSES)
        if token.text == "." and begins:
            return None  # a name from the root, which `paths` takes for a field
    tree: dict[str, Any] = {}
    for path in paths(expression):
        *above, last = path
        inner: dict[str, Any] | None = tree
        for step in above:
            inner = None if inner is None else inner.setdefault(step, {})
        if inner is not None:
            inner[last] = None
    return tree


def work(expression: str) -> Work | str:
    """Foresee an expression's work, or say which form of loop or pattern it may not have."""
    part = tokens(expression)
    closes = closing(part)
    depths = _depths(part, closes)
    problem = next(_problems(part, closes, depths), None)
    if problem is not None:
        return problem
    matches = [
        (depths[index], _matching(part[closes[index + 1] - 1].text))
        for index, token in enumerate(part)
        if token.text == "matches" and _calls(part, index)
    ]
    searches = [index for index, token in enumerate(part) if token.text == "contains" and _calls(part, index)]
    return Work(
        depth=max(depths, default=0),
        reads=sum(depths[index] > 0 and _starts_path(part, index) for index in range(len(part))),
        matches_inside=sum(cost for depth, cost in matches if depth),
        matches_outside=sum(cost for depth, cost in matches if not depth),
        literals=1 + sum(token.text == "," for token in part),
        searches=tuple(Search(depths[index] > 0, _needle(part, index + 1, closes[index + 1])) for index in searches),
        joined=1 + sum(token.text == "+" for token in part),
    )


def _problems(part: list[Token], closes: dict[int, int], depths: list[int]) -> Iterator[str]:
    opens = {close: index for index, close in closes.items()}
    if max(depths, default=0) > _DEPTH_MAX:
        yield f"loops (all, exists, filter, ...) may be nested {_DEPTH_MAX} deep, not more"
    for index, token in enumerate(part):
        if token.text == "+" and depths[index]:
            yield "no + inside a loop, since it also joins texts and lists: write a - b <= c instead of a <= b + c"
        elif token.text == "matches" and _calls(part, index) and not _has_fixed_pattern(part, closes[index + 1]):
            yield "matches needs its pattern as a text in quotes, not one that the inputs bring"
        elif _loops(part, index) and not _is_range(part, opens, index - 2):
            yield (
                f"{token.text} must go over a path such as command.context.items, a filter of one, or a list of "
                "plain values: not over something built on the way"
            )


def _depths(part: list[Token], closes: dict[int, int]) -> list[int]:
    """Return for each token how many loops' parentheses enclose it."""
    ends: list[int] = []
    depths: list[int] = []
    for index in range(len(part)):
        while ends and ends[-1] < index:
            ends.pop()
        depths.append(len(ends))
        if _loops(part, index):
            ends.append(closes[index + 1])
    return depths


def _calls(part: list[Token], index: int) -> bool:
    return part[index].kind == "name" and index + 1 < len(part) and part[index + 1].text == "("


def _loops(part: list[Token], index: int) -> bool:
    return index > 0 and part[index].text in _LOOPS and part[index - 1].text == "." and _calls(part, index)


def _starts_path(part: list[Token], index: int) -> bool:
    return part[index].kind == "name" and not _calls(part, index) and (index == 0 or part[index - 1].text != ".")


def _has_fixed_pattern(part: list[Token], close: int) -> bool:
    return part[close - 1].kind == "text" and part[close - 2].text in {"(", ","}


def _matching(pattern: str) -> int:
    """Bound the nanoseconds that a pattern takes for each byte of a text."""
    return max(_MATCH_NS_PER_BYTE, _INSTRUCTION_NS_PER_BYTE * _instructions(pattern))


def _instructions(pattern: str) -> int:
    """Count roughly what a regular expression, as text in its quotes, compiles to: repetitions are written out."""
    if _ESCAPES.search(pattern):
        return _INSTRUCTIONS_MAX  # it may write a brace as a number
    sizes, last = [0], 0
    for found in _PIECE.finditer(pattern):
        piece = found[0]
        if piece == "(":
            sizes.append(0)
            continue
        if piece == ")" and len(sizes) > 1:
            last = sizes.pop()
        elif found["most"] is not None or found["least"] is not None:
            times = max(int(found["most"] or found["least"] or 1), 1)
            sizes[-1] += last * (times - 1)
            last *= times
            continue
        else:
            last = 1
        sizes[-1] += last
    return min(sum(sizes), _INSTRUCTIONS_MAX)


def _needle(part: list[Token], opening: int, close: int) -> int | None:
    """Return how long a fixed text between parentheses is at most, None where it is another expression."""
    between = part[opening + 1 : close]
    return len(between[0].text.encode()) if len(between) == 1 and between[0].kind == "text" else None


def _is_range(part: list[Token], opens: dict[int, int], last: int) -> bool:
    """Tell whether the value ending at `last` is a part of the inputs, a filter of one, or a list of constants."""
    while last >= 0:
        token = part[last]
        before = part[last - 1] if last else Token("end", "", 0, 0)
        if token.kind == "name" and before.text == ".":
            last -= 2
        elif token.kind == "name":
            return token.text not in _CONSTANTS
        elif token.text == "]" and last in opens:
            start = opens[last]
            indexed = start > 0 and (part[start - 1].kind == "name" or part[start - 1].text in {"]", ")"})
            if not indexed or part[start - 1].text == "in":
                return all(_is_constant(inner) for inner in part[start + 1 : last])
            last = start - 1
        elif token.text == ")" and last in opens and part[opens[last] - 1].text == "filter":
            last = opens[last] - 3
        else:
            return False
    return False


def _is_constant(token: Token) -> bool:
    return token.kind in {"text", "number"} or token.text in _CONSTANTS or token.text in {",", "-"}
