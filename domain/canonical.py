"""Canonical JSON (RFC 8785) as bytes, so that a row, an event and a digest are the same wherever they are made.

One extension: integers between 2^53 and 2^63 are written in full, since commands may carry them.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson

# What orjson writes differently from RFC 8785: whole floats, exponents, and the order of keys beyond the basic
# plane. A match inside a string costs time, never correctness.
_EXPONENT = re.compile(rb"e[-+]?\d+[,}\]]")
_BEYOND_BASIC_PLANE = re.compile(rb"[\xf0-\xf4]")
_CONTAINERS = frozenset({dict, list, tuple})
_EXPONENT_BELOW = -7
_EXPONENT_ABOVE = 21


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Write a JSON value: dicts, lists, text, int64, finite floats, booleans, None; UUID and aware datetime as text."""
    quick = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    if not isinstance(value, dict):
        return _slow(orjson.loads(quick)).encode()
    if not quick.isascii() and _BEYOND_BASIC_PLANE.search(quick) is not None:
        return _slow(orjson.loads(quick)).encode()
    if _has_float(value.values()) and (
        b".0," in quick or b".0}" in quick or b".0]" in quick or _EXPONENT.search(quick) is not None
    ):
        return _slow(orjson.loads(quick)).encode()
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


def _slow(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_slow(key)}:{_slow(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_slow, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return orjson.dumps(value).decode()


def _number(value: float) -> str:
    """Write a float as ECMAScript's Number::toString does."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if _EXPONENT_BELOW < point - 1 < _EXPONENT_ABOVE:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if point >= len(digits):
            return f"{sign}{digits}{'0' * (point - len(digits))}"
        return f"{sign}{digits[:point]}.{digits[point:]}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"
