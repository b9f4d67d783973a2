"""What the checker says of machines, and that a search through `decide` itself, written apart, says the same."""

from collections.abc import Iterator
from itertools import pairwise, product
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from contracts.commands import Command, CreateWorkflow, RequestTransition
from contracts.predicates import Verdict
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition, Transition
from domain.findings import Finding
from domain.guards import Question
from domain.model_check import FINDINGS_MAX, check_model, explore
from domain.workflow import Workflow
from tests.domain.drawn import MEANING, machine
from tests.fakes.machines import compiled

ID = UUID(int=7)
NOW = Circumstances(now="2026-11-21T09:30:00.000000Z", incarnation=ID, command_id=str(ID))
ALLOW = Verdict(outcome="allow", engine="cel")
CONDITIONS = sorted({about for about, _ in MEANING.values()} - {""})
# Every way in which the conditions may come out.
WORLDS = [dict(zip(CONDITIONS, chosen, strict=True)) | {"": True} for chosen in product((True, False), repeat=4)]


def document(states: str, *transitions: dict[str, Any]) -> dict[str, Any]:
    """Return a machine: the first state is initial, one with a star terminal."""
    names = states.split()
    declared = {name.strip("*"): {"initial": number == 0, "terminal": "*" in name} for number, name in enumerate(names)}
    return {"name": "shop.order", "version": 1, "states": declared, "transitions": list(transitions)}


def way(name: str, source: str, target: str, guard: Any = None) -> dict[str, Any]:  # noqa: ANN401 - as a document has it
    """Return a transition; several sources are joined by blanks."""
    sources = source.split()
    clause = {"name": name, "from": sources[0] if len(sources) == 1 else sources, "to": target}
    return clause if guard is None else clause | {"guard": guard}


def found(document: dict[str, Any]) -> list[tuple[str, str, tuple[str | int, ...], str]]:
    """Return the findings with their commands, without their messages."""
    return [
        (finding.severity, finding.code, finding.path, " ".join(finding.commands))
        for finding in check_model(compiled(document), document)
    ]


def test_a_sound_machine_has_no_finding() -> None:
    """Loops, several sources and guards are no faults."""
    assert [] == found(
        document("A B Z*", way("go", "A B", "B", "p"), way("back", "B", "A"), way("end", "A B", "Z", "q"))
    )


def test_a_state_that_nothing_leads_to() -> None:
    """A warning; a transition from it is a note; one that only leads to itself is not reached either."""
    machine = document("A B C Z*", way("end", "A B", "Z"), way("stay", "C", "C"), way("end", "C", "Z"))
    assert [
        ("warning", "UNREACHABLE_STATE", ("states", "B"), ""),
        ("warning", "UNREACHABLE_STATE", ("states", "C"), ""),
        ("note", "NEVER_TAKEN", ("transitions", 0, "from", 1), ""),
        ("note", "NEVER_TAKEN", ("transitions", 1, "from"), ""),
        ("note", "NEVER_TAKEN", ("transitions", 2, "from"), ""),
    ] == found(machine)


def test_a_guard_that_is_false_is_never_open() -> None:
    """The sequence leads to where it would be taken; what lies behind it is not reached."""
    machine = document(
        "A B C Z*", way("go", "A", "B"), way("jump", "B A", "C", {"cel": "false"}), way("end", "A B C", "Z")
    )
    assert [
        ("warning", "UNREACHABLE_STATE", ("states", "C"), "create_workflow go"),
        ("warning", "NEVER_TAKEN", ("transitions", 1, "guard"), "create_workflow go"),
        ("note", "NEVER_TAKEN", ("transitions", 2, "from", 2), ""),
    ] == found(machine)


def test_a_state_without_a_way_to_an_end() -> None:
    """An error, for each state of the trap, with the shortest way into it."""
    machine = document(
        "A B C D Z*", way("a", "A", "B"), way("b", "B", "C"), way("short", "A", "C"), way("round", "C", "D"),
        way("again", "D", "C"), way("end", "A B", "Z"),
    )  # fmt: skip
    assert [
        ("error", "DEAD_END", ("states", "C"), "create_workflow short"),
        ("error", "DEAD_END", ("states", "D"), "create_workflow short round"),
    ] == found(machine)


