"""CEL guards: what opens, what does not and why, and expressions that mean harm."""

import sys
import time
from random import Random
from typing import Any

import pytest

from contracts.predicates import Guard, Verdict
from domain.cel_text import clauses, paths, reads
from service.predicates.cel import BYTES_MAX, CelEngine
from tests.fakes.guards import question_of

INPUTS: dict[str, Any] = {
    "workflow": {"state": "ACTIVE", "version": 3, "created_at": "2026-01-01T00:00:00.000000Z", "owner": None},
    "command": {"context": {"qc_passed": False, "items": [{"id": "a", "n": 1}, {"id": "b", "n": 2}], "ratio": 0.5}},
    "actor": {"name": "ann", "roles": ["admin"]},
    "children": [],
    "slas": [],
    "now": "2026-01-02T00:00:00.000000Z",
}


@pytest.fixture(scope="module")
def engine() -> CelEngine:
    """Return one engine for all."""
    return CelEngine()


async def asked(engine: CelEngine, expression: str, inputs: dict[str, Any] | None = None) -> Verdict:
    """Ask one guard; what its verdict is a digest of has tests of its own."""
    guard = Guard(engine="cel", expression=expression)
    return engine.ask([question_of(guard, INPUTS if inputs is None else inputs)])[0]._replace(inputs_digest=None)


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "workflow.state == 'ACTIVE' && 'admin' in actor.roles",
        "!has(command.context.hold) || command.context.hold == false",
        "workflow.version > 2.5 && command.context.ratio < 1",
        "workflow.version != 'three'",
        "now - timestamp(workflow.created_at) == duration('24h')",
        "timestamp(now) > timestamp(workflow.created_at)",
        "command.context.items.all(i, i.n > 0) && command.context.items.exists_one(i, i.id == 'a')",
        "['ACTIVE', 'PAUSED'].exists(s, s == workflow.state)",
        "command.context.items.filter(i, i.n > 1).all(i, i.id.matches('^b$'))",
        "size(command.context.items.map(i, i.id)) == 2",
        "command.context.hold == true || true",
        "workflow.owner == null",
        ".workflow.state == 'ACTIVE' && workflow.version == 3",
        "workflow.version == 3 && size(workflow) == 4",
        "size(workflow) == 4 && workflow.version == 3",
        'command["context"].ratio == 0.5 && command.context.items[0].n == 1',
        "(command).context.ratio == 0.5 && {'a': command}.a.context.ratio == 0.5",
        "command.context == command['context'] && !has(command.reason)",
        "actor.name.startsWith('a') && command.context.items.size() == 2",
    ],
)
async def test_an_expression_that_is_true_opens(engine: CelEngine, expression: str) -> None:
    """And it was sound when it was applied."""
    assert engine.compile(expression) is None
    assert await asked(engine, expression) == Verdict(outcome="allow", engine="cel")


@pytest.mark.parametrize(
    ("expression", "clause", "values", "cause"),
    [
        ("1 == 1 && (workflow.version == 4)", "workflow.version == 4", {"workflow.version": 3}, None),
        ("command.context.hold && false", "false", {}, None),
        ("command.context.hold == true", "command.context.hold == true", {}, "command.context.hold is absent"),
        (
            "workflow.version < 'x' && actor.name == 'ann'",
            "workflow.version < 'x'",
            {"workflow.version": 3},
            "< does not apply to (int64, string)",
        ),
        ("actor.name", "actor.name", {"actor.name": "ann"}, "it gave STRING, not a boolean"),
        ("true && actor.name", "actor.name", {"actor.name": "ann"}, "it gave STRING, not a boolean"),
        ("1 / 0 == 1", "1 / 0 == 1", {}, "divide by zero"),
        (
            "workflow.owner.name == 'x'",
            "workflow.owner.name == 'x'",
            {},
            "a field is read of a value that has none",
        ),
        (
            "workflow.state == 'ACTIVE' && (actor.name == 'bob' || workflow.version == 1)",
            "actor.name == 'bob' || workflow.version == 1",
            {"actor.name": "ann", "workflow.version": 3},
            None,
        ),
    ],
)
async def test_a_denial_names_the_clause_and_what_it_saw(
    engine: CelEngine, expression: str, clause: str, values: dict[str, Any], cause: str | None
) -> None:
    """A false clause goes before one that could not be judged, wherever it stands."""
    expected = Verdict(outcome="deny", clause=clause, values=values, cause=cause, engine="cel")
    assert await asked(engine, expression) == expected


