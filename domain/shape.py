"""Reads a document that people wrote by its model, and says in their words where its shape is wrong."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from contracts.calendars import Country, DateText, Interval, ZoneName
from contracts.clauses import DefinitionName, TargetText
from contracts.slas import SlaName
from domain.findings import Finding, Path

Shape = TypeVar("Shape", bound=BaseModel)


def _pattern(kind: Any) -> str:  # noqa: ANN401 - an annotated type
    return str(get_args(kind)[1].pattern)


# What a pattern asks for, said by an example; other patterns speak for themselves.
WRITTEN = {
    _pattern(DefinitionName): "write lower-case words joined by dots, as in lab.sample",
    _pattern(SlaName): "write lower-case letters, digits, _ and -, as in first-reply",
    _pattern(TargetText): "write a time as in 2d, 4h or 1h 30m",
    _pattern(Interval): "write hours as in 08:00-17:00",
    _pattern(DateText): "write a date as in 2026-12-24",
    _pattern(Country): "write the two capital letters of ISO 3166, as in DE",
    _pattern(ZoneName): "write an IANA name such as Europe/Berlin",
}
_NAMED = "write names with their values, as in `version: 1`"
MEANT = {
    "model_type": _NAMED,
    "dict_type": _NAMED,
    "tuple_type": "write a list, as in [one, two]",
    "too_short": "give at least one",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "string_type": "write text, in quotes where it looks like a number, a date, true or null",
}


def read_shape(
    model: type[Shape], document: object, *, later: frozenset[str] = frozenset()
) -> Shape | tuple[Finding, ...]:
    """Read the shape, or say where it is wrong: one finding per place; `later` are clauses of a later build."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        schema = model.model_json_schema()
        found = [_finding(document, problem, schema, later) for problem in error.errors(include_url=False)]
        return tuple({(finding.code, finding.path): finding for finding in found}.values())


def instead_of(name: str, known: Iterable[str]) -> str:
    """Say what to do about a name that is not known: write the one that is meant, if one is near, or remove it."""
    near = get_close_matches(name, sorted(known), n=1)
    return f"{f'write {near[0]}' if near else 'correct'} or remove it"


def _finding(document: object, problem: Mapping[str, Any], schema: Mapping[str, Any], later: frozenset[str]) -> Finding:
    path = _existing(document, problem["loc"])
    if problem["type"] == "extra_forbidden":
        clause = str(path[-1])
        if clause in later:
            text = f"{clause} is not enforced by this build yet: remove the clause or use a later version"
            return Finding("error", "NOT_SUPPORTED_YET", text, path)
        text = f"there is no clause {clause} here: {instead_of(clause, _clauses(schema, path[:-1]))}"
        return Finding("error", "UNKNOWN_CLAUSE", text, path)
    if problem["type"] == "missing":
        clause = problem["loc"][-1]
        return Finding("error", "MISSING_CLAUSE", f"the clause {clause} is missing: add it", (*path, clause))
    place = ".".join(map(str, path)) or "the document"
    return Finding("error", "BAD_VALUE", f"{place}: {_wrong(problem)}", path)


def _wrong(problem: Mapping[str, Any]) -> str:
    """Say what is wrong with a value, and where it is known how it is to be written."""
    pattern = problem.get("ctx", {}).get("pattern")
    message = str(problem["msg"])
    return MEANT.get(problem["type"]) or WRITTEN.get(pattern) or f"{message[:1].lower()}{message[1:]}"


def _existing(document: Any, location: tuple[str | int, ...]) -> Path:  # noqa: ANN401 - JSON
    """Return the part of an error's location that is in the document: the rest names union members."""
    path: list[str | int] = []
    for step in location:
        inside = isinstance(document, list) and isinstance(step, int) and step < len(document)
        if inside or (isinstance(document, dict) and step in document):
            document = document[step]
            path.append(step)
    return tuple(path)


def _clauses(schema: Mapping[str, Any], path: Path) -> set[str]:
    """Return the clauses that may stand at a place, whichever member of a union it is."""
    places = [schema]
    for step in path:
        places = [inner for place in _members(schema, places) for inner in _within(place, step)]
    return {name for place in _members(schema, places) for name in place.get("properties", {})}


def _within(place: Mapping[str, Any], step: str | int) -> Iterator[Mapping[str, Any]]:
    named = (place.get("properties", {}).get(step), place.get("items"), place.get("additionalProperties"))
    yield from (each for each in (*named, *place.get("patternProperties", {}).values()) if isinstance(each, Mapping))


def _members(schema: Mapping[str, Any], places: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for place in places:
        named = place.get("$ref")
        inner = [schema["$defs"][named.rpartition("/")[2]]] if named else []
        inner += [*place.get("anyOf", ()), *place.get("oneOf", ())]
        if inner:
            yield from _members(schema, inner)
        yield place
