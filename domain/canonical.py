"""Canonical JSON (RFC 8785) as bytes, so that a row, an event and a digest are the same wherever they are made.

One extension: integers between 2^53 and 2^63 are written in full, since commands may carry them.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson

# What orjson writes differently from RFC 8785: whole floats, exponents, and the order of keys beyond the basic
# plane. A match inside a string costs time, never correctness.
_EXPONENT = re.compile(rb"e(?:\+?\d+|-[1-6])[,}\]]")
_BEYOND_BASIC_PLANE = re.compile(rb"[\xf0-\xf4]")
_CONTAINERS = frozenset({dict, list, tuple})
# ECMAScript writes numbers without an exponent from 1e-6 up to below 1e21; orjson from 1e-5 up to below 1e16.
_PLAIN_FROM, _PLAIN_BELOW = 1e-6, 1e21
_ALIKE_FROM, _ALIKE_BELOW = 1e-5, 1e16


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Write a JSON value: dicts, lists, text, int64, finite floats, booleans, None; UUID and aware datetime as text."""
    quick = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    if not isinstance(value, dict):
        return orjson.dumps(_ordered(orjson.loads(quick)))
    if not quick.isascii() and _BEYOND_BASIC_PLANE.search(quick) is not None:
        return orjson.dumps(_ordered(orjson.loads(quick)))
    if _has_float(value.values()) and (
        b".0," in quick or b".0}" in quick or b".0]" in quick or _EXPONENT.search(quick) is not None
    ):
        return orjson.dumps(_ordered(orjson.loads(quick)))
    return quick


def _has_float(items: Iterable[Any]) -> bool:
    for item in items:
        kind = type(item)
        if kind is str or kind is int or item is None:  # nearly all are
            continue
        if kind is float:
            return True
        if item and kind in _CONTAINERS and _has_float(item.values() if kind is dict else item):
            return True
    return False


def _ordered(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value whose keys are in order, and whose floats orjson writes as ECMAScript does."""
    kind = type(value)
    if kind is dict:
        return {key: _ordered(value[key]) for key in sorted(value, key=_utf_16)}
    if kind is list:
        return [_ordered(item) for item in value]
    return _number(value) if kind is float else value


def _utf_16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _number(value: float) -> int | float | orjson.Fragment:
    size = abs(value)
    if size < _ALIKE_BELOW and value.is_integer():
        return int(value)
    if _ALIKE_FROM <= size < _ALIKE_BELOW or size < _PLAIN_FROM:
        return value
    if size >= _PLAIN_BELOW:
        return orjson.Fragment(repr(value))
    mantissa, _, exponent = repr(size).partition("e")
    digits = mantissa.replace(".", "")
    text = digits.ljust(int(exponent) + 1, "0") if size >= _ALIKE_BELOW else f"0.00000{digits}"
    return orjson.Fragment(text if value > 0 else f"-{text}")
