"""Python conditions as CEL: held against Python's own meaning over generated cases, and what is refused with why."""

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.predicates import Guard, Verdict
from domain.condition_text import BYTES_MAX, NESTING_MAX, Problem
from domain.conditions import translate
from service.predicates.cel import CelEngine
from tests.domain.python_meaning import documented, python
from tests.fakes.guards import question_of

EXAMPLES = 4 * settings().max_examples
NOW = "2026-11-21T09:30:00.000000Z"
ENGINE = CelEngine()
WORDS = ("", "a", "ab", "x")
FIELDS = ("a", "b", "c", "xs", "m", "absent")


def verdict(cel: str, context: dict[str, Any]) -> Verdict:
    """Ask CEL."""
    inputs = {
        "workflow": {"state": "ACTIVE", "created_at": "2026-11-20T00:00:00.000000Z", "due_at": None},
        "command": {"context": context},
        "actor": {"name": "ann"},
        "children": [],
        "slas": [],
        "now": NOW,
    }

    return ENGINE.ask([question_of(Guard(engine="cel", expression=cel), inputs)])[0]


def cel_of(source: str) -> str:
    """Translate a condition that can be."""
    translated = translate(source)
    assert isinstance(translated, str), translated
    assert None is ENGINE.compile(translated), translated
    return translated


NUMBERS = st.integers(-3, 3) | st.sampled_from((-1.5, 0.0, 0.5, 1.0, 2.0))
SCALARS = st.none() | st.booleans() | NUMBERS | st.sampled_from(WORDS)
OBJECTS = st.dictionaries(st.sampled_from(("a", "b", "n", "ok")), SCALARS, max_size=3)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS,
        "b": SCALARS | st.booleans(),
        "c": SCALARS | st.lists(SCALARS, max_size=2) | OBJECTS,
        "xs": st.lists(NUMBERS, max_size=3) | st.lists(st.booleans() | OBJECTS, max_size=3) | SCALARS,
        "m": st.builds(lambda inner, k: {"k": k, "m": inner}, OBJECTS, SCALARS),
    },
)
LITERALS = SCALARS.map(repr)
PATHS = st.sampled_from((*FIELDS, "m.k", "m.m.a", 'm["m"]["ok"]', "xs[0]", "c[1]", "m.absent"))


