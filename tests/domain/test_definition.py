"""What a definition document may say, and how it compiles into look-ups."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from contracts.definitions import DefinitionDocument
from contracts.predicates import Guard
from domain.definition import Definition, State, Transition, check, compile_document


def document(**changes: object) -> dict[str, Any]:
    """Return a sound document of three states, changed at the top level."""
    sound = {
        "name": "shop.order",
        "version": 2,
        "states": {"NEW": {"initial": True}, "OPEN": None, "DONE": {"terminal": True, "category": "closed"}},
        "transitions": [
            {"name": "open", "from": "NEW", "to": "OPEN"},
            {"name": "close", "from": ["NEW", "OPEN"], "to": "DONE", "guard": " actor.name != '' "},
        ],
    }
    return sound | changes


def compiled(**changes: object) -> Definition:
    """Compile a document that must be sound."""
    definition = compile_document(document(**changes))
    assert isinstance(definition, Definition)
    return definition


def found(**changes: object) -> list[tuple[str, str, tuple[str | int, ...]]]:
    """Return the findings on a changed document, without their messages."""
    return [(finding.severity, finding.code, finding.path) for finding in check(document(**changes))]


def test_a_list_of_sources_becomes_one_transition_each() -> None:
    """Every source has its own transition, and the guard is shared."""
    guard = Guard(engine="cel", expression="actor.name != ''")
    opens = Transition("open", "NEW", "OPEN", None)
    closes_new = Transition("close", "NEW", "DONE", guard)
    closes_open = Transition("close", "OPEN", "DONE", guard)
    definition = compiled()
    assert definition.transitions == (opens, closes_new, closes_open)
    assert definition.by_name == {("NEW", "open"): opens, ("NEW", "close"): closes_new, ("OPEN", "close"): closes_open}
    assert definition.by_target[("NEW", "DONE")] == (closes_new,)
    assert definition.outgoing == {"NEW": (opens, closes_new), "OPEN": (closes_open,)}


def test_states_keep_what_was_declared() -> None:
    """A state without clauses is neither initial nor terminal."""
    definition = compiled()
    assert definition.states["OPEN"] == State("OPEN", initial=False, terminal=False, category=None, description=None)
    assert definition.states["DONE"].category == "closed"
    assert (definition.initial, definition.terminal) == ("NEW", frozenset({"DONE"}))


def test_defaults_are_those_of_the_documentation() -> None:
    """Without clauses there is no limit, no metadata, and the usual event types."""
    definition = compiled()
    events = definition.event_types
    assert (definition.kind, definition.max_open, definition.metadata_default) == ("workflow", None, {})
    assert (events.prefix, events.created, events.transition) == ("shop", "CREATED", "TRANSITION")
    assert events.metadata_updated == "METADATA_UPDATED"


def test_a_transition_may_name_its_event() -> None:
    """The others keep the common type."""
    events = compiled(events={"transition": "Moved", "by_transition": {"close": "Closed"}}).event_types
    assert [events.event_type(name) for name in ("open", "close")] == ["Moved", "Closed"]


def test_states_named_by_people_are_allowed() -> None:
    """A state may be called what an event log calls its activity, and lead to itself."""
    waits = {"name": "Wait", "from": "Take in charge ticket", "to": "Take in charge ticket"}
    definition = compiled(states={"Take in charge ticket": {"initial": True}}, transitions=[waits])
    assert list(definition.outgoing) == ["Take in charge ticket"]


@pytest.mark.parametrize("choice", ["reject", "wait"])
def test_a_definition_says_what_an_unavailable_guard_means(choice: str) -> None:
    """It may refuse its command, as it does unless told, or let it wait; nothing else, and nowhere else."""
    assert (choice, "reject") == (compiled(on_unavailable=choice).on_unavailable, compiled().on_unavailable)
    assert [("error", "BAD_VALUE", ("on_unavailable",))] == found(on_unavailable="allow")
    guard = {"cel": "true", "on_unavailable": choice}
    transitions = [{"name": "open", "from": "NEW", "to": "OPEN", "guard": guard}]
    assert [("error", "UNKNOWN_CLAUSE", ("transitions", 0, "guard", "on_unavailable"))] == found(
        transitions=transitions
    )


def test_the_clauses_of_later_builds_are_told_from_mistakes() -> None:
    """Both are errors: nothing is stored and ignored."""
    transition = {"name": "open", "from": "NEW", "to": "OPEN", "roles": ["admin"], "gard": "true"}
    assert found(automations=[], statse={}, transitions=[transition, {"name": "x", "from": "NEW", "to": "NEW"}]) == [
        ("error", "NOT_SUPPORTED_YET", ("transitions", 0, "roles")),
        ("error", "UNKNOWN_CLAUSE", ("transitions", 0, "gard")),
        ("error", "NOT_SUPPORTED_YET", ("automations",)),
        ("error", "UNKNOWN_CLAUSE", ("statse",)),
    ]


def test_a_finding_says_what_to_write() -> None:
    """The clause of that place that was meant, or how such a value looks; never a pattern or a type's name."""
    wrong = {
        "nmae": "x",
        "version": "one",
        "states": {"NEW": {"initial": "yes", "terminl": True}},
        "transitions": [{"name": "open", "from": "NEW", "to": "NEW", "state": "NEW"}],
        "slas": [{"name": "Reply", "target": "2 days", "stop": ["NEW"]}],
    }
    said = [finding.message for finding in check({"name": "lab.Typo", **wrong})]
    assert [
        "name: write lower-case words joined by dots, as in lab.sample",
        "version: write a whole number",
        "states.NEW.initial: write true or false",
        "there is no clause terminl here: write terminal or remove it",
        "there is no clause state here: correct or remove it",
        "slas.0.name: write lower-case letters, digits, _ and -, as in first-reply",
        "slas.0.target: write a time as in 2d, 4h or 1h 30m",
        "there is no clause stop here: write stops or remove it",
        "there is no clause nmae here: write name or remove it",
    ] == said


