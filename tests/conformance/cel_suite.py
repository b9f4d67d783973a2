"""CEL's conformance suite: its cases as plain data, those a guard can have, and whether the engine agrees with each."""

import math
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships stubs without a marker

Json = dict[str, Any]

EXCLUDED = {
    "bindings_ext": "an extension that guards do not have",
    "block_ext": "an extension that guards do not have",
    "encoders_ext": "an extension that guards do not have",
    "macros2": "an extension that guards do not have",
    "math_ext": "an extension that guards do not have",
    "optionals": "an extension that guards do not have",
    "proto2_ext": "an extension that guards do not have",
    "string_ext": "an extension that guards do not have",
    "enums": "enumerations of protocol buffers: inputs are JSON",
    "proto2": "messages of protocol buffers: inputs are JSON",
    "proto3": "messages of protocol buffers: inputs are JSON",
    "wrappers": "messages of protocol buffers: inputs are JSON",
    "type_deductions": "what a checker deduces of declared types: a guard's variables are dynamic",
}
UNCHECKED = "cases that leave the type checker out: a guard is checked when it is written"
NOT_JSON = "variables of kinds that JSON does not have"
CONTAINED = "names in a container: a guard's variables stand alone"
MESSAGES = "messages of protocol buffers in other sections: inputs are JSON"
_KINDS = {
    "boolValue": cel.Type.BOOL,
    "bytesValue": cel.Type.BYTES,
    "doubleValue": cel.Type.DOUBLE,
    "int64Value": cel.Type.INT,
    "nullValue": cel.Type.NULL,
    "stringValue": cel.Type.STRING,
    "typeValue": cel.Type.TYPE,
    "uint64Value": cel.Type.UINT,
}


_INPUTS = frozenset({"boolValue", "doubleValue", "int64Value", "listValue", "mapValue", "nullValue", "stringValue"})


class Case(NamedTuple):
    """One case: where it stands, and the suite's own words."""

    section: str
    name: str
    told: Json


def cases(suite: Json, section: str = "", path: str = "") -> Iterator[Case]:
    """Yield every case of the suite."""
    for nested in suite.get("suites", ()):
        yield from cases(nested, section or nested["name"], f"{path}{nested['name']}/")
    for test in suite.get("tests", ()):
        yield Case(section, f"{path}{test['original']['name']}", test["original"])


def excluded(case: Case) -> str | None:
    """Say why a case is none that a guard can have, if it is not."""
    told = case.told
    if case.section in EXCLUDED:
        return EXCLUDED[case.section]
    written = f"{told.get('container', '')} {told['expr']} {told.get('value', '')} {told.get('bindings', '')}"
    messages = ("google.protobuf", "TestAllTypes", "objectValue", "enumValue", "cel.expr.conformance")
    if any(word in written for word in messages):
        return MESSAGES
    if "container" in told:
        return CONTAINED
    if told.get("disableCheck") and "evalError" not in told:
        return UNCHECKED
    kinds = {kind for bound in told.get("bindings", {}).values() for kind in bound["value"]}
    return None if kinds <= _INPUTS else NOT_JSON


def agrees(case: Case) -> bool:
    """Evaluate a case as a guard is, its variables dynamic, and compare the outcome; a refusal is an error too."""
    told = case.told
    bindings = {name: _input(bound["value"]) for name, bound in told.get("bindings", {}).items()}
    declared = {entry["name"] for entry in told.get("typeEnv", ()) if "ident" in entry}
    wants_error = "evalError" in told
    try:
        environment = cel.NewEnv(variables=dict.fromkeys(declared | bindings.keys(), cel.Type.DYN))
        result = environment.compile(told["expr"]).eval(data=bindings)
    except RuntimeError:
        return wants_error
    if result.type() == cel.Type.ERROR:
        return wants_error
    return not wants_error and _is(result.type(), result.plain_value(), told.get("value", {"boolValue": True}))


def _input(value: Json) -> Any:  # noqa: ANN401 - any JSON
    ((kind, held),) = value.items()
    if kind == "int64Value":
        return int(held)
    if kind == "listValue":
        return [_input(item) for item in held.get("values", ())]
    if kind == "mapValue":
        return {str(_input(entry["key"])): _input(entry["value"]) for entry in held.get("entries", ())}
    return held


def _is(kind: Any, found: Any, expected: Json) -> bool:  # noqa: ANN401 - what the library returns
    ((name, held),) = expected.items()
    if name in _KINDS:
        return kind == _KINDS[name] and _same(found, name, held)
    return _alike(found, expected)


def _same(found: Any, kind: str, held: Any) -> bool:  # noqa: ANN401 - any value
    if kind == "typeValue":
        wanted = str(held).rpartition(".")[2].removesuffix("_type")
        return str(found).lower().partition("<")[0] == wanted.lower()
    if kind == "bytesValue":
        return bytes(found) == b64decode(held)
    if kind == "doubleValue":
        number = float(held)
        return bool(found == number or (math.isnan(number) and math.isnan(found)))
    return bool(found == (int(held) if kind in {"int64Value", "uint64Value"} else held))


def _alike(found: Any, expected: Mapping[str, Any]) -> bool:  # noqa: ANN401 - any value
    """Compare what stands inside lists and maps, where the library no longer tells types apart."""
    ((name, held),) = expected.items()
    if name == "listValue":
        items = held.get("values", ())
        return isinstance(found, list) and len(found) == len(items) and all(map(_alike, found, items))
    if name == "mapValue":
        entries = held.get("entries", ())
        return isinstance(found, dict) and len(found) == len(entries) and all(
            any(_alike(key, entry["key"]) and _alike(value, entry["value"]) for key, value in found.items())
            for entry in entries
        )  # fmt: skip
    if (name == "boolValue") != isinstance(found, bool) or (name == "stringValue") != isinstance(found, str):
        return False
    return _same(found, name, held)
