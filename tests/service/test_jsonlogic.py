"""JSONLogic guards: what opens, what does not and why, what is refused when it is written."""

import json
from hashlib import sha256
from typing import Any

import pytest
import rfc8785

from contracts.predicates import Guard, Verdict
from service.predicates.jsonlogic import BYTES_MAX, STEPS_MAX, JsonLogicEngine
from service.predicates.jsonlogic_rule import conjuncts, paths
from tests.fakes.guards import question_of
from tests.service.test_cel import INPUTS

CONTEXT = {"var": "command.context"}
VERSION, STATE = {"var": "workflow.version"}, {"var": "workflow.state"}
ITEMS = {"var": "command.context.items"}
Rule = Any


@pytest.fixture(scope="module")
def engine() -> JsonLogicEngine:
    """Return one engine for all."""
    return JsonLogicEngine()


def text(rule: Rule) -> str:
    """Write a rule as a definition keeps it."""
    return json.dumps(rule, separators=(",", ":"))


async def asked(engine: JsonLogicEngine, rule: Rule, inputs: dict[str, Any] | None = None) -> Verdict:
    """Ask one guard; what its verdict is a digest of has tests of its own."""
    guard = Guard(engine="jsonlogic", expression=text(rule))
    return engine.ask([question_of(guard, INPUTS if inputs is None else inputs)])[0]._replace(inputs_digest=None)


@pytest.mark.parametrize(
    "rule",
    [
        True,
        {"and": [{"==": [STATE, "ACTIVE"]}, {"in": ["admin", {"var": "actor.roles"}]}]},
        {"!": [{"var": "command.context.hold"}]},
        {"==": [{"var": ["command.context.hold", 7]}, 7]},
        {"and": [{">": [VERSION, 2.5]}, {"<": [{"var": "command.context.ratio"}, 1]}]},
        {"all": [ITEMS, {">": [{"var": "n"}, 0]}]},
        {"some": [["ACTIVE", "PAUSED"], {"==": [{"var": ""}, "ACTIVE"]}]},
        {"none": [ITEMS, {"==": [{"var": "id"}, "c"]}]},
        {"==": [{"reduce": [ITEMS, {"+": [{"var": "current.n"}, {"var": "accumulator"}]}, 0]}, 3]},
        {"==": [{"missing": ["workflow.state", "command.context.hold"]}, ["command.context.hold"]]},
        {"===": [{"var": "command.context.items.1.id"}, "b"]},
        {"if": [{">": [VERSION, 5]}, False, {"cat": ["a", "b"]}, True, False]},
        {"and": [STATE, {"and": [VERSION, {"!": [False]}]}]},
        {"==": [{"var": "workflow.owner"}, None]},
    ],
)
async def test_a_rule_that_is_true_opens(engine: JsonLogicEngine, rule: Rule) -> None:
    """And it was sound when it was applied."""
    assert engine.compile(text(rule)) is None
    assert Verdict(outcome="allow", engine="jsonlogic") == await asked(engine, rule)


HELD = {"==": [1, 1]}
WRONG = {"==": [VERSION, 4]}