def test_a_rule_of_jsonlogic_is_kept_as_its_canonical_text() -> None:
    """Layout and the order of keys do not matter; any JSON may stand there but null."""
    rules: list[Any] = [{"==": [{"var": "workflow.version"}, 1.0]}, True]
    transitions = [
        {"name": f"open{n}", "from": "NEW", "to": "OPEN", "guard": {"jsonlogic": rule}} for n, rule in enumerate(rules)
    ]
    texts = ['{"==":[{"var":"workflow.version"},1]}', "true"]
    expected = [Guard(engine="jsonlogic", expression=text) for text in texts]
    assert expected == [transition.guard for transition in compiled(transitions=transitions).transitions]


@pytest.mark.parametrize(
    "guard",
    [{}, {"jsonlogic": {"==": [1, 1]}, "cel": "true"}, {"cel": "true", "remote": "shop/open"}, {"jsonlogic": None}],
)
def test_a_guard_has_one_engine(guard: dict[str, Any]) -> None:
    """None or two would leave open who decides; the published schema says so too."""
    transitions = [{"name": "open", "from": "NEW", "to": "OPEN", "guard": guard}]
    assert [("error", "BAD_VALUE", ("transitions", 0, "guard"))] == found(transitions=transitions)
    schema = DefinitionDocument.model_json_schema()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps(document(transitions=transitions))), schema)


def guarded(guard: object) -> list[dict[str, Any]]:
    """Return transitions of which the only one has a guard."""
    return [{"name": "open", "from": "NEW", "to": "OPEN", "guard": guard}]


@pytest.mark.parametrize("name", ["allow", "shop/open", "shop/order.v2/open_it", "_x-1/2", "a" * 200])
def test_a_remote_guard_is_a_policys_name(name: str) -> None:
    """It is asked of the remote engine under that name."""
    (transition,) = compiled(transitions=guarded({"remote": name})).transitions
    assert Guard(engine="remote", expression=name) == transition.guard