@pytest.mark.parametrize(("most", "severe"), [(None, []), (0, ["B"]), (2, ["B"])])
def test_a_state_that_retries_alone_lead_out_of(most: int | None, severe: list[str]) -> None:
    """A note where they are limited, since after them nothing is left; another way takes it away."""
    ways = [way("fail", "A", "B"), way("again", "B", "A") | {"retry": True}, way("end", "A", "Z")]
    limits = {"limits": {} if most is None else {"max_retries": most}}
    wanted = [("note", "RETRIES_RUN_OUT", ("states", state), "create_workflow fail") for state in severe]
    assert wanted == found(document("A B Z*", *ways) | limits)
    assert [] == found(document("A B Z*", *ways, way("give_up", "B", "Z")) | limits)


def test_without_an_end_nothing_is_a_dead_end() -> None:
    """A machine may run for ever, as one that was discovered from a log does."""
    assert [] == found(document("A B", way("a", "A", "B")))


@pytest.mark.parametrize(
    ("one", "other", "codes"),
    [
        (None, None, ["AMBIGUOUS_TARGET"]),
        (None, "p", ["AMBIGUOUS_TARGET"]),
        ("p", "q", ["AMBIGUOUS_TARGET"]),
        ("p", "p", ["AMBIGUOUS_TARGET"]),
        ("p == 1", "!p == 1", ["AMBIGUOUS_TARGET"]),
        ("p == 1", "!(p==1)", []),
        ("!has(p.q)", " (has(p.q)) ", []),
        (None, "false", ["NEVER_TAKEN"]),
        ("true", "!true", ["NEVER_TAKEN"]),
        ("false", "false", ["UNREACHABLE_STATE", "DEAD_END", "NEVER_TAKEN", "NEVER_TAKEN"]),
    ],
)
def test_two_ways_that_one_command_may_find_open(one: str | None, other: str | None, codes: list[str]) -> None:
    """A warning, unless one guard is literally the other's negation or never open."""
    machine = document("A Z*", way("first", "A", "Z", one), way("second", "A", "Z", other))
    assert codes == [code for _, code, _, _ in found(machine)]


def test_each_ambiguity_is_found_where_it_is_met() -> None:
    """By source, also of self-loops and within lists of sources; a third way is compared with both others."""
    machine = document(
        "A B Z*",
        way("go", "A", "B"),
        way("one", "A B", "Z", "p"),
        way("two", "B A", "Z", "!p"),
        way("three", "B", "Z", "q"),
        way("stay", "B", "B"),
        way("wait", "B", "B", "q"),
    )
    assert [
        ("warning", "AMBIGUOUS_TARGET", ("transitions", 3, "from"), "create_workflow go"),
        ("warning", "AMBIGUOUS_TARGET", ("transitions", 5, "from"), "create_workflow go"),
    ] == found(machine)
    third = check_model(compiled(machine), machine)[0]
    assert third.message.startswith("one and three both lead from B to Z and may be open at once")
    assert third.message.endswith("; create_workflow -> A; go -> B")


def test_long_sequences_are_shown_by_their_ends_and_many_findings_counted() -> None:
    """The data has every step; a class of fault has a hundred findings at most, and one that counts the rest."""
    states = [f"S{number}" for number in range(FINDINGS_MAX + 20)]
    machine = document(" ".join([*states, "Z*"]), *(way(f"to_{b}", a, b) for a, b in pairwise(states)))
    findings = [finding for finding in check_model(compiled(machine), machine) if finding.code == "DEAD_END"]
    assert FINDINGS_MAX + 1 == len(findings)
    assert "20 more of the same kind: correct those above first" == findings[-1].message
    assert [number + 1 for number in range(FINDINGS_MAX)] == [len(finding.commands) for finding in findings[:-1]]
    assert "to_S5 -> S5; (88 more); to_S94 -> S94" in findings[99].message


# What follows searches by commands alone, through `decide`.


class Brute(NamedTuple):
    """A search's result: the least number of commands to each state, and the transitions that were ever accepted."""

    steps: dict[str, int]
    taken: set[tuple[str, str]]


