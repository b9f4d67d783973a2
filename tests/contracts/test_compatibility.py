"""Holds today's contracts against those of every release kept under `contracts/schemas/baseline/`.

Commands are read from older and newer producers: what was a command stays one. Events and replies are read by older
and newer readers, and the journal keeps every one ever written: what was promised stays, and means the same.
"""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.export import FOLDER, READ, schemas

Schema = dict[str, Any]
BASELINES = sorted(FOLDER.glob("baseline/*/*.json"))
UPPER = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
LOWER = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
# A whole number beyond 64 bits, which no release could write into an event that everybody reads.
NEVER_TAKEN = ".estimated_seconds: exclusiveMaximum is tighter"


@dataclass(frozen=True)
class Comparison:
    """Two versions of one contract; `written` by the service, else read by it."""

    old: Schema
    new: Schema
    written: bool

    def faults(self, at: str, before: Schema, after: Schema) -> Iterator[str]:
        """Say what in `after` breaks who knew `before`."""
        was, now = _alternatives(before, self.old), _alternatives(after, self.new)
        yield from (f"{at}: is no longer {kind}" for kind in was.keys() - now.keys())
        if self.written:
            yield from (f"{at}: may now be {kind}" for kind in now.keys() - was.keys())
        for kind in was.keys() & now.keys():
            yield from _narrowed(at, was[kind], now[kind])
            if kind == "array":
                yield from self.faults(f"{at}[]", was[kind].get("items", {}), now[kind].get("items", {}))
            if kind.startswith("object"):
                yield from self._fields(at, was[kind], now[kind])

    def _fields(self, at: str, before: Schema, after: Schema) -> Iterator[str]:
        was, now = before.get("properties", {}), after.get("properties", {})
        must, must_now = set(before.get("required", ())), set(after.get("required", ()))
        yield from (f"{at}.{name}: is removed" for name in was.keys() - now.keys())
        yield from (f"{at}.{name}: is required now" for name in must_now - must)
        if self.written:
            yield from (f"{at}.{name}: is no longer sure to be there" for name in (must - must_now) & now.keys())
        for name in was.keys() & now.keys():
            yield from self.faults(f"{at}.{name}", was[name], now[name])
        others, others_now = before.get("additionalProperties"), after.get("additionalProperties")
        if isinstance(others, dict) and isinstance(others_now, dict):
            yield from self.faults(f"{at}.*", others, others_now)


