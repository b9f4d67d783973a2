"""Definitions as YAML text: findings with their places, and texts that mean harm."""

import time

import pytest

from service.definitions.files import Parsed, read_definition, shipped

SOUND = """\
name: shop.order
version: 1
states:
  NEW: {initial: true}
  yes:
    terminal: true
transitions:
  - name: close
    from: NEW
    to: yes
    guard: {cel: "has(command.context.paid)"}
"""


def places(text: str) -> list[tuple[str, int | None, int | None]]:
    """Return code, line and column of each finding."""
    return [(finding.code, finding.line, finding.column) for finding in read_definition(text).findings]


def test_a_sound_text_compiles() -> None:
    """Words are text unless YAML 1.2 says otherwise: a state may be called yes."""
    parsed = read_definition(SOUND)
    assert parsed.findings == ()
    assert parsed.definition is not None
    assert list(parsed.definition.states) == ["NEW", "yes"]


def test_the_digest_is_of_what_is_said() -> None:
    """Comments, order and layout do not change it; a value does."""
    again = "# the same\n" + SOUND.replace("name: shop.order\nversion: 1\n", "version: 0x1\n'name': shop.order\n")
    assert read_definition(again).canonical == read_definition(SOUND).canonical
    assert read_definition(again).digest == read_definition(SOUND).digest
    assert read_definition(SOUND.replace("version: 1", "version: 2")).digest != read_definition(SOUND).digest


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("from: NEW", "from: OLD", [("UNKNOWN_STATE", 9, 11)]),
        ("    to: yes", "    roles: [admin]\n    to: yes", [("NOT_SUPPORTED_YET", 10, 5)]),
        ("    to: yes", "    rolse: [admin]\n    to: yes", [("UNKNOWN_CLAUSE", 10, 5)]),
        ("version: 1", "version: one", [("BAD_VALUE", 2, 10)]),
        ("version: 1\n", "", [("MISSING_CLAUSE", 1, 1)]),
        ("{initial: true}", "{}", [("NO_INITIAL_STATE", 4, 3)]),
        ("has(command.context.paid)", "has(command", [("BAD_GUARD", 11, 18)]),
        ("has(command.context.paid)", "paid == true", [("BAD_GUARD", 11, 18)]),
        ("{cel:", "{jsonlogic:", [("BAD_GUARD", 11, 24)]),
        ("{cel:", "{remote:", [("NOT_SUPPORTED_YET", 11, 13)]),
        ('{cel: "has(command.context.paid)"}', "{}", [("BAD_VALUE", 11, 12)]),
        ('{cel: "has(command.context.paid)"}', "{jsonlogic: {and: [true, {vr: 1}]}}", [("BAD_GUARD", 11, 37)]),
        (
            '{cel: "has(command.context.paid)"}',
            "\n      jsonlogic:\n        and:\n          - true\n          - var: paid",
            [("BAD_GUARD", 15, 18)],
        ),
        ("version: 1", "version: 1\nversion: 2", [("YAML_DUPLICATE_KEY", 3, 1)]),
        ("name: shop.order", "name: &n shop.order", [("YAML_ALIAS", 1, 7)]),
        ("name: shop.order", "name: *n", [("YAML_ALIAS", 1, 7)]),
        ("name: shop.order", "name: !!python/name:os.system shop", [("YAML_TAG", 1, 7)]),
        ("name: shop.order", "name: !mine shop.order", [("YAML_TAG", 1, 7)]),
        ("version: 1", "version: 99999999999999999999", [("YAML_VALUE", 2, 10)]),
        ("version: 1", "version: .nan", [("YAML_VALUE", 2, 10)]),
        ("name: shop.order", r'name: "shop\0"', [("YAML_VALUE", 1, 7)]),
        ("name: shop.order", r'name: "\ud800"', [("YAML_VALUE", 1, 7)]),
        ("name: shop.order", "[a]: b\nname: shop.order", [("YAML_KEY", 1, 1)]),
        ("name: shop.order", "name: shop: order", [("YAML_SYNTAX", 1, 11)]),
        ("name: shop.order", "\tname: shop", [("YAML_SYNTAX", 1, 1)]),
    ],
)
def test_findings_point_into_the_text(before: str, after: str, expected: list[tuple[str, int, int]]) -> None:
    """Lines and columns count from 1; a wrong key is found at the key, a wrong value at the value."""
    text = SOUND.replace(before, after)
    assert places(text) == expected
    assert read_definition(text).definition is None


def test_a_warning_does_not_stop_a_definition() -> None:
    """Only an error does."""
    parsed = read_definition("name: t\nversion: 1\nstates:\n  A: {initial: true}\n")
    assert [(finding.severity, finding.code) for finding in parsed.findings] == [("note", "NO_TERMINAL_STATE")]
    assert parsed.definition is not None


def test_a_file_holds_one_definition() -> None:
    """The second document is pointed at."""
    assert places(f"{SOUND}---\n{SOUND}") == [("YAML_SEVERAL_DOCUMENTS", 12, 1)]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)
HOSTILE = {
    "aliases that double": (BOMB, "YAML_ALIAS"),
    "deep flow lists": ("[" * 250_000, "YAML_TOO_DEEP"),
    "deep block lists": ("- " * 100_000, "YAML_TOO_DEEP"),
    "deep keys": ("? " * 100_000, "YAML_KEY"),
    "deep mappings": ("{a: " * 60_000, "YAML_TOO_DEEP"),
    "too many values": ("[" + "1," * 100_000 + "]", "YAML_TOO_LARGE"),
    "too many bytes": ("é" * 131_073, "YAML_TOO_LARGE"),
    "a huge number": ("version: " + "9" * 100_000, "YAML_VALUE"),
    "many documents": ("---\n" * 60_000, "YAML_SEVERAL_DOCUMENTS"),
    "a python object": ("!!python/object/apply:os.system ['true']", "YAML_TAG"),
    "a NUL": ("name: \0", "YAML_SYNTAX"),
    "half a surrogate pair": ("name: \ud800", "YAML_SYNTAX"),
    "an open quote": ('name: "' + "a" * 200_000, "YAML_SYNTAX"),
    "nothing": ("", "BAD_VALUE"),
    "nothing but comments": ("#\n" * 100_000, "BAD_VALUE"),
    "text": ("a " * 100_000, "BAD_VALUE"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_text_is_refused_in_bounded_time(case: str) -> None:
    """Never an exception, never more than a few seconds on a slow machine."""
    text, code = HOSTILE[case]
    start = time.process_time()
    parsed = read_definition(text)
    assert code in {finding.code for finding in parsed.findings}
    assert isinstance(parsed, Parsed)
    assert parsed.definition is None
    assert time.process_time() - start < 5


def test_every_shipped_definition_is_sound() -> None:
    """A file is named after the definition it holds."""
    for name, text in shipped().items():
        parsed = read_definition(text)
        assert parsed.findings == ()
        assert parsed.definition is not None
        assert parsed.definition.name == name