async def test_no_error_opens_a_transition(engine: CelEngine) -> None:
    """The library returns errors as values whose plain form is a truthy text: none of them opens."""
    expressions = ["command.nope", "!command.nope", "actor.name", "workflow.version", "actor.roles", "command.context"]
    assert {(await asked(engine, expression)).outcome for expression in expressions} == {"deny"}


@pytest.mark.parametrize("value", [object(), (1, 2), {1}, 2**64, "\ud800"])
async def test_inputs_that_are_not_plain_json_are_our_fault(engine: CelEngine, value: object) -> None:
    """They are unavailable, so that a repeat may pass once it is mended; and they never open or raise."""
    inputs = INPUTS | {"command": {"context": {"value": value}}}
    assert (await asked(engine, "command.context.value == command.context.value", inputs)).outcome == "unavailable"


async def test_a_missing_variable_is_our_fault(engine: CelEngine) -> None:
    """Every question brings all of them."""
    for name in ("now", "workflow"):
        inputs = {key: value for key, value in INPUTS.items() if key != name}
        assert (await asked(engine, f"{name} == {name}", inputs)).outcome == "unavailable"


async def test_a_large_value_is_not_repeated_in_the_reply(engine: CelEngine) -> None:
    """Its size is said instead."""
    inputs = INPUTS | {"command": {"text": "x" * 5000}}
    verdict = await asked(engine, "command.text == ''", inputs)
    assert verdict.values == {"command.text": "(5002 bytes, not shown)"}


async def test_answers_stand_in_the_order_of_the_questions(engine: CelEngine) -> None:
    """Each question has its own verdict."""
    questions = [question_of(Guard(engine="cel", expression=text), INPUTS) for text in ("true", "false", "1 +", "true")]
    outcomes = [verdict.outcome for verdict in engine.ask(questions)]
    assert outcomes == ["allow", "deny", "unavailable", "allow"]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("1 +", "1:4: Syntax error"),
        ("nosuch == 1", "undeclared reference to 'nosuch'; a guard sees workflow"),
        ("a == 'x' and b", "Syntax error"),
        ("5", "it gives INT: a guard must be true or false"),
        ("'text'", "it gives STRING"),
        ("true || 1 == 1".ljust(BYTES_MAX + 1), "at most 4096 are allowed"),
        ("true\0 || false", "NUL"),
        ("'\ud800' == ''", "surrogate"),
        ("", "Syntax error"),
        ("(" * 2000 + "true" + ")" * 2000, "recursion limit"),
        ("+".join(["1"] * 2000) + " == 1", "recursion depth"),
        ("command" + ".a" * 2000 + " == 1", "recursion depth"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "nested 2 deep"),
        ("command.a.all(x, x.b.map(y, y + y) == [])", "no + inside a loop"),
        ("command.a.map(x, [x, x]).map(x, [x, x]).size() > 0", "must go over a path"),
        ("[command, command].all(x, [x, x].all(y, y == y))", "must go over a path"),
        ("{'a': [command, command]}.a.all(x, x == x)", "must go over a path"),
        ("[[command]][0].all(x, x == x)", "must go over a path"),
        ("actor.name.matches(command.pattern)", "pattern as a text in quotes"),
    ],
)
async def test_what_cannot_be_asked_is_said_when_it_is_written(
    engine: CelEngine, expression: str, problem: str
) -> None:
    """And a stored one that this build cannot compile is unavailable, never open."""
    assert problem in (engine.compile(expression) or "")
    assert (await asked(engine, expression)).outcome == "unavailable"