def _alternatives(schema: Schema, root: Schema) -> dict[str, Schema]:
    """Resolve references and unions into one schema per type and format, or per name of a tagged union."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "discriminator" in schema:
        tagged = schema["discriminator"]["mapping"].items()
        return {f"object {name}": _alternatives({"$ref": ref}, root)["object"] for name, ref in tagged}
    parts = schema.get("anyOf") or ("type" not in schema and schema.get("oneOf"))
    if not parts:
        return {f"{schema.get('type', 'anything')} {schema.get('format', '')}".strip(): schema}
    return {kind: part for nested in parts for kind, part in _alternatives(nested, root).items()}


def _narrowed(at: str, before: Schema, after: Schema) -> Iterator[str]:
    """Find the values that were allowed and are not any more; an enumeration may grow."""
    was, now = (schema.get("enum") or ([schema["const"]] if "const" in schema else None) for schema in (before, after))
    if now is not None and (was is None or not set(was) <= set(now)):
        yield f"{at}: takes fewer values"
    for bounds, sign in ((UPPER, 1), (LOWER, -1)):
        unbounded = sign * float("inf")
        tighter = (name for name in bounds if sign * after.get(name, unbounded) < sign * before.get(name, unbounded))
        yield from (f"{at}: {name} is tighter" for name in tighter)


def faults(old: Schema, new: Schema, *, written: bool) -> tuple[str, ...]:
    """Name every incompatible change, in order."""
    return tuple(sorted(Comparison(old, new, written).faults("", old, new)))


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_release_is_still_honoured(baseline: Path) -> None:
    """Nothing that a release promised is broken by the models of now."""
    promised = json.loads(baseline.read_text(encoding="utf-8"))
    found = faults(promised, schemas()[baseline.stem], written=baseline.stem not in READ)
    assert [fault for fault in found if not fault.endswith(NEVER_TAKEN)] == []


def test_no_contract_disappears() -> None:
    """Each contract of a release is still exported, and the first release froze the main ones."""
    promised = {path.stem for path in BASELINES}
    assert set() == promised - schemas().keys()
    assert set() == {"event", "reply", "command", "definition", "create_workflow", "request_transition"} - promised


def _retype(name: str, **schema: object) -> Callable[[Schema], None]:
    return lambda planted: planted["properties"].__setitem__(name, schema)


def _drop(name: str) -> Callable[[Schema], None]:
    def plant(planted: Schema) -> None:
        del planted["properties"][name]
        planted["required"] = [kept for kept in planted["required"] if kept != name]

    return plant


def _require(name: str) -> Callable[[Schema], None]:
    return lambda planted: planted["required"].append(name)


def _relax(name: str) -> Callable[[Schema], None]:
    return lambda planted: planted["required"].remove(name)


def _grow(name: str, *values: str) -> Callable[[Schema], None]:
    return lambda planted: planted["properties"][name]["enum"].extend(values)


PLANTED = [
    ("event", _drop("sequence"), (".sequence: is removed",)),
    ("event", _drop("actor"), (".actor: is removed",)),
    ("event", _relax("version"), (".version: is no longer sure to be there",)),
    ("event", _require("actor"), (".actor: is required now",)),
    ("event", _retype("version", type="string"), (".version: is no longer integer", ".version: may now be string")),
    ("event", _retype("version", anyOf=[{"type": "integer"}, {"type": "null"}]), (".version: may now be null",)),
    ("event", _retype("tenant", type="string"), (".tenant: is no longer null",)),
    ("event", _retype("workflow_id", type="string", minLength=2), (".workflow_id: minLength is tighter",)),
    ("event", _retype("category", type="string", enum=["state"]), (".category: takes fewer values",)),
    ("event", _retype("message", type="string", maxLength=80), (".message: maxLength is tighter",)),
    ("event", _retype("timestamp", type="string"),
     (".timestamp: is no longer string date-time", ".timestamp: may now be string")),
    ("reply", _drop("decided_at"), (".decided_at: is removed",)),
    ("reply", _retype("events", type="array", items={"type": "integer"}),
     (".events[]: is no longer string uuid", ".events[]: may now be integer")),
    ("create_workflow", _require("owner"), (".owner: is required now",)),
    ("create_workflow", _drop("owner"), (".owner: is removed",)),
    ("update_metadata", _retype("metadata", type="array"), (".metadata: is no longer object",)),
    ("event", _grow("category", "approval"), ()),
    ("event", _retype("shift", type="string"), ()),
    ("create_workflow", _retype("shift", type="string"), ()),
    ("create_workflow", _relax("definition"), ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "plant", "expected"), PLANTED)
def test_a_planted_change_is_judged(name: str, plant: Callable[[Schema], None], expected: tuple[str, ...]) -> None:
    """The rules see each kind of incompatible change, and let compatible growth pass."""
    promised = schemas()[name]
    planted = copy.deepcopy(promised)
    plant(planted)
    found = faults(promised, planted, written=name not in READ)
    assert tuple(sorted(expected)) == found


def test_each_command_of_the_union_is_compared() -> None:
    """A command that is gone is named, one that asks for more is seen, and a new one is no fault."""
    promised = schemas()["command"]
    planted = copy.deepcopy(promised)
    del planted["discriminator"]["mapping"]["recover_workflow"]
    planted["$defs"]["CreateWorkflow"]["required"].append("owner")
    assert (".owner: is required now", ": is no longer object recover_workflow") == faults(
        promised, planted, written=False
    )
    assert () == faults(planted, copy.deepcopy(promised), written=False)


def test_a_change_inside_a_nested_model_is_seen() -> None:
    """A reply's rejection is part of the reply's promise."""
    promised = schemas()["reply"]
    planted = copy.deepcopy(promised)
    planted["$defs"]["Code"]["enum"].remove("EXPIRED")
    assert faults(promised, planted, written=True) == (".rejection.code: takes fewer values",)