def ask(command: Command, workflow: Workflow | None, definition: Definition) -> Accepted | None:
    """Decide a command whose guard, if it has one, says yes wherever it can."""
    decision = decide(command, workflow, definition, facts=Facts(), circumstances=NOW)
    if isinstance(decision, Question):
        about, holds = MEANING[decision.guard.expression]
        if not any(world[about] == holds for world in WORLDS):
            return None
        assert workflow is not None
        decision = conclude(decision, ALLOW, command, workflow, definition, NOW)
    return decision if isinstance(decision, Accepted) else None


def create() -> CreateWorkflow:
    """Return a creation."""
    return CreateWorkflow(
        command_type="create_workflow", command_id=ID, workflow_id="w", definition="shop.drawn", metadata={}
    )


def request(name: str) -> RequestTransition:
    """Return a request for a transition."""
    return RequestTransition(command_type="request_transition", command_id=ID, workflow_id="w", transition=name)


def search(definition: Definition, names: list[str]) -> Brute:
    """Try every command in every state, nearest states first."""
    created = ask(create(), None, definition)
    assert created is not None
    requests = {name: request(name) for name in names}
    brute, ring = Brute({created.workflow.state: 1}, set()), [created.workflow]
    while ring:
        further: list[Workflow] = []
        for workflow, (name, command) in product(ring, requests.items()):
            moved = ask(command, workflow, definition)
            if moved is None:
                continue
            brute.taken.add((workflow.state, name))
            if moved.workflow.state not in brute.steps:
                brute.steps[moved.workflow.state] = brute.steps[workflow.state] + 1
                further.append(moved.workflow)
        ring = further
    return brute


def declared(document: dict[str, Any]) -> Iterator[tuple[int, str, str, str, str | None]]:
    """Yield index, name, source, target and guard of each transition, as written."""
    for index, clause in enumerate(document["transitions"]):
        sources = clause["from"] if isinstance(clause["from"], list) else [clause["from"]]
        guard = clause.get("guard")
        for source in sources:
            yield index, clause["name"], source, clause["to"], guard and guard.strip()


def expected(document: dict[str, Any], brute: Brute) -> set[tuple[str, object, int]]:
    """Return what should be found: code, where, and the length of the sequence that shows it, 0 if none does."""
    wanted: set[tuple[str, object, int]] = set()
    ends = {state for state, clauses in document["states"].items() if clauses["terminal"]}
    for state in document["states"]:
        if state in brute.steps:
            if ends and not onward(document, brute, state) & ends:
                wanted.add(("DEAD_END", state, brute.steps[state]))
        else:
            wanted.add(("UNREACHABLE_STATE", state, 0))
    before: list[tuple[str, str, str, str | None]] = []
    for index, name, source, target, guard in declared(document):
        if (source, name) not in brute.taken:
            wanted.add(("NEVER_TAKEN", index if source in brute.steps else (index, source), 0))
            continue
        about, holds = MEANING[guard]
        for _, one_source, one_target, one_guard in before:
            one_about, one_holds = MEANING[one_guard]
            at_once = any(world[about] == holds and world[one_about] == one_holds for world in WORLDS)
            if (one_source, one_target) == (source, target) and at_once:
                wanted.add(("AMBIGUOUS_TARGET", (index, source), brute.steps[source]))
        before.append((name, source, target, guard))
    return wanted


def expected_of_slas(document: dict[str, Any], brute: Brute) -> set[tuple[str, object, int]]:
    """Return what should be found of promises."""
    wanted: set[tuple[str, object, int]] = set()
    ends = {state for state, clauses in document["states"].items() if clauses["terminal"]}
    for index, sla in enumerate(document["slas"]):
        started = [state for state in sla["starts"] if state in brute.steps]
        endless = [state for state in started if not onward(document, brute, state) & {*ends, *sla["stops"]}]
        if not started:
            wanted.add(("SLA_NEVER_STARTS", index, 0))
        if endless:
            wanted.add(("SLA_NEVER_STOPS", index, min(brute.steps[state] for state in endless)))
    return wanted


def onward(document: dict[str, Any], brute: Brute, state: str) -> set[str]:
    """Return where commands lead from a state, itself included."""
    found = {state}
    for _ in document["states"]:
        found |= {
            to for _, name, source, to, _ in declared(document) if source in found and (source, name) in brute.taken
        }
    return found