def _values(conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    number = NUMBERS.map(repr) | PATHS | PATHS
    inner = st.deferred(lambda: sums) | number
    signs = st.sampled_from(("+", "-", "*"))
    sums = (
        st.builds("({} {} {})".format, inner, signs, inner)
        | st.builds("(-{})".format, PATHS)
        | st.builds("({} / {})".format, number, st.sampled_from(("2", "-4.0")))
        | st.builds("({} % {})".format, PATHS, st.sampled_from(("2", "3")))
        | PATHS.map("len({})".format)
    )
    choices = st.builds("({} if {} else {})".format, PATHS | LITERALS, conditions, PATHS | LITERALS)
    return st.one_of(PATHS, PATHS, LITERALS, sums, choices)


def _grow(conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    values = _values(conditions)
    relations = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
    lists = st.lists(SCALARS, min_size=1, max_size=3).map(repr)
    tuples = st.lists(LITERALS | PATHS, min_size=2, max_size=3).map(lambda each: f"({', '.join(each)})")
    elements = st.sampled_from(("x", "x.ok", "x > 0", "x == a", "x.n == 1 and x.ok", "not x", "x.n in (1, 2) or x.ok"))
    return st.one_of(
        st.builds("({} {} {})".format, values, relations, values),
        st.builds("({} {} {} {} {})".format, PATHS, relations, values, relations, PATHS),
        st.builds("({} {} {})".format, values, st.sampled_from(("in", "not in")), PATHS | lists | tuples),
        st.builds("({} {} {})".format, PATHS, st.sampled_from(("is", "is not")), st.sampled_from(("None", "True"))),
        st.builds("({}.{}({}))".format, PATHS, st.sampled_from(("startswith", "endswith")), PATHS | LITERALS),
        st.builds(
            "({}({} for x in {}{}))".format,
            st.sampled_from(("any", "all")), elements, PATHS, st.sampled_from(("", "", " if x", " if x.ok")),
        ),
        conditions.map("(not {})".format),
        st.builds("({} {} {})".format, conditions, st.sampled_from(("and", "or")), conditions),
        st.builds("{} {} {}".format, conditions, st.sampled_from(("and", "or")), conditions),
        st.builds("({} if {} else {})".format, conditions, conditions, conditions),
    )  # fmt: skip


CONDITIONS = st.recursive(PATHS | st.sampled_from(("True", "False")), _grow, max_leaves=6)


def _confuses(source: str, context: dict[str, Any]) -> bool:
    """Tell whether truths and numbers may meet, which Python takes for equal."""
    held = f"{source} {context}"
    return ("True" in held or "False" in held) and any(digit in held for digit in "01")


DIFFERENT = [
    ("a or b == 1", {"b": 1}),
    ("not (a and b)", {"b": False}),
    ("any(x.ok for x in xs)", {"xs": [{}, {"ok": True}]}),
    ("any(x.ok and x.n for x in xs)", {"xs": [{"n": False}, {"n": True, "ok": True}]}),
    ("not any(x.n == 1 and x.ok for x in xs)", {"xs": [{"ok": False}]}),
    ("not all(x.ok for x in xs)", {"xs": [{}, {"ok": False}]}),
    ("a != 1", {"a": True}),
    ("a in (1, 2)", {"a": True}),
    ("a == 1", {"a": 1.0}),
    ("c not in xs", {"c": [1], "xs": [[1.0]]}),
    ("c not in m", {"c": [1], "m": {"k": 1}}),
    ("'a' in c", {"c": "xab"}),
    ("a + b == 1.5", {"a": 1, "b": 0.5}),
    ("a + b * 1.0 == 1.5", {"a": 1, "b": 0.5}),
    ("a % 3 == 2", {"a": -1}),
    ("a / 2 == 1.5", {"a": 3}),
    ("any(x.ok for x in xs)", {"xs": [{"ok": False}]}),
    ("a * 1.5 == 3.0", {"a": "2"}),
    ("a - (b - 1) == 2", {"a": 3, "b": 2}),
    ("a and b", {"a": 1, "b": True}),
    ("not a", {"a": 0}),
    ("a", {"a": "x"}),
    ("xs[0] is not None", {"xs": "a"}),
    ("a not in m", {"a": None, "m": {"k": 1}}),
    ("any(x == a for x in m)", {"a": "k", "m": {"k": None}}),
    ("not any(x == a for x in m)", {"a": None, "m": {"k": None}}),
    ("all(x > 0 for x in xs)", {"xs": [1, 2.5]}),
    ("m.absent is None", {"m": {}}),
]


def judged(source: str, context: dict[str, Any]) -> str:
    """Hold a condition's CEL against the documentation and against Python; say what it came to."""
    translated = translate(source)
    if isinstance(translated, Problem) or ENGINE.compile(translated) is not None:
        return "refused"
    answer = verdict(translated, context)
    assert answer.outcome in {"allow", "deny"}, answer
    assert documented(source, context) is (answer.outcome == "allow"), (translated, answer)
    if answer.outcome == "allow" and not _confuses(source, context):
        assert python(source, context), translated
    return answer.outcome


def test_a_condition_means_what_the_documentation_says() -> None:
    """Python, told the differences that are written down, opens exactly where the CEL does; untold, there too."""
    met = Counter[str]()

    @settings(max_examples=EXAMPLES)
    @given(CONDITIONS, CONTEXTS)
    def compare(source: str, context: dict[str, Any]) -> None:
        met[judged(source, context)] += 1

    compare()
    assert min(met["allow"], met["deny"]) > EXAMPLES // 20, met
    assert met["refused"] < EXAMPLES // 3, met


@pytest.mark.parametrize(("source", "context"), DIFFERENT)
def test_where_python_and_cel_differ_the_documentation_holds(source: str, context: dict[str, Any]) -> None:
    """The cases for which the translation is not word for word."""
    assert judged(source, context) in {"allow", "deny"}


WRITTEN = [
    ('a == "x" and b', 'command.context.a == "x" && command.context.b'),
    ("a or b", "command.context.a ? true : command.context.b"),
    ("not (a and b)", "!(command.context.a ? command.context.b : false)"),
    ("1 < a <= 3", "1 < command.context.a && command.context.a <= 3"),
    ("x in ('a', 'b')", 'command.context.x in ["a", "b"]'),
    ("'hold' not in command.context", '!("hold" in command.context)'),
    ("a is None or a is not True", "command.context.a == null ? true : command.context.a != true"),
    ("workflow.state == 'ACTIVE'", 'workflow.state == "ACTIVE"'),
    ("len(items) > -3", "size(command.context.items) > -3"),
    ("name.startswith('a\\n\\'\"')", 'command.context.name.startsWith("a\\n\'\\"")'),
    ("all(t.n > 1 for t in tasks)", "command.context.tasks.all(t, t.n > 1)"),
    ("any(t.done for t in children)", "size(children.filter(t, t.done)) > 0"),
    ("now > workflow.due_at", "now > timestamp(workflow.due_at)"),
    ("a[0]['b c'].d['e'] == package", 'command.context.a[0]["b c"].d.e == command.context["package"]'),
    ("-9223372036854775808 < a * 2 - (b - 1)",
     "-9223372036854775808 < command.context.a * 2 - (command.context.b - 1)"),
    ("a\n  and\n b", "command.context.a && command.context.b"),
    ("('x' if a else 1) == b", '(command.context.a ? dyn("x") : 1) == command.context.b'),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), WRITTEN)
def test_the_cel_is_what_a_person_would_write(source: str, expected: str) -> None:
    """It is what `why` shows of a denial: one clause each, no brackets that say nothing."""
    assert expected == cel_of(source)


def test_a_denial_names_the_clause_in_cel() -> None:
    """With the values that it saw."""
    answer = verdict(cel_of("a == 'x' and b > 2"), {"a": "x", "b": 1})
    assert ("deny", "command.context.b > 2", {"command.context.b": 1}) == (answer.outcome, answer.clause, answer.values)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("now > workflow.created_at", "allow"),
        ("workflow.created_at < now < '2026-11-22T00:00:00Z'", "allow"),
        ("now < '2026-11-21T10:30:00+02:00'", "deny"),
        ("now > workflow.due_at", "deny"),
    ],
)
def test_now_is_compared_as_an_instant(source: str, expected: str) -> None:
    """Whatever zone the other one is written in; what is no instant shuts."""
    assert expected == verdict(cel_of(source), {}).outcome