@pytest.mark.parametrize(
    ("rule", "clause", "values", "cause"),
    [
        ({"and": [HELD, WRONG]}, WRONG, {"workflow.version": 3}, None),
        ({"and": [HELD, {"and": [{"and": [HELD, WRONG]}, HELD]}]}, WRONG, {"workflow.version": 3}, None),
        ({"and": [HELD, {"or": [WRONG, False]}]}, {"or": [WRONG, False]}, {"workflow.version": 3}, None),
        ({"and": [STATE, VERSION]}, VERSION, {"workflow.version": 3}, "it gave number, not a boolean"),
        (STATE, STATE, {"workflow.state": "ACTIVE"}, "it gave string, not a boolean"),
        ({"and": [{"var": "workflow.owner"}, HELD]}, {"var": "workflow.owner"}, {"workflow.owner": None},
         "it gave null, not a boolean"),
        ({"var": "command.context.hold"}, {"var": "command.context.hold"}, {}, "it gave null, not a boolean"),
        ({"and": [{"<": [STATE, 1]}, HELD]}, {"<": [STATE, 1]}, {"workflow.state": "ACTIVE"},
         "< does not apply to these values"),
        ({"==": [VERSION, ""]}, {"==": [VERSION, ""]}, {"workflow.version": 3}, "== does not apply to these values"),
        ({"and": [{"<": [STATE, 1]}, WRONG]}, {"<": [STATE, 1]}, {"workflow.state": "ACTIVE"},
         "< does not apply to these values"),
        ({"and": [1, "yes", WRONG]}, WRONG, {"workflow.version": 3}, None),
        ({"and": [0, WRONG]}, 0, {}, "it never holds"),
        ({">": [{"/": [1, 0]}, 0]}, {">": [{"/": [1, 0]}, 0]}, {}, "/ does not apply to these values"),
        ({"missing": ["command.x", "actor.name"]}, {"missing": ["command.x", "actor.name"]}, {"actor.name": "ann"},
         "it gave array, not a boolean"),
        ({"all": [ITEMS, {"==": [{"var": "n"}, 1]}]}, {"all": [ITEMS, {"==": [{"var": "n"}, 1]}]},
         {"command.context.items": [{"id": "a", "n": 1}, {"id": "b", "n": 2}]}, None),
    ],
)  # fmt: skip
async def test_a_denial_names_the_clause_and_what_it_saw(
    engine: JsonLogicEngine, rule: Rule, clause: Rule, values: dict[str, Any], cause: str | None
) -> None:
    """The first that does not hold; what is only taken for true holds, but is not enough at the end."""
    expected = Verdict(outcome="deny", clause=text(clause), values=values, cause=cause, engine="jsonlogic")
    assert expected == await asked(engine, rule)


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
async def test_inputs_that_are_not_plain_json_are_our_fault(engine: JsonLogicEngine, value: object) -> None:
    """They are unavailable, so that a repeat may pass once it is mended; and they never open or raise."""
    inputs = INPUTS | {"command": {"context": {"value": value}}}
    path = {"var": "command.context.value"}
    for rule in ({"===": [path, path]}, {"some": [path, True]}):
        assert (await asked(engine, rule, inputs)).outcome == "unavailable"


async def test_a_large_value_is_not_repeated_in_the_reply(engine: JsonLogicEngine) -> None:
    """Its size is said instead."""
    verdict = await asked(engine, {"===": [{"var": "command.text"}, 1]}, INPUTS | {"command": {"text": "x" * 5000}})
    assert {"command.text": "(5002 bytes, not shown)"} == verdict.values


@pytest.mark.parametrize("rule", [{"==": [STATE, "ACTIVE"]}, {"==": [STATE, "PAUSED"]}])
def test_a_verdict_has_the_digest_of_all_inputs(engine: JsonLogicEngine, rule: Rule) -> None:
    """Of an allow and a denial, as a reader can make it."""
    (verdict,) = engine.ask([question_of(Guard(engine="jsonlogic", expression=text(rule)), INPUTS)])
    assert sha256(rfc8785.dumps(INPUTS)).hexdigest()[:32] == verdict.inputs_digest


async def test_answers_stand_in_the_order_of_the_questions(engine: JsonLogicEngine) -> None:
    """Each question has its own verdict."""
    expressions = ("true", "false", '{"nosuch":1}', "true")
    questions = [question_of(Guard(engine="jsonlogic", expression=each), INPUTS) for each in expressions]
    outcomes = [verdict.outcome for verdict in engine.ask(questions)]
    assert ["allow", "deny", "unavailable", "allow"] == outcomes