def with_slas(document: dict[str, Any], random: Random) -> dict[str, Any]:
    """Draw promises: each starts in some states and stops in others."""
    states = [state for state, clauses in document["states"].items() if not clauses["terminal"]]
    slas = []
    for number in range(random.randrange(3) if states else 0):
        shuffled = random.sample(states, len(states))
        starts = shuffled[: random.randint(1, len(states))]
        stops = [state for state in shuffled[len(starts) :] if random.random() < 0.3]
        slas.append({"name": f"s{number}", "target": "1h", "starts": starts, "stops": stops})
    return document | {"slas": slas}


def said(document: dict[str, Any], findings: tuple[Finding, ...], brute: Brute) -> set[tuple[str, object, int]]:
    """Return what was found in the same words: a guard that is false speaks for all its sources."""
    told: set[tuple[str, object, int]] = set()
    for finding in findings:
        kind, first, *rest = finding.path
        clause = document["transitions"][first] if kind == "transitions" else None
        if finding.code == "NEVER_TAKEN" and clause is not None and rest == ["guard"]:
            sources = clause["from"] if isinstance(clause["from"], list) else [clause["from"]]
            told |= {("NEVER_TAKEN", first if each in brute.steps else (first, each), 0) for each in sources}
        elif clause is not None:
            source = clause["from"][rest[1]] if len(rest) == 2 else clause["from"]
            length = len(finding.commands) if finding.code == "AMBIGUOUS_TARGET" else 0
            told.add((finding.code, (first, source), length))
        else:
            shown = finding.code in {"DEAD_END", "SLA_NEVER_STOPS"}
            told.add((finding.code, first, len(finding.commands) if shown else 0))
    return told


def follow(finding: Finding, definition: Definition) -> str:
    """Execute a finding's commands and return the state they lead to."""
    workflow: Workflow | None = None
    for name in finding.commands:
        decision = ask(create() if workflow is None else request(name), workflow, definition)
        assert decision is not None, finding
        workflow = decision.workflow
    assert workflow is not None
    return workflow.state


def test_it_agrees_with_a_search_by_commands() -> None:
    """On a thousand machines: the same faults at the same places, by sequences as short, which can be executed."""
    random = Random(20261121)
    codes: dict[str, int] = {}
    for _ in range(1000):
        document = with_slas(machine(random), random)
        definition = compiled(document)
        brute = search(definition, [clause["name"] for clause in document["transitions"]])
        findings = check_model(definition, document)
        assert expected(document, brute) | expected_of_slas(document, brute) == said(document, findings, brute), (
            document
        )
        assert set(brute.steps) == set(explore(definition).reached)
        for finding in findings:
            codes[finding.code] = codes.get(finding.code, 0) + 1
            if finding.commands:
                kind, first = finding.path[:2]
                clause = {"transitions": "from", "slas": "starts"}.get(str(kind))
                ends = [first] if clause is None else document[str(kind)][first][clause]
                assert finding.code == "UNREACHABLE_STATE" or follow(finding, definition) in ends
    assert {code for code, found in codes.items() if found > 50} == {
        "UNREACHABLE_STATE", "DEAD_END", "NEVER_TAKEN", "AMBIGUOUS_TARGET", "SLA_NEVER_STARTS", "SLA_NEVER_STOPS"
    }  # fmt: skip


def test_fifty_states_all_joined_are_checked() -> None:
    """2,450 guarded transitions, and as many beside them."""
    states = [f"S{number}" for number in range(50)]
    pairs = [
        way(f"{name}_{target}", " ".join(state for state in states if state != target), target, "p")
        for target in states
        for name in ("go", "fly")
    ]
    dense = document(" ".join([*states, "Z*"]), *pairs, way("end", "S49", "Z"))
    definition = compiled(dense)
    findings = check_model(definition, dense)
    assert (4901, 51) == (len(definition.transitions), len(explore(definition).reached))
    assert {"AMBIGUOUS_TARGET"} == {finding.code for finding in findings}
    assert FINDINGS_MAX + 1 == len(findings)
    assert [Transition("end", "S49", "Z", None)] == list(explore(definition).way_to("Z"))[-1:]