LARGE = {
    "list": list(range(3000)),
    "words": ["w" * 10] * 3000,
    "s": "a" * 100_000,
    "maps": [{"a": list(range(50))}] * 300,
    "few": list(range(60)),
    "sought": "a" * 50_000 + "b",
    "ab": "".join(Random(1).choices("ab", k=60_000)),
}
HOSTILE = [
    "command.list.all(a, command.list.all(b, a - b < 9999999))",
    "command.list.all(a, command.list == command.list)",
    "command.list.map(a, command.list) == command.list.map(a, command.list)",
    "command.list.all(a, command.s != 'x' && size(command.s) > 1)",
    "command.words.all(w, !command.s.contains(w))",
    "command.few.all(n, !command.s.contains(command.sought))",
    " || ".join(["command.s.contains(command.sought)"] * 40),
    "(" + " + ".join(["command.s"] * 25) + ").contains(command.sought)",
    "(" + " + ".join(["command.s"] * 25) + ").contains('" + "a" * 2000 + "b')",
    "command.few.exists(n, command.s.contains('" + "a" * 2000 + "b'))",
    "command.ab.matches('(a|b)*a(a|b){999}c')",
    "command.ab.matches('(a|b)*a((a|b){1,30}){1,30}c')",
    "command.ab.matches(r'(?:.*a.{900}b){1}c')",
    "command.ab.matches('(a|b)*a(a|b)\\x7b999}c')",
    "command.words.all(w, command.s.matches('((a?){50}){20}$'))",
    "command.s.matches('^((a?){50}){20}b$')",
    " || ".join(["command.s.matches('^((a?){50}){20}b$')"] * 80),
    "command.maps.all(m, command.maps.all(n, m == n && n == m))",
    "(" + " + ".join(["command.s"] * 25) + ").size() < 0",
    "!" * 3999 + "false",
    " && ".join(["true"] * 500 + ["false"]),
]


@pytest.mark.parametrize("expression", HOSTILE)
async def test_a_hostile_guard_is_answered_in_bounded_time(engine: CelEngine, expression: str) -> None:
    """Large inputs and greedy loops are denied, or judged, within seconds on a slow machine."""
    start = time.process_time()
    verdict = await asked(engine, expression, INPUTS | {"command": LARGE})
    assert verdict.outcome in {"allow", "deny"}
    assert time.process_time() - start < 3


def test_what_is_named_from_the_root_is_looked_for_in_all_of_it(engine: CelEngine) -> None:
    """A field that nothing else names is there all the same, whichever word comes before the dot."""
    guard = Guard(engine="cel", expression="!('hold' in .command.context) && command.context.amount < 100")
    free, held = ({"command": {"context": {"amount": 5} | more}} for more in ({}, {"hold": "by the auditor"}))
    assert ["allow", "deny"] == [
        verdict.outcome for verdict in engine.ask([question_of(guard, INPUTS | each) for each in (free, held)])
    ]


def test_a_map_with_one_key_twice_denies(engine: CelEngine) -> None:
    """It follows from the inputs, so that a repeat would meet it again."""
    guard = Guard(engine="cel", expression="{command.a: 1, command.b: 2}.size() == 2")
    (verdict,) = engine.ask([question_of(guard, INPUTS | {"command": {"a": "x", "b": "x"}})])
    assert ("deny", "a map is built with one key twice") == (verdict.outcome, verdict.cause)


