"""What opened before opens again, and nothing else does."""

from hashlib import sha256
from random import Random
from typing import Any

import pytest
import rfc8785

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from service.predicates.cel import CelEngine
from service.predicates.opened import BYTES_MAX, REMEMBERED_MAX, Opened, key
from tests.fakes.guards import question_of

# Values that are easily taken for one another.
ALIKE: list[Any] = [
    *(None, 0, 0.0, -0.0, 1, 1.0, True, False, "", "1", "true", "é", "e\u0301"),
    *(2**53, 2**53 + 1, float(2**53), [], [1], [1.0], [True], ["1"], [1, 2], [2, 1], (1,), 2**64),
    *({}, {"a": None}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"a": 1}}),
    *("x" * BYTES_MAX, "x" * BYTES_MAX + "y", "2026-01-02T00:00:00.000000Z"),
]
ALLOW = Verdict("allow", "cel")
READS = ("command.context.x", "workflow.metadata.x", "workflow.version")
FORMS = [
    "type({0}) == int",
    "type({0}) == double",
    "{0} == true",
    "{0} == 1",
    "{0} != 1",
    "{0} < 1",
    "{0} in [1, '1', true]",
    "size({0}) == 1",
    "has({0}.a)",
    "{0}.a == 1",
    "{0}[0] == 1",
    "{0}.all(each, each == 1)",
    "{0} != command.context.x || workflow.version != 1",
    "string({0}) == '1'",
    "timestamp({0}) == now",
    "size({0}) > 1 && {0} == {{'a': 1, 'b': 2}}",
]
NOWS = ("2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z")


def question(expression: str, about: dict[str, Any]) -> Question:
    """Ask one expression about some inputs."""
    return question_of(Guard(engine="cel", expression=expression), about)


def inputs(version: object, metadata: object, context: object, now: str = NOWS[1]) -> dict[str, Any]:
    """Return inputs with a value in each place that is read."""
    return {
        "workflow": {"version": version, "metadata": {"x": metadata}},
        "command": {"context": {"x": context}},
        "actor": {"name": "ann"},
        "children": [],
        "slas": [],
        "now": now,
    }


@pytest.mark.parametrize("form", FORMS)
def test_an_engine_that_remembers_answers_as_one_that_does_not(form: str) -> None:
    """The same verdict to its last field, whatever was asked before and in which order."""
    random = Random(form)
    asked = [question(form.format(read), inputs(*random.choices(ALIKE, k=3))) for read in READS for _ in range(40)]
    expected = [CelEngine().ask([each])[0] for each in asked]
    assert {"allow", "deny"} <= {verdict.outcome for verdict in expected}
    remembering = CelEngine()
    for _ in range(5):
        order = random.sample(range(len(asked)), len(asked))
        assert [expected[at] for at in order] == remembering.ask([asked[at] for at in order])


def test_a_guard_that_looks_at_the_time_is_judged_each_time() -> None:
    """What opened then does not open now."""
    engine = CelEngine()
    guard = "now < timestamp('2026-01-01T12:00:00Z') && actor.name == 'ann'"
    asked = [question(guard, inputs(1, 1, 1, now)) for now in (*NOWS, NOWS[0])]
    assert ["allow", "deny", "allow"] == [verdict.outcome for verdict in engine.ask(asked)]


def test_a_denial_tells_of_the_inputs_as_they_are() -> None:
    """Also of an expression that has opened, and where what it reads is the same as before."""
    engine = CelEngine()
    for version in (1, 2, 1, 2):
        (verdict,) = engine.ask([question("workflow.version == 1", {"workflow": {"version": version}})])
        denied = Verdict("deny", "cel", clause="workflow.version == 1", values={"workflow.version": 2})
        assert verdict._replace(inputs_digest=None) == (ALLOW if version == 1 else denied)


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("workflow.version == 1 && actor.name == 'ann'", {"workflow": {"version": 1}, "actor": {"name": "ann"}}),
        ("workflow.version == 2", {"workflow": {"version": 1}}),
        ("!has(command.context.y) && command.context.x == 3", {"command": {"context": {"x": 3}}}),
        ("command.context.x == 3 && size(command.context) == 1", {"command": {"context": {"x": 3}}}),
        ("now > timestamp('2026-01-01T12:00:00Z')", {"now": NOWS[1]}),
        ("now < timestamp('2026-01-01T12:00:00Z')", {"now": NOWS[1]}),
        ("true", {}),
        ("'x' in workflow.metadata", {"workflow": {"metadata": {"x": 2}}}),
        (".workflow.version == 1", inputs(1, 2, 3)),
    ],
)
def test_a_verdict_has_the_digest_of_what_its_expression_reads(expression: str, read: dict[str, Any]) -> None:
    """Of an allow and a denial, judged or remembered, as a reader can make it; of all where a name is from the root."""
    expected = sha256(rfc8785.dumps(read)).hexdigest()[:32]
    engine = CelEngine()
    for _ in range(2):
        (verdict,) = engine.ask([question(expression, inputs(1, 2, 3))])
        assert expected == verdict.inputs_digest


def test_what_opens_one_expression_opens_no_other() -> None:
    """Though both look at the same values."""
    same = {"workflow": {"version": 1}}
    asked = [question(f"workflow.version {sign} 1", same) for sign in ("==", "!=", ">", "<=")]
    assert ["allow", "deny", "deny", "allow"] == [verdict.outcome for verdict in CelEngine().ask(asked)]


def test_so_much_is_remembered_and_the_rest_forgotten() -> None:
    """What is met again stays, what is large never comes in."""
    opened = Opened()
    keys = [key("e", {"n": number}) for number in range(REMEMBERED_MAX + 10)]
    for each in keys:
        assert each is not None
        opened.remember(each, ALLOW)
        assert keys[0] is not None
        assert ALLOW == opened.before(keys[0])
    assert len(opened) == REMEMBERED_MAX
    assert [None, ALLOW] == [opened.before(each) for each in (keys[1], keys[-1]) if each is not None]
    assert key("e", {"text": "x" * BYTES_MAX}) is None
    assert key("e", {"text": object()}) is None
