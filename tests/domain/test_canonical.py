"""Canonical JSON, held against an independent implementation of RFC 8785."""

import math
import struct
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from domain.canonical import canonical

SAFE = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["\N{GRINNING FACE}", "\ue000", "\uffff", "\x7f", '"', "\\", "\n", "1.0,", "e5}", ".0", "1e5,"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1e-6, 1e-7, 1e20, 1e21, 1e22, 5e-324, 1.7976931348623157e308, 123456789012345680.0, 0.000001234]
)
BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0]).filter(math.isfinite)
SCALARS = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | FLOATS | BITS | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@given(VALUES)
def test_it_writes_what_rfc_8785_says(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Any JSON value within the RFC's numbers is written as the oracle writes it."""
    assert rfc8785.dumps(value) == canonical(value)


@given(st.dictionaries(TEXT, VALUES, max_size=6))
@example({"a": [1e16], "b": {"c": -1e20}})
@example({"a": 1e16, "\uffff": 0, "\U0001f600": 1})
@example({"a": {"b": 2.0}})
def test_it_writes_objects_what_rfc_8785_says(value: dict[str, Any]) -> None:
    """So is any object, which is written in a quicker way where that is safe."""
    assert rfc8785.dumps(value) == canonical(value)


@given(st.dictionaries(TEXT, VALUES, max_size=6))
def test_written_is_a_fixed_point(value: dict[str, Any]) -> None:
    """What was read back is written the same, so a stored row never changes by being loaded."""
    assert canonical(value) == canonical(orjson.loads(canonical(value)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-0.0, b"0"),
        (1.0, b"1"),
        (1e20, b"100000000000000000000"),
        (1e21, b"1e+21"),
        (1e-6, b"0.000001"),
        (1e-7, b"1e-7"),
        (333333333.33333329, b"333333333.3333333"),
        (4.50, b"4.5"),
        (2e-3, b"0.002"),
        (0.000000000000000000000000001, b"1e-27"),
        (5e-324, b"5e-324"),
        (9007199254740994.0, b"9007199254740994"),
        (-1.5e300, b"-1.5e+300"),
    ],
)
def test_floats_are_written_as_ecmascript_does(value: float, expected: bytes) -> None:
    """The RFC's own samples and the edges of its notations, alone, in an array and in an object."""
    assert expected == canonical(value)
    assert b"[" + expected + b"]" == canonical([value])
    assert b'{"a":' + expected + b',"b":[' + expected + b"]}" == canonical({"b": [value], "a": value})


def test_keys_are_ordered_by_utf_16() -> None:
    """A surrogate pair sorts before the end of the basic plane, unlike in UTF-8."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"] == list(
        orjson.loads(canonical(dict.fromkeys(keys, 1)))
    )


@pytest.mark.parametrize("value", [2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_of_64_bits_are_written_in_full(value: int) -> None:
    """Our one extension: the RFC's numbers are doubles, commands may carry int64."""
    assert str(value).encode() == canonical(value)
    assert b'{"a":[%d]}' % value == canonical({"a": [value]})


def test_uuids_and_instants_are_text() -> None:
    """What our own fields hold is written without being made text first."""
    at = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    expected = b'{"at":"2026-11-21T09:30:00Z","id":"00000000-0000-0000-0000-000000000001"}'
    assert expected == canonical({"id": UUID(int=1), "at": at})