REFUSED = [
    ("", 1, 1, "it is empty"),
    ("a ==", 1, 5, "this is not Python"),
    ("a == 1 and\n b = 2", 2, 4, "this is not Python"),
    ("a and\n f(b)", 2, 2, "only len(x)"),
    ("a.lower() == 'x'", 1, 1, "only len(x)"),
    ("__import__('os').system('true')", 1, 1, "only len(x)"),
    ("len(a, key=b)", 1, 1, "a call takes its values without names"),
    ("a.b == (lambda: 1)", 1, 9, "a function"),
    ("a if b", 1, 1, "this is not Python"),
    ("a == b // 2", 1, 6, "//: multiply the other side"),
    ("a / b > 1", 1, 5, "write a > b * c instead of a / b > c"),
    ("a % 0 == 1", 1, 5, "only a number that is written out divides"),
    ("a ** 2 > 1", 1, 1, "**: write the multiplication out"),
    ("a == {'b': 1}", 1, 6, "a mapping"),
    ("a in {1, 2}", 1, 6, "a set: write a list"),
    ("a == (1, 2)", 1, 6, "a tuple but after in"),
    ("a[1:2] == b", 1, 1, "a place is a text or a whole number"),
    ("a[-1] == b", 1, 1, "a place is a text or a whole number"),
    ("a[b] == 1", 1, 1, "a place is a text or a whole number"),
    ("a is 'x'", 1, 6, "write == for other values"),
    ("(a := 1) == 1", 1, 2, "an assignment"),
    ("[x for x in a] == b", 1, 1, "a loop outside any() and all()"),
    ("any(x for x in a for y in x)", 1, 4, "one loop at a time"),
    ("any(now for now in a)", 1, 13, "a loop has one variable"),
    ("any(x for x in len(a))", 1, 16, "a loop goes over a field or a list"),
    ("a and 1", 1, 7, "a number is neither true nor false"),
    ("not 'x'", 1, 5, "a text is neither true nor false"),
    ("None", 1, 1, "None is neither true nor false"),
    ("now + 1 > 2", 1, 1, "only numbers are reckoned with"),
    ("now.year == 2026", 1, 1, "now has no fields"),
    ("now == 1", 1, 8, "now is compared with an instant"),
    ("a == f'{b}'", 1, 7, "a text has no prefix such as f"),
    ("a == b'x'", 1, 7, "a text has no prefix such as b"),
    ("a == 'x' 'y'", 1, 10, "two texts in a row"),
    ('a == """x"""', 1, 8, "two texts in a row"),
    ("a == 'x\\d'", 1, 6, "this text does not end in its line"),
    ("a == 'x", 1, 6, "this text does not end in its line"),
    ("a # b", 1, 3, "a comment cannot stand here"),
    ("a \\\n and b", 1, 3, "a backslash joins no lines"),
    ("a) or (b", 1, 2, "this ) closes nothing"),
    ("(a", 1, 3, "a ) is missing at the end"),
    ("(a]", 1, 3, "this ] closes nothing"),
    ("a == é", 1, 6, "a name is written in ASCII"),
    ("a == '\\x00'", 1, 6, "texts no NUL"),
    ("a == '\\ud800'", 1, 6, "texts no NUL"),
    ("a == 9223372036854775808", 1, 6, "numbers have 64 bits"),
    ("a == 1e999", 1, 6, "numbers have 64 bits"),
    ("a == 1j", 1, 6, "numbers have 64 bits"),
    ("a == 'é' and f(b)", 1, 14, "only len(x)"),
    ("await a", 1, 1, "a Python Await"),
    ("a\0", 1, 2, "only blanks and line breaks"),
    ("a\rb", 1, 2, "only blanks and line breaks"),
]