@pytest.mark.parametrize(
    "name",
    ["", "/shop", "shop/", "shop//open", "../x", "shop/../x", "shop/./x", "a?b", "a#b", "a b", "a%2e", "é", "a\n",
     "http://x/y", "a" * 201, 7, None, ["a"]],
)  # fmt: skip
def test_a_policys_name_cannot_lead_elsewhere(name: object) -> None:
    """What would be another address, or none, is refused where it is written."""
    assert [("error", "BAD_VALUE")] == [each[:2] for each in found(transitions=guarded({"remote": name}))]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": "Shop"}, ("name",)),
        ({"name": "shop..order"}, ("name",)),
        ({"version": 0}, ("version",)),
        ({"version": "2"}, ("version",)),
        ({"version": True}, ("version",)),
        ({"kind": "process"}, ("kind",)),
        ({"states": {}}, ("states",)),
        ({"states": {" NEW": {"initial": True}}}, ("states", " NEW")),
        ({"states": {"NEW": {"initial": "yes"}}}, ("states", "NEW", "initial")),
        ({"states": {"NEW": 1}}, ("states", "NEW")),
        ({"transitions": [{"name": "open", "from": [], "to": "OPEN"}]}, ("transitions", 0, "from")),
        ({"transitions": [{"name": "open", "from": ["NEW", 7], "to": "OPEN"}]}, ("transitions", 0, "from", 1)),
        ({"transitions": [{"name": "open", "from": "NEW", "to": 1}]}, ("transitions", 0, "to")),
        ({"transitions": [{"name": "open", "from": "NEW", "to": "OPEN", "guard": 1}]}, ("transitions", 0, "guard")),
        ({"transitions": {"open": {}}}, ("transitions",)),
        ({"limits": {"max_open": 0}}, ("limits", "max_open")),
        ({"events": {"created": "ORDER CREATED"}}, ("events", "created")),
        ({"metadata_default": []}, ("metadata_default",)),
    ],
)
def test_a_value_of_the_wrong_form_is_found_where_it_stands(
    changes: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    """One finding, at the innermost place that exists."""
    assert found(**changes) == [("error", "BAD_VALUE", path)]


@pytest.mark.parametrize("document", [None, 1, "text", [], [{}]])
def test_what_is_no_mapping_is_no_definition(document: object) -> None:
    """Whatever the text held, the answer is a finding."""
    assert [(finding.code, finding.path) for finding in check(document)] == [("BAD_VALUE", ())]


def test_what_is_missing_is_named() -> None:
    """An empty mapping lacks a name, a version and states."""
    assert [(finding.code, finding.path) for finding in check({})] == [
        ("MISSING_CLAUSE", ("name",)),
        ("MISSING_CLAUSE", ("version",)),
        ("MISSING_CLAUSE", ("states",)),
    ]


def test_there_is_exactly_one_initial_state() -> None:
    """None is an error, and so is each beyond the first."""
    none = found(states={"A": None, "Z": {"terminal": True}}, transitions=[])
    two = found(states={"A": {"initial": True}, "B": {"initial": True, "terminal": True}}, transitions=[])
    assert none == [("error", "NO_INITIAL_STATE", ("states",))]
    assert two == [("error", "SEVERAL_INITIAL_STATES", ("states", "B", "initial"))]


def test_transitions_join_states_that_exist() -> None:
    """Each end is found by itself, also within a list of sources."""
    assert found(transitions=[{"name": "open", "from": ["NEW", "NWE"], "to": "OPNE"}]) == [
        ("error", "UNKNOWN_STATE", ("transitions", 0, "to")),
        ("error", "UNKNOWN_STATE", ("transitions", 0, "from", 1)),
    ]


def test_a_terminal_state_is_never_left() -> None:
    """Not even to itself."""
    transitions = [{"name": "again", "from": "DONE", "to": "DONE"}]
    assert found(transitions=transitions) == [("error", "LEAVES_TERMINAL_STATE", ("transitions", 0, "from"))]


def test_a_name_means_one_transition_in_each_state() -> None:
    """The same name from another state is fine."""
    ways = [{"name": "go", "from": source, "to": target} for source, target in (("NEW", "OPEN"), ("OPEN", "DONE"))]
    again = {"name": "go", "from": ["NEW"], "to": "DONE"}
    assert found(transitions=ways) == []
    assert found(transitions=[*ways, again]) == [("error", "DUPLICATE_TRANSITION", ("transitions", 2, "from", 0))]


def test_two_ways_may_lead_to_one_target() -> None:
    """Such a document compiles; a command must name the transition."""
    ways = [{"name": name, "from": "NEW", "to": "DONE"} for name in ("finish", "skip")]
    assert found(transitions=ways) == []
    assert len(compiled(transitions=ways).by_target[("NEW", "DONE")]) == 2


def test_no_terminal_state_is_a_note() -> None:
    """A machine may run for ever."""
    assert found(states={"A": {"initial": True}}, transitions=[]) == [("note", "NO_TERMINAL_STATE", ("states",))]


def test_event_types_belong_to_transitions_that_exist() -> None:
    """A misspelt transition would silently keep the common type."""
    events = {"by_transition": {"clsoe": "CLOSED"}}
    assert found(events=events) == [("error", "UNKNOWN_TRANSITION", ("events", "by_transition", "clsoe"))]


def test_a_faulty_document_compiles_to_its_findings() -> None:
    """Values over exceptions."""
    faulty = document(events={"by_transition": {"clsoe": "CLOSED"}})
    assert compile_document(faulty) == check(faulty)


def test_editors_get_a_schema_that_agrees() -> None:
    """The JSON Schema takes what the model takes, with the document's own words for its keys."""
    schema = json.loads(json.dumps(DefinitionDocument.model_json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(document())) == []
    assert len(list(validator.iter_errors(document(automations=[], version=0)))) == 2


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ({"starts": ["GONE"]}, [("error", "UNKNOWN_STATE", ("slas", 0, "starts", 0))]),
        ({"stops": ["NEW"], "starts": ["NEW"]}, [("error", "STARTS_WHERE_IT_STOPS", ("slas", 0, "starts", 0))]),
        ({"starts": ["DONE"]}, [("error", "STARTS_WHERE_IT_STOPS", ("slas", 0, "starts", 0))]),
        ({"holds": ["DONE"]}, [("error", "HOLDS_WHERE_IT_STOPS", ("slas", 0, "holds", 0))]),
        ({"target": "0s"}, [("error", "BAD_TARGET", ("slas", 0, "target"))]),
        ({"by_priority": {"high": "0m"}}, [("error", "BAD_TARGET", ("slas", 0, "by_priority", "high"))]),
        ({"target": "4h 1d"}, [("error", "BAD_VALUE", ("slas", 0, "target"))]),
        ({"target": "1m 4h"}, [("error", "BAD_TARGET", ("slas", 0, "target"))]),
        ({"target": "1d"}, [("warning", "DAYS_AROUND_THE_CLOCK", ("slas", 0, "target"))]),
        ({"target": "1d", "calendar": "office"}, []),
        ({"target": None, "holds": ["OPEN"]}, [("error", "BAD_VALUE", ("slas", 0))]),
        ({"ladder": [{"after": "1h"}]}, [("error", "BAD_VALUE", ("slas", 0, "ladder", 0))]),
        (
            {"ladder": [{"transition": "fly"}]},
            [("error", "UNKNOWN_TRANSITION", ("slas", 0, "ladder", 0, "transition"))],
        ),
        (
            {"ladder": [{"after": "1h", "alert": "a"}, {"after": "60m", "alert": "b"}]},
            [("error", "RUNGS_NOT_IN_ORDER", ("slas", 0, "ladder", 1, "after"))],
        ),
        (
            {"ladder": [{"after": "1h", "alert": "a", "every": "1h"}, {"after": "2h", "alert": "b"}]},
            [("error", "RUNGS_NOT_IN_ORDER", ("slas", 0, "ladder", 0, "every"))],
        ),
        (
            {"ladder": [{"alert": "a", "every": "0s"}]},
            [("error", "BAD_TARGET", ("slas", 0, "ladder", 0, "every"))],
        ),
        ({"calender": "office"}, [("error", "UNKNOWN_CLAUSE", ("slas", 0, "calender"))]),
    ],
)
def test_what_is_wrong_with_a_promise_has_its_place(clause: dict[str, Any], expected: list[object]) -> None:
    """States, times, rungs: each mistake where it is."""
    assert expected == found(slas=[{"name": "reply", "target": "4h"} | clause])


def test_two_promises_have_two_names() -> None:
    """The second is the mistake."""
    assert [("error", "DUPLICATE_SLA", ("slas", 1, "name"))] == found(slas=[{"name": "a", "target": "4h"}] * 2)
