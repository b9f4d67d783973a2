"""XES (IEEE 1849): events trace by trace from a stream, holding one trace at a time.

The standard's names count: concept:name, time:timestamp, org:resource. What an event lacks is taken from the log's
globals, but a trace's name never is: two traces without one are not the same case.
"""

import math
from collections.abc import Iterator
from typing import IO, Protocol
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from service.event_logs.event import UNBROKEN_BYTES_MAX, RawEvent, UnreadableLogError, Value

NAME = "concept:name"
INSTANT = "time:timestamp"
RESOURCE = "org:resource"

# Written by OpenXES as the default of a global: it stands for the absence of a value.
_NO_VALUE = "__INVALID__"
_INT64_MAX = 2**63 - 1


class _Globals(Protocol):
    def get(self, scope: str, default: dict[str, Value], /) -> dict[str, Value]: ...


class _Bounded:
    """A stream that may go on for so long only before something is `found` in it."""

    def __init__(self, stream: IO[bytes], file: str) -> None:
        self._stream = stream
        self._file = file
        self._unbroken = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._unbroken += len(data)
        if self._unbroken > UNBROKEN_BYTES_MAX:
            problem = f"{UNBROKEN_BYTES_MAX} bytes without the begin or end of an element"
            raise UnreadableLogError(self._file, problem, "check that it is the file you mean")
        return data

    def found(self) -> None:
        self._unbroken = 0


def _elements(stream: IO[bytes], file: str) -> Iterator[tuple[str, Element]]:
    """Yield when an element begins and when it ends; what is no XML, or no safe one, raises UnreadableLogError."""
    bounded = _Bounded(stream, file)
    try:
        for moment, element in iterparse(bounded, events=("start", "end")):
            bounded.found()
            yield moment, element
    except ParseError as error:
        line, column = error.position
        where = f"{file}, line {line}, column {column}"
        raise UnreadableLogError(where, f"broken XML ({error})", "repair it or export the log again") from None
    except DefusedXmlException as error:
        remedy = "export it without a document type: entities are never expanded"
        raise UnreadableLogError(file, f"forbidden XML ({type(error).__name__})", remedy) from None
    except (LookupError, ValueError) as error:  # expat knows a few encodings, and asks Python about the others
        raise UnreadableLogError(file, f"its encoding cannot be read ({error})", "convert it to UTF-8") from None


def raw_events(stream: IO[bytes], file: str) -> Iterator[RawEvent]:
    """Yield the events of every trace in file order; raises UnreadableLogError."""
    defaults: dict[str, dict[str, Value]] = {}
    found: list[dict[str, Value]] = []
    parents: list[Element] = []
    traces = 0
    for moment, element in _elements(stream, file):
        tag = _local(element.tag)
        if moment == "start":
            if not parents and tag != "log":
                problem = f"its root element is <{tag}>, not <log>"
                raise UnreadableLogError(file, problem, "give an XES file, or name a CSV file .csv")
            parents.append(element)
            continue
        parents.pop()
        if tag == "global":
            defaults[element.get("scope", "event")] = _attributes(element)
            element.clear()
        elif tag == "event":
            found.append(_attributes(element))
            element.clear()
            if len(parents) == 1:
                yield _raw(found.pop(), None, f"an event outside of any trace, after trace {traces}", defaults)
                parents[0].clear()
        elif tag == "trace":
            traces += 1
            trace = _attributes(element)
            for number, event in enumerate(found, 1):
                yield _raw(event, trace, f"trace {traces}, event {number}", defaults)
            found.clear()
            parents[0].clear()


def _raw(event: dict[str, Value], trace: dict[str, Value] | None, place: str, defaults: _Globals) -> RawEvent:
    own = defaults.get("event", {}) | event
    case = {key: value for key, value in (defaults.get("trace", {}) | (trace or {})).items() if key != NAME}
    name = None if trace is None else trace.get(NAME)
    attributes = own | {f"case:{key}": value for key, value in case.items()}
    standard = [attributes.pop(key, None) for key in (NAME, INSTANT, RESOURCE)]
    activity, occurred_at, resource = (None if value is None else str(value) for value in standard)
    return RawEvent(place, None if name is None else str(name), activity, occurred_at, resource, attributes)


def _attributes(element: Element) -> dict[str, Value]:
    """Return an element's own attributes; what is nested inside them, lists and containers are left out."""
    return {
        key: _value(_local(child.tag), value)
        for child in element
        if (key := child.get("key")) and (value := child.get("value")) is not None and value != _NO_VALUE
    }


def _value(kind: str, text: str) -> Value:
    """Read a value as its kind says, as text where it is not what it says or JSON cannot carry it."""
    if kind == "boolean" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        if kind == "int" and abs(whole := int(text)) <= _INT64_MAX:
            return whole
        if kind == "float" and math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    return text


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
