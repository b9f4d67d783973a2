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
        ('{cel: "has(command.context.paid)"}', "{}", [("BAD_VALUE", 11, 12)]),
        ("{cel:", "{python: paid, cel:", [("BAD_VALUE", 11, 12)]),
        ('{cel: "has(command.context.paid)"}', "{python: paid +}", [("BAD_GUARD", 11, 21)]),
        ('{cel: "has(command.context.paid)"}', "{python: len(paid)}", [("BAD_GUARD", 11, 21)]),
        ('{cel: "has(command.context.paid)"}', "{python: -paid < 'a' + 1}", [("BAD_GUARD", 11, 21)]),
        ("{cel:", "{jsonlogic:", [("BAD_GUARD", 11, 24)]),
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


MACHINE = """\
name: t
version: 1
states:
  A: {initial: true}
  STUCK:
  LOST: {}
  Z: {terminal: true}
transitions:
  - {name: jam, from: A, to: STUCK}
  - {name: end, from: [A, LOST], to: Z}
  - name: quit
    from: A
    to: Z
    guard: {cel: "false"}
"""


def test_the_machine_is_explored_once_it_is_sound() -> None:
    """A state is found at its name, a transition at its source or guard, each with the commands that lead there."""
    found = [
        (finding.severity, finding.code, finding.line, finding.column, finding.commands)
        for finding in read_definition(MACHINE).findings
    ]
    assert found == [
        ("error", "DEAD_END", 5, 3, ("create_workflow", "jam")),
        ("warning", "UNREACHABLE_STATE", 6, 3, ()),
        ("note", "NEVER_TAKEN", 10, 27, ()),
        ("warning", "NEVER_TAKEN", 14, 12, ("create_workflow",)),
    ]
    assert read_definition(MACHINE).definition is None
    unsound = read_definition(MACHINE.replace("from: A\n", "from: B\n"))
    assert [finding.code for finding in unsound.findings] == ["UNKNOWN_STATE"]


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
ONE_STATE = "name: a.b\nversion: 1\nstates:\n  s0: {initial: true}\n"


def _guarded(guard: str) -> str:
    return f'transitions:\n  - {{name: t, from: s0, to: s0, guard: "{guard}"}}\n'


CONDITION = " and ".join(["a == 1"] * 150)
HOSTILE = {
    "sources that nobody declared": (
        ONE_STATE
        + "".join(f"  s{number}:\n" for number in range(1, 6_000))
        + f"transitions:\n  - {{name: x, to: s0, from: [{', '.join(f'q{number}' for number in range(7_000))}]}}\n",
        "UNKNOWN_STATE",
    ),
    "conditions of the greatest size": (
        ONE_STATE
        + "transitions:\n"
        + "".join(
            f"  - {{name: t{number}, from: s0, to: s0, guard: {{python: '{CONDITION} and f({number})'}}}}\n"
            for number in range(150)
        ),
        "BAD_GUARD",
    ),
    "an escape beyond all letters": ('name: "\\U00110000"', "YAML_SYNTAX"),
    "an escape beyond all numbers": ('name: "\\UFFFFFFFF"', "YAML_SYNTAX"),
    "a version of YAML without end": ("%YAML 1." + "9" * 5_000 + "\n---\na: 1\n", "YAML_SYNTAX"),
    "a map whose key is a list": (ONE_STATE + _guarded("{[1]: 2}"), "BAD_GUARD"),
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


CHAIN = range(1600)
SOURCES = ",".join(f"S{number}" for number in range(2500))
FULL = {
    "a trap as long as a text may be": (
        [f"S{number}" for number in CHAIN],
        [f"{{name: go, from: S{number}, to: S{number + 1}}}" for number in CHAIN[:-1]],
    ),
    "ways side by side": (["S0"], [f"{{name: go{number}, from: S0, to: Z}}" for number in range(2800)]),
    "long guards of many sources": (
        SOURCES.split(","),
        [f"{{name: go{number}, from: [{SOURCES}], to: Z, guard: '{'(' * 9000}'}}" for number in range(2)],
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_a_machine_as_large_as_can_be_is_explored_in_bounded_time(case: str) -> None:
    """What is said of it is bounded too."""
    states, transitions = FULL[case]
    text = "name: t\nversion: 1\nstates:\n  S0: {initial: true}\n  Z: {terminal: true}\n"
    text += "".join(f"  {state}: {{}}\n" for state in states if state != "S0")
    text += "transitions:\n" + "".join(f"  - {transition}\n" for transition in transitions)
    start = time.process_time()
    findings = read_definition(text).findings
    assert {"DEAD_END", "AMBIGUOUS_TARGET", "BAD_GUARD"} & {finding.code for finding in findings}
    assert sum(len(finding.message) for finding in findings) < 250_000
    assert time.process_time() - start < 10


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
        assert parsed.definition is not None
        notes = ["RETRIES_RUN_OUT"] if parsed.definition.name == "gndp.task" else []
        assert notes == [finding.code for finding in parsed.findings]
        assert parsed.definition.name == name