@pytest.mark.parametrize(
    ("rule", "problem", "place"),
    [
        ({"and": [True, {"vr": "workflow.state"}]}, "did you mean `var`?", ("and", 1)),
        ({"==": [1]}, "at least 2 arguments", ()),
        ({"==": [1, 1], "!=": [1, 2]}, "2 keys", ()),
        ({"and": [{"now": []}]}, "unknown operator `now`", ("and", 0)),
        ({"val": ["workflow", "state"]}, "use var", ("val",)),
        ("true", "not the text of one", ()),
        (None, "never true", ()),
        ({"==": [{"var": "nosuch"}, 1]}, "there is no nosuch; a guard sees workflow", ("==", 0, "var")),
        ({"!!": {"var": ["", 1]}}, "all inputs at once", ("!!", "var", 0)),
        ({"var": {"cat": ["work", "flow"]}}, "not one that is made on the way", ("var",)),
        ({"missing": ["workflow.owner", "owner"]}, "there is no owner", ("missing", 1)),
        ({"missing": {"merge": [["workflow.owner"]]}}, "not one that is made on the way", ("missing",)),
        ({"missing_some": [1, ["owner"]]}, "there is no owner", ("missing_some", 1, 0)),
        ({"all": [ITEMS, {"==": [{"var": "id"}, STATE]}]}, "sees the item alone", ("all", 1, "==", 1, "var")),
        ({"reduce": [ITEMS, {"+": [{"var": "n"}, 1]}, 0]}, "current and accumulator", ("reduce", 1, "+", 0, "var")),
        ({"or": [True] * BYTES_MAX}, "at most 4096 are allowed", ()),
        ({"==": ["\ud800", 1]}, "surrogate", ()),
    ],
)
async def test_what_cannot_be_asked_is_said_where_it_is_written(
    engine: JsonLogicEngine, rule: Rule, problem: str, place: tuple[str | int, ...]
) -> None:
    """And a stored one that this build cannot ask is unavailable, never open."""
    expression = json.dumps(rule, ensure_ascii=False)
    flaw = engine.compile(expression)
    assert flaw is not None
    assert problem in flaw.message
    assert place == flaw.path
    assert (
        "unavailable" == engine.ask([question_of(Guard(engine="jsonlogic", expression=expression), INPUTS)])[0].outcome
    )


async def test_loops_over_usual_inputs_are_judged(engine: JsonLogicEngine) -> None:
    """Two hundred tasks of five fields, beside a large text, are not too much; more steps than are allowed are."""
    tasks = [{"id": f"task-{n}", "state": "done", "weight": n, "skills": ["a", "b"]} for n in range(200)]
    rule = {"and": [
        {"all": [{"var": "children"}, {"and": [{"in": [{"var": "state"}, ["done", "skipped"]]},
                                                {"some": [{"var": "skills"}, {"==": [{"var": ""}, "b"]}]}]}]},
        {"<": [{"reduce": [{"var": "children"}, {"+": [{"var": "accumulator"}, {"var": "current.weight"}]}, 0]}, 1e6]},
    ]}  # fmt: skip
    inputs = INPUTS | {"children": tasks, "command": {"text": "x" * 100_000}}
    assert "allow" == (await asked(engine, rule, inputs)).outcome
    many = await asked(engine, rule, INPUTS | {"children": tasks * 100})
    assert ("deny", f"the rule takes more than {STEPS_MAX} steps on these inputs") == (many.outcome, many.cause)


def test_a_conjunction_falls_into_its_clauses() -> None:
    """Through nested ones; anything else stays whole."""
    rule = {"and": [1, {"and": [2, {"and": 3}]}, {"or": [{"and": [4, 5]}]}, {"and": []}]}
    assert [1, 2, 3, {"or": [{"and": [4, 5]}]}, {"and": []}] == conjuncts(rule)


def test_paths_are_those_of_the_variables() -> None:
    """Those of a loop's items are not, those it goes over and defaults are; each once."""
    rule = {"and": [
        {"all": [{"var": "children"}, {"==": [{"var": "state"}, "x"]}]},
        {"var": ["actor.name", {"var": "workflow.owner"}]},
        {"missing": ["command.context.a", "actor.name"]},
        {"missing": [["now"]]},
        {"missing_some": [1, ["slas", "nosuch"]]},
    ]}  # fmt: skip
    expected = ["children", "actor.name", "workflow.owner", "command.context.a", "now", "slas"]
    assert expected == [".".join(path) for path in paths(rule)]