@pytest.mark.parametrize(("source", "line", "column", "message"), REFUSED)
def test_what_cannot_be_translated_is_refused_with_its_place(source: str, line: int, column: int, message: str) -> None:
    """And says what to write instead."""
    problem = translate(source)
    assert isinstance(problem, Problem), problem
    assert (line, column, True) == (problem.line, problem.column, message in problem.message), problem


HOSTILE = {
    "brackets": "(" * 2000 + "a" + ")" * 2000,
    "open brackets": "[" * 4000,
    "signs": "-" * 4000 + "a",
    "negations": "not " * 1000 + "a",
    "sums": "+".join(["a"] * 2000),
    "powers": "**".join(["2"] * 1300),
    "fields": "a" + ".b" * 2000,
    "places": "a" + "[0]" * 1300,
    "calls": "a" + "()" * 2000,
    "choices": "a if b else " * 300 + "c",
    "functions": "lambda:" * 580 + "a",
    "assignments": "(a:=" * 1000 + "1" + ")" * 1000,
    "loops": "any(" * 400 + "x" + " for x in x)" * 250,
    "chains that double": "a < (" * 60 + "a" + " < a) < a" * 60,
    "a long text": "a == '" + "x" * BYTES_MAX + "'",
    "a long number": "a == " + "9" * 4000,
    "a backtracking text": "'" + "\\x" * 1300,
    "blanks": " " * 5_000_000,
    "brackets that close": ")" * 4000,
    "texts that never end": "'a" * 2000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_condition_is_refused_in_bounded_time(case: str) -> None:
    """A finding, whatever Python's parser would have made of it; never an exception."""
    start = time.process_time()
    assert isinstance(translate(HOSTILE[case]), Problem)
    assert time.process_time() - start < 1


def test_a_condition_may_be_long_but_not_deep() -> None:
    """What is side by side does not nest."""
    cel_of(" and ".join(["a == 1"] * 100))
    cel_of(" or ".join(["(a == 1)"] * 20))
    depth = NESTING_MAX - 1
    assert isinstance(translate("(" * depth + "a" + ")" * depth), str)
    assert isinstance(translate("(" * (depth + 2) + "a" + ")" * (depth + 2)), Problem)


@given(st.text(st.sampled_from("ab1. ()[]{}'\"\\=<>!+-*/%,:\n#andorimfx")))
def test_any_text_is_translated_or_refused(source: str) -> None:
    """No text makes the parser raise or warn; what is translated compiles, or is refused by CEL in words."""
    found = translate(source)
    assert isinstance(found, Problem) or isinstance(ENGINE.compile(found), str | None)
