"""Bounds on the text of a Python condition, held before Python's parser sees it.

The parser recurses as deep as an expression nests and warns about texts it only half likes, so brackets, operators and
literals are read here first: what passes costs it little and makes it warn of nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BYTES_MAX = 4096
NESTING_MAX = 64

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n]+)
    |(?P<text>"(?:[^"\\\n]|\\(?:[\\'"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*"
             |'(?:[^'\\\n]|\\(?:[\\'"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*')
    |(?P<number>(?:0[xX][0-9a-fA-F]+|\d[\d_]*(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)(?![\w.]))
    |(?P<name>[^\W\d]\w*)
    |(?P<mark>==|!=|<=|>=|:=|\*\*|//|<<|>>|.)""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
# What stands between operands that nest no deeper than each other.
_PARTING = frozenset({"and", "or", "in", "is", "if", "else", "for", ",", ":", "==", "!=", "<", ">", "<=", ">="})
_HELD = frozenset({"if", "lambda", ":=", "for"})
_RUNNING = frozenset({"not", "+", "-", "*", "/", "%", "**", "//", "@", "~", "&", "|", "^", "<<", ">>", "."})
_STRAY = {
    "#": "a comment cannot stand here: put it on a YAML line of its own",
    "\\": "a backslash joins no lines: just go on in the next one",
    '"': "this text does not end in its line, or holds an escape other than \\\\ \\' \\\" \\n \\r \\t \\x \\u \\U",
    "'": "this text does not end in its line, or holds an escape other than \\\\ \\' \\\" \\n \\r \\t \\x \\u \\U",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a condition cannot be translated, and where; line and column count from 1."""

    message: str
    line: int = 1
    column: int = 1


@dataclass(slots=True)
class _Depth:
    """How deep the parser may stand: open brackets, and within each the operators that may nest."""

    open: list[str] = field(default_factory=list)
    running: list[int] = field(default_factory=lambda: [0])
    total: int = 0

    def take(self, text: str) -> str | None:
        """Count a mark or a name; return what is wrong with it."""
        if text in _PAIRS:
            self.open.append(_PAIRS[text])
            self.running.append(0)
            self.total += 1
        elif text in _PAIRS.values():
            if not self.open or self.open.pop() != text:
                return f"this {text} closes nothing"
            self.total -= self.running.pop()  # the bracket itself still counts: a call may be called again
            self.running[-1] += 1
        if text in _PARTING:
            self.total -= self.running[-1]
            self.running[-1] = 0
        if text in _RUNNING:
            self.running[-1] += 1
        self.total += text in _RUNNING or text in _HELD
        return f"it nests deeper than {NESTING_MAX}: split the condition" if self.total > NESTING_MAX else None


def problem_of(source: str) -> Problem | None:
    """Return why a text is not to be parsed as Python, or None."""
    size = len(source.encode(errors="surrogatepass"))
    if size > BYTES_MAX:
        return Problem(f"it has {size} bytes: at most {BYTES_MAX} are read")
    if not source.strip():
        return Problem("it is empty: write what has to be true")
    return next(_problems(source), None)


def _problems(source: str) -> Iterator[Problem]:
    depth = _Depth()
    before: re.Match[str] | None = None
    for found in _TOKEN.finditer(source):
        kind, text = found.lastgroup, found[0]
        message = None
        if kind == "text":
            message = _misplaced(before, found)
        elif kind == "mark" and text in _STRAY:
            message = _STRAY[text]
        elif kind == "mark" and not text.isprintable():
            message = "only blanks and line breaks may stand between words"
        elif kind == "name" and not text.isascii():
            message = f'a name is written in ASCII: use context["{text}"] of command for a field named so'
        elif kind in {"mark", "name"}:
            message = depth.take(text)
        if message is not None:
            yield Problem(message, *_place(source, found.start()))
        if kind != "blank":
            before = found
    if depth.open:
        yield Problem(f"a {depth.open[-1]} is missing at the end", *_place(source, len(source)))


def _misplaced(before: re.Match[str] | None, text: re.Match[str]) -> str | None:
    """Say what is wrong with where a text stands: Python would join it, or read it another way."""
    if before is None:
        return None
    if before.lastgroup == "text":
        return "two texts in a row: write one, in plain quotes"
    if before.lastgroup == "name" and before.end() == text.start():
        return f"a text has no prefix such as {before[0]}: write it in plain quotes"
    return None


def _place(source: str, at: int) -> tuple[int, int]:
    return source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at)
