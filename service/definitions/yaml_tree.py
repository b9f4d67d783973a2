"""YAML text as plain JSON with the place of every part, for documents that strangers send.

Built from the parser's events without recursion: it stops at the first alias, tag or depth that a document has no
use for, so that no text costs more than its length. Scalars follow YAML 1.2's core schema: `yes` and `on` are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from domain.findings import Finding, Path

BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
VALUES_MAX = 20_000

_WORDS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DIGITS_MAX = 30
_MESSAGE_MAX = 500
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

Place = tuple[int, int]


@dataclass(slots=True)
class Tree:
    """A document as JSON, the places of its keys and values by path, and what is wrong with the text."""

    document: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class _Unusable(Exception):  # noqa: N818 - a way out of the builder, never seen outside
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end is yet to come; `key` is what the next value belongs to."""

    path: Path
    content: Any
    key: str | None = None

    def next_path(self) -> Path:
        return (*self.path, len(self.content)) if isinstance(self.content, list) else (*self.path, self.key or "")


def read_tree(text: str) -> Tree:
    """Read YAML text; where a finding is an error the document is what could be read."""
    tree = Tree()
    size = len(text.encode(errors="surrogatepass"))
    if size > BYTES_MAX:
        message = f"the text has {size} bytes: at most {BYTES_MAX} are read; split it"
        tree.findings.append(Finding("error", "YAML_TOO_LARGE", message, (), 1, 1))
        return tree
    try:
        _build(tree, YAML(typ="safe", pure=True).parse(text))
    except _Unusable as stop:
        tree.findings.append(stop.finding)
    except MarkedYAMLError as error:
        message = f"this is not YAML: {error.problem or error.context}"
        tree.findings.append(Finding("error", "YAML_SYNTAX", message, (), *_place(error.problem_mark)))
    except YAMLError as error:
        message = f"this is not YAML: {str(error).partition(chr(10))[0]}"
        tree.findings.append(Finding("error", "YAML_SYNTAX", message, (), 1, 1))
    except (ValueError, OverflowError) as error:  # the library reads numbers of escapes and of %YAML unchecked
        message = f"this is not YAML: {error}"[:_MESSAGE_MAX]
        tree.findings.append(Finding("error", "YAML_SYNTAX", message, (), 1, 1))
    return tree


def _build(tree: Tree, events: Iterator[Event]) -> None:
    stack: list[_Open] = []
    documents = count = 0
    for event in events:
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _stop(event, "YAML_SEVERAL_DOCUMENTS", "a file holds one document: move this one to its own")
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            stack.pop()
        elif isinstance(event, NodeEvent):
            count += 1
            _refuse_tricks(event, depth=len(stack), count=count)
            _place_node(tree, stack, event)


def _refuse_tricks(event: NodeEvent, *, depth: int, count: int) -> None:
    if isinstance(event, AliasEvent) or event.anchor is not None:
        raise _stop(event, "YAML_ALIAS", "anchors and aliases are not read: write the value out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise _stop(event, "YAML_TAG", f"the tag {tag} is not read: remove it, put text in quotes")
    if depth >= DEPTH_MAX:
        raise _stop(event, "YAML_TOO_DEEP", f"nested deeper than {DEPTH_MAX}: flatten it")
    if count > VALUES_MAX:
        raise _stop(event, "YAML_TOO_LARGE", f"more than {VALUES_MAX} keys and values: split it")


def _place_node(tree: Tree, stack: list[_Open], event: NodeEvent) -> None:
    """Put a node where the innermost open list or mapping expects it."""
    inner = stack[-1] if stack else None
    if inner is not None and isinstance(inner.content, dict) and inner.key is None:
        _take_key(tree, inner, event)
        return
    path = inner.next_path() if inner is not None else ()
    tree.values.setdefault(path, _place(event.start_mark))
    content: Any
    if isinstance(event, ScalarEvent):
        content = _scalar(tree, event, path)
    else:
        content = {} if isinstance(event, MappingStartEvent) else []
    if inner is None:
        tree.document = content
    elif isinstance(inner.content, list):
        inner.content.append(content)
    elif inner.key is not None:
        inner.content.setdefault(inner.key, content)
        inner.key = None
    if isinstance(event, MappingStartEvent | SequenceStartEvent):
        stack.append(_Open(path, content))


def _take_key(tree: Tree, inner: _Open, event: NodeEvent) -> None:
    if not isinstance(event, ScalarEvent):
        raise _stop(event, "YAML_KEY", "a key is text, not a list or mapping")
    key: str = event.value
    path, place = (*inner.path, key), _place(event.start_mark)
    if _UNWRITABLE.search(key):
        raise _stop(event, "YAML_KEY", "this key holds a NUL or half of a surrogate pair: remove it")
    if key in inner.content:
        first = tree.keys[path][0]
        message = f"{key} was given in line {first} already: remove one of the two"
        tree.findings.append(Finding("error", "YAML_DUPLICATE_KEY", message, path, *place))
    else:
        tree.keys[path] = place
    inner.key = key


def _scalar(tree: Tree, event: ScalarEvent, path: Path) -> str | int | float | bool | None:
    text: str = event.value
    value: str | int | float | bool | None = text
    problem = "it holds a NUL or half of a surrogate pair: remove it" if _UNWRITABLE.search(text) else None
    if event.implicit[0]:
        if text in _WORDS:
            value = _WORDS[text]
        elif _WHOLE.fullmatch(text):
            digits = text[:_DIGITS_MAX]
            value = int(digits, 0) if text[:2] in {"0o", "0x"} else int(digits)
            if len(text) > _DIGITS_MAX or not -(2**63) <= value < 2**63:
                problem = "this number is beyond 64 bits: put it in quotes"
        elif _DECIMAL.fullmatch(text):
            value = float(text)
            if value in {float("inf"), float("-inf")}:
                problem = "this number is beyond a double: put it in quotes"
        elif _NO_NUMBER.fullmatch(text):
            problem = "JSON has no such number: put it in quotes"
    if problem is None:
        return value
    tree.findings.append(Finding("error", "YAML_VALUE", problem, path, *_place(event.start_mark)))
    return None


def _stop(event: Event, code: str, message: str) -> _Unusable:
    return _Unusable(Finding("error", code, message, (), *_place(event.start_mark)))


def _place(mark: StringMark | None) -> Place:
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