@pytest.mark.parametrize(
    "expression",
    [
        "command.context.none",
        "command.context.nones",
        "command.context.map",
        "command.context.none && true",
        "true && command.context.nones",
        "command.context.n == 1 ? dyn(null) : true",
        "command.context.none == null",
        "command.context.none.x == 1",
        "command.context.nones.all(each, each)",
    ],
)
def test_nulls_cost_python_nothing(engine: CelEngine, expression: str) -> None:
    """The library gives away a reference to None for each null that it hands back: the process would end of it."""
    context = {"none": None, "nones": [None] * 20, "map": {"a": None}, "n": 1}
    question = question_of(Guard(engine="cel", expression=expression), INPUTS | {"command": {"context": context}})
    engine.ask([question])
    before = sys.getrefcount(None)
    for _ in range(200):
        engine.ask([question])
    assert sys.getrefcount(None) > before - 100


def test_a_usual_search_is_judged(engine: CelEngine) -> None:
    """A word in a text of a hundred kilobytes, and one text in another of some."""
    texts = {"command": {"text": "word " * 20_000, "word": "sword", "some": "ab" * 5_000}}
    guard = "command.text.contains('word') && !command.some.contains(command.word)"
    (verdict,) = engine.ask([question_of(Guard(engine="cel", expression=guard), INPUTS | texts)])
    assert "allow" == verdict.outcome


async def test_loops_over_usual_inputs_are_judged(engine: CelEngine) -> None:
    """Fifty tasks of five fields, each looked at from each, are not too much."""
    tasks = [{"id": f"task-{n}", "state": "done", "weight": n, "team": "lab", "skills": ["a", "b"]} for n in range(50)]
    expression = "children.all(a, children.exists(b, a.id == b.id && b.state == 'done' && b.team.matches('^l')))"
    assert (await asked(engine, expression, INPUTS | {"children": tasks})).outcome == "allow"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a && b", ("a", "b")),
        ("((a && b) && (c))", ("a", "b", "c")),
        ("a && b || c", ("a && b || c",)),
        ("a && (b || c) && d ", ("a", "b || c", "d")),
        ("a && b ? c : d", ("a && b ? c : d",)),
        ('x == \'&&\' && y == "a && \\" || b"', ("x == '&&'", 'y == "a && \\" || b"')),
        ("x == r'\\' && y", ("x == r'\\'", "y")),
        ("x == '''a' && ''' && y", ("x == '''a' && '''", "y")),
        ("a // && b\n && c", ("a", "c")),
        ("l.all(i, i && j) && m[a && b]", ("l.all(i, i && j)", "m[a && b]")),
        ("(a) && (b) == (c)", ("a", "(b) == (c)")),
    ],
)
def test_a_conjunction_falls_into_its_clauses(expression: str, expected: tuple[str, ...]) -> None:
    """Texts, comments, brackets and weaker operators keep a clause together."""
    assert clauses(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("workflow.a.b && workflow.c || now", {"workflow": {"a": {"b": None}, "c": None}, "now": None}),
        ("workflow.a.b && workflow.a", {"workflow": {"a": None}}),
        ("workflow.a && workflow.a.b", {"workflow": {"a": None}}),
        (
            "workflow[x].a && actor.roles.exists(r, r == actor.name)",
            {"workflow": None, "actor": {"roles": None, "name": None}},
        ),
        (".workflow.a", None),
        ("size(.workflow.a)", None),
        ("'a' in .workflow.a && workflow.b == 1", None),
        ("'a' in workflow.a", {"workflow": {"a": None}}),
        ("1 == 1", {}),
    ],
)
def test_an_expression_is_given_what_it_reads(expression: str, expected: dict[str, Any] | None) -> None:
    """The whole of what is named, and no more, unless it is named in a way that this does not follow."""
    assert expected == reads(expression)


def test_paths_begin_with_a_variable() -> None:
    """Methods, loop variables, texts and fields of the same name are not paths."""
    expression = "command.context.items.all(i, i.actor != actor.name) && 'workflow.x' != command.`a-b`.size() && now"
    assert paths(expression) == (("command", "context", "items"), ("actor", "name"), ("command", "a-b"), ("now",))
