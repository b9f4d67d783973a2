"""Event logs: what is read from a file, the definition it implies, the commands it becomes. Without a broker."""

import gzip
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts.commands import COMMANDS
from domain.decide import decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition, compile_document
from domain.instants import written
from domain.workflow import Workflow
from service.event_logs.commands import Import, Outgoing, as_commands, number_of_commands
from service.event_logs.csv_log import Columns
from service.event_logs.discover import definition_name, discover, to_yaml, transition_names
from service.event_logs.event import (
    ATTRIBUTE_LENGTH_MAX,
    UNBROKEN_BYTES_MAX,
    EventLogError,
    LoggedEvent,
    UnusableEventError,
    in_order,
)
from service.event_logs.read import log_name, read_log
from tests import event_log_files, independent_fold
from tests.event_log_files import COLUMNS, Line, event_logs, write_csv, write_xes

LOGS = event_logs()
FIGURES = {"helpdesk": (4_580, 21_348, 25_928), "receipt": (1_434, 8_577, 10_011)}
HEADER = ",".join(COLUMNS)
ROW = "Desk,Case 1,Register,complete,Ann,2024-01-01T00:00:00+01:00"
NOW = written(datetime(2026, 1, 1, tzinfo=UTC))
INCARNATION = UUID(int=1)

every_log = pytest.mark.parametrize("log", LOGS)


@pytest.fixture(scope="module")
def read() -> dict[str, list[LoggedEvent]]:
    """Read every log once."""
    return {log: list(read_log(path)) for log, path in LOGS.items()}


def an_event(case: str, activity: str, second: int, index: int = 0) -> LoggedEvent:
    """Give an event at a second of one minute."""
    return LoggedEvent(case, activity, datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC), None, index, {})


def xes(inner: str, head: str = "") -> str:
    """Give an XES document around some traces."""
    return f'{head}<log xmlns="http://www.xes-standard.org/">{inner}</log>'


def compiled(document: dict[str, Any]) -> Definition:
    """Compile a document that has to be sound."""
    definition = compile_document(document)
    assert isinstance(definition, Definition), definition
    return definition


def decided(commands: Iterable[Outgoing], definition: Definition) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Decide commands by the core alone; return the events and what was refused."""
    workflows: dict[str, Workflow] = {}
    events: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for outgoing in commands:
        command = COMMANDS.validate_json(outgoing.value)
        workflow = workflows.get(outgoing.workflow_id)
        circumstances = Circumstances(NOW, INCARNATION, outgoing.command_id)
        outcome = decide(command, workflow, definition, facts=Facts(), circumstances=circumstances)
        if isinstance(outcome, Accepted):
            workflows[outgoing.workflow_id] = outcome.workflow
            events += outcome.events
        else:
            refused.append({"workflow_id": outgoing.workflow_id, "asks": outgoing.asks})
    return events, refused


@pytest.mark.skipif(not event_log_files.real(), reason=f"{event_log_files.SETTING} is not set")
@pytest.mark.parametrize("log", FIGURES)
def test_figures_of_the_real_logs(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """The published logs have the cases and events that their owners state, and so many commands."""
    cases, events, commands = FIGURES[log]
    actual = (len({event.case for event in read[log]}), len(read[log]), number_of_commands(read[log]))
    assert (cases, events, commands) == actual


@every_log
def test_a_log_is_read_as_a_second_reader_reads_it(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """Cases, activities and instants are those that the standard library's own readers find, in file order."""
    expected = [tuple(event) for event in independent_fold.happened(LOGS[log])]
    assert expected == [(event.case, event.activity, event.occurred_at) for event in read[log]]
    assert list(range(len(expected))) == [event.index for event in read[log]]


@every_log
def test_the_discovered_definition_accepts_all_of_its_log(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """Decided by the core, every event becomes the version that an independent fold of the file expects."""
    document = discover(read[log], definition_name(log))
    events, refused = decided(as_commands(read[log], Import(log, document["name"])), compiled(document))
    want = independent_fold.expected(LOGS[log])
    assert refused == []
    assert independent_fold.differing_events(want, events, log=log) == []
    last = {event["workflow_id"]: {**event, "state": event["to_state"]} for event in events}
    assert independent_fold.differing_workflows(want, last.values(), log=log) == []


@every_log
def test_a_stricter_definition_rejects_exactly_the_deviations(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """Without self-transitions and the rarest moves, what is refused and what follows equal the independent fold."""
    document = discover(read[log], definition_name(log))
    moves = [(source, into["to"]) for into in document["transitions"] for source in into["from"]]
    allowed = {(source, target) for source, target in moves[: len(moves) * 3 // 4] if source != target}
    transitions = [{"name": f"to {target}", "from": source, "to": target} for source, target in sorted(allowed)]
    strict = compiled(document | {"transitions": transitions})
    events, refused = decided(as_commands(read[log], Import(log, document["name"])), strict)
    want = independent_fold.expected(LOGS[log], allowed)
    assert want.refused
    assert independent_fold.differing_events(want, events, log=log) == []
    assert independent_fold.differing_refusals(want, refused, log=log) == []


def test_the_independent_fold_sees_differences(tmp_path: Path) -> None:
    """A version that is missing, doubled, altered or nobody's is named."""
    lines = [Line("a", "Go", datetime(2024, 1, 1, tzinfo=UTC), "")]
    want = independent_fold.expected(write_csv(tmp_path / "l.csv.gz", lines))
    created = {"event_id": 1, "workflow_id": "l:a", "sequence": 1, "version": 1, "to_state": "new"}
    created["occurred_at"] = "2024-01-01T00:00:00Z"
    gone = created | {"event_id": 2, "sequence": 2, "version": 2, "from_state": "new", "to_state": "Go"}

    def differences(*events: dict[str, Any]) -> int:
        return len(independent_fold.differing_events(want, events, log="l"))

    assert differences(created, gone) == 0
    assert differences(created) == 1
    assert differences(created, gone, gone) == 2
    assert differences(created, gone | {"to_state": "Stop"}) == 1
    assert differences(created, gone | {"occurred_at": "2024-01-01T00:00:01Z"}) == 1
    assert differences(gone, created) == 2
    assert differences(created, gone, created | {"event_id": 3, "workflow_id": "l:b"}) == 1
    rows = [{"workflow_id": "l:a", "state": "new", "version": 1}, {"workflow_id": "l:b", "state": "new", "version": 1}]
    assert len(independent_fold.differing_workflows(want, rows, log="l")) == 2
    assert len(independent_fold.differing_workflows(want, [], log="l")) == 1


@every_log
def test_a_restart_sends_the_same_bytes(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """Reading the file again gives the same commands under the same ids, and no id twice."""
    target = Import(log, definition_name(log))
    first, second = list(as_commands(read[log], target)), list(as_commands(read_log(LOGS[log]), target))
    assert first == second
    assert number_of_commands(read[log]) == len(first) == len({command.command_id for command in first})


@every_log
def test_commands_fit_the_contract_and_the_order_of_events(log: str, read: dict[str, list[LoggedEvent]]) -> None:
    """Every command validates; instants never fall; a case starts with its creation, at its first event's instant."""
    commands = list(as_commands(read[log], Import(log, "import.x", 3)))
    models = [COMMANDS.validate_json(command.value) for command in commands]
    assert all(model.expected_version is None for model in models)
    instants = [model.occurred_at for model in models if model.occurred_at is not None]
    assert len(models) == len(instants)
    assert all(earlier <= later for earlier, later in pairwise(instants))
    created: dict[str, datetime] = {}
    for command, model, follower in zip(commands, models, models[1:], strict=False):
        if command.asks is None:
            assert model.workflow_id not in created
            assert (model.workflow_id, model.occurred_at) == (follower.workflow_id, follower.occurred_at)
            created[model.workflow_id] = instants[0]
        assert model.workflow_id in created


def test_ties_keep_the_order_of_the_file() -> None:
    """Events of one instant go out as the file has them, over all cases, each case's creation just before it."""
    events = [an_event("b", "Late", 9, 0), an_event("b", "X", 1, 1), an_event("a", "Y", 1, 2), an_event("b", "Z", 1, 3)]
    sent = [(command.workflow_id, command.asks) for command in as_commands(events, Import("log", "d"))]
    assert sent == [("log:b", None), ("log:b", "X"), ("log:a", None), ("log:a", "Y"), ("log:b", "Z"), ("log:b", "Late")]


def test_a_longer_log_repeats_the_ids_of_the_shorter() -> None:
    """Events that came later in time change no id of those before: an import can be continued."""
    short = [an_event("a", "X", 1, 0), an_event("b", "X", 2, 1)]
    grown = [an_event("a", "X", 1, 0), an_event("a", "Y", 5, 1), an_event("b", "X", 2, 2)]
    first, second = (list(as_commands(events, Import("log", "d"))) for events in (short, grown))
    assert first == second[: len(first)]


def test_a_workflow_id_that_is_too_long_is_refused() -> None:
    """A log name and a case that do not fit an id together are an error before the first command is made."""
    with pytest.raises(UnusableEventError, match="shorter log name"):
        next(as_commands([an_event("c", "X", 1), an_event("c" * 150, "X", 2)], Import("l" * 60, "d")))


def test_a_log_whose_name_is_no_text_is_refused() -> None:
    """A file's name need not be: what stands for its bytes is no part of an id."""
    with pytest.raises(UnusableEventError, match="--name"):
        next(as_commands([an_event("c", "X", 1)], Import("caf\udce9", "d")))


def test_discovery_follows_time_over_file_order() -> None:
    """A state is the last activity in time; sources are those seen, a repeated activity its own."""
    events = [an_event("a", "Late", 9, 0), an_event("a", "X", 1, 1), an_event("a", "X", 2, 2)]
    assert discover(events, "import.a", version=2) == {
        "name": "import.a",
        "version": 2,
        "kind": "workflow",
        "states": {"new": {"initial": True}, "X": {}, "Late": {}},
        "transitions": [
            {"name": "x", "from": ["new", "X"], "to": "X"},
            {"name": "late", "from": ["X"], "to": "Late"},
        ],
    }


def test_an_activity_called_new_is_the_initial_state() -> None:
    """An activity that bears the initial state's name leads back to it, and compiles."""
    document = discover([an_event("a", "new", 1), an_event("a", "Go", 2), an_event("a", "new", 3)], "import.a")
    assert {("new", "new"), ("new", "Go"), ("Go", "new")} == compiled(document).by_target.keys()


def test_transition_names_are_unique_and_stable() -> None:
    """Activities that differ in case, marks or script get different names, in whatever order they come."""
    activities = ["Wait", "WAIT", "W a-i/t", "09 Post", "等待", "Recover", "é", "x" * 150, "x" * 151]
    names = transition_names(activities)
    assert len(activities) == len(set(names.values()))
    assert names == transition_names(reversed(activities))
    assert (names["09 Post"], names["é"], names["W a-i/t"]) == ("to_09_post", "e", "w_a_i_t")
    assert names["Recover"] != "recover"


@every_log
def test_the_yaml_says_the_same(log: str, read: dict[str, list[LoggedEvent]], tmp_path: Path) -> None:
    """A discovered definition survives being written for people and read again."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - the plain reader, as any user's

    document = discover([*read[log], an_event("odd", "yes: [no] #1 'quoted' \"twice\"", 1)], definition_name(log))
    path = tmp_path / "definition.yaml"
    path.write_text(to_yaml(document), encoding="utf-8")
    assert document == YAML(typ="safe").load(path)


def test_xes_honours_globals_types_and_namespaces(tmp_path: Path) -> None:
    """Missing values come from the globals, but never a case's name; nested values and lists are no attributes."""
    path = tmp_path / "a.xes"
    path.write_text(
        xes(
            '<global scope="event"><string key="concept:name" value="Default"/><string key="x" value="1"/></global>'
            '<global scope="trace"><string key="channel" value="Desk"/><string key="n" value="__INVALID__"/></global>'
            '<string key="concept:name" value="the log"/>'
            '<trace><event><date key="time:timestamp" value="2024-01-01T00:00:00.5+02:00"/></event>'
            '<event><string key="concept:name" value=" Go "/><date key="time:timestamp" value="2024-01-01T00:00:00"/>'
            '<int key="cost" value="42"/><float key="bad" value="NaN"/><int key="big" value="9223372036854775808"/>'
            '<boolean key="paid" value="true"/><string key="long" value="' + "y" * 600 + '"/>'
            '<list key="l"><string key="in" value="1"/></list><string key="org:resource" value="Ann"/></event>'
            '<string key="concept:name" value="C"><string key="concept:name" value="nested"/></string></trace>'
        )
    )
    first, second = read_log(path)
    at = datetime(2023, 12, 31, 22, 0, 0, 500_000, UTC)
    assert LoggedEvent("C", "Default", at, None, 0, {"x": "1", "case:channel": "Desk"}) == first
    assert ("Go", datetime(2024, 1, 1, tzinfo=UTC), "Ann") == (second.activity, second.occurred_at, second.resource)
    bounded = {"long": "y" * ATTRIBUTE_LENGTH_MAX, "case:channel": "Desk"}
    assert {"x": "1", "cost": 42, "bad": "NaN", "big": "9223372036854775808", "paid": True} | bounded == dict(
        second.attributes
    )


def test_csv_columns_can_be_named(tmp_path: Path) -> None:
    """A table with other headers, another delimiter and a byte order mark is read when its columns are named."""
    path = tmp_path / "a.csv"
    path.write_text("id;what;when;colour\n1;Go;2024-01-01 00:00:00+00:00;red\n", encoding="utf-8-sig")
    (event,) = read_log(path, Columns(case="id", activity="what", occurred_at="when", delimiter=";"))
    assert LoggedEvent("1", "Go", datetime(2024, 1, 1, tzinfo=UTC), None, 0, {"colour": "red"}) == event


def test_both_formats_carry_the_same_events(tmp_path: Path) -> None:
    """The same lines written as XES and as CSV become the same commands."""
    lines = event_log_files.generated(seed=3)
    paths = write_xes(tmp_path / "same.xes.gz", lines), write_csv(tmp_path / "same.csv.gz", lines)
    first, second = (
        Counter((event.case, event.activity, event.occurred_at, event.resource) for event in read_log(path))
        for path in paths
    )
    assert first == second
    assert [log_name(path) for path in paths] == ["same", "same"]


TRACE = '<trace><string key="concept:name" value="C"/>{}</trace>'
EVENT = '<event><string key="concept:name" value="Go"/><date key="time:timestamp" value="{}"/></event>'
UNBROKEN = UNBROKEN_BYTES_MAX + 2**20
BOMB = '<!DOCTYPE log [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
BAD: dict[str, tuple[str, bytes, str]] = {
    "no such format": ("a.txt", b"", "a.txt: its name says no known format"),
    "not gzip": ("a.xes.gz", b"<log/>", r"a.xes.gz: it is not gzip"),
    "cut gzip": ("a.csv.gz", gzip.compress(HEADER.encode() * 500)[:60], "its gzip data is cut or damaged"),
    "damaged gzip": ("a.csv.gz", gzip.compress(b"x")[:10] + b"\xff" * 40, "its gzip data is cut or damaged"),
    "broken XML": ("a.xes", xes("<trace>").encode(), "a.xes, line 1, column .*broken XML"),
    "empty XML": ("a.xes", b"", "broken XML"),
    "entities": ("a.xes", xes("", BOMB).encode(), "forbidden XML"),
    "no such encoding": (
        "a.xes",
        b'<?xml version="1.0" encoding="nonsense"?><log/>',
        "a.xes: its encoding cannot be read",
    ),
    "an encoding of many bytes": ("a.xes", b'<?xml version="1.0" encoding="shift_jis"?><log/>', "convert it to UTF-8"),
    "one endless value": ("a.xes.gz", gzip.compress(b'<log><string value="' + b">" * UNBROKEN), "without the begin"),
    "endless blanks": ("a.xes.gz", gzip.compress(b"<log>" + b"\n" * UNBROKEN), "without the begin"),
    "an endless line": ("a.csv.gz", gzip.compress(HEADER.encode() + b"\n" + b"a" * UNBROKEN), "line 2: the line is"),
    "other XML": ("a.xes", b"<html/>", "its root element is <html>"),
    "no event": ("a.xes", xes("<trace/>").encode(), "the log holds no event"),
    "no case": ("a.xes", xes(f"<trace>{EVENT.format('2024-01-01')}</trace>").encode(), "trace 1, event 1.*no case"),
    "no trace": ("a.xes", xes(EVENT.format("2024-01-01")).encode(), "outside of any trace.*no case"),
    "no activity": ("a.xes", xes(TRACE.format("<event/>")).encode(), "trace 1, event 1.*no activity"),
    "no instant": ("a.xes", xes(TRACE.format(EVENT.format(""))).encode(), "trace 1, event 1.*no timestamp"),
    "bad instant": ("a.xes", xes(TRACE.format(EVENT.format("soon"))).encode(), "'soon' is unreadable; write"),
    "year 0": ("a.xes", xes(TRACE.format(EVENT.format("0001-01-01T00:00:00+01:00"))).encode(), "is unreadable"),
    "empty CSV": ("a.csv", b"", "line 1: the file is empty"),
    "no column": (
        "a.csv",
        b"case,what\n1,2\n",
        "line 1: no column 'case:concept:name'.*by --case; there are: case, what",
    ),
    "column twice": ("a.csv", f"{HEADER},concept:name\n".encode(), "two columns are called 'concept:name'"),
    "short row": ("a.csv", f"{HEADER}\n{ROW}\n1,2\n".encode(), "line 3: 2 values under 6 columns"),
    "open quote": ("a.csv", f'{HEADER}\n{ROW}\n"1,2\n'.encode(), "line 3: broken CSV"),
    "not UTF-8": ("a.csv", f"{HEADER}\n{ROW}\n".encode() + b"\xff\xfe\n", "not UTF-8"),
    "CSV only": ("a.csv", f"{HEADER}\n".encode(), "the log holds no event"),
    "no case in CSV": ("a.csv", f"{HEADER}\n{ROW.replace('Case 1', '')}\n".encode(), "line 2.*no case"),
    "bad instant in CSV": ("a.csv", f"{HEADER}\n{ROW}Z\n".encode(), "line 2.*unreadable"),
    "control character": ("a.csv", f"{HEADER}\n{ROW.replace('Case 1', 'C' + chr(0))}\n".encode(), "control character"),
    "long activity": ("a.csv", f"{HEADER}\n{ROW.replace('Register', 'x' * 201)}\n".encode(), "201 characters"),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_input_says_where_and_what_to_do(why: str, tmp_path: Path) -> None:
    """Every way in which a file can be bad is one kind of error that names the file, the place and the remedy."""
    name, body, message = BAD[why]
    (tmp_path / name).write_bytes(body)
    with pytest.raises(EventLogError, match=message) as raised:
        in_order(list(read_log(tmp_path / name)))
    assert str(raised.value).startswith(name)
    assert raised.value.remedy


def test_a_missing_file_is_the_same_kind_of_error(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is no traceback either."""
    (tmp_path / "folder.csv").mkdir()
    for name in ("none.xes.gz", "folder.csv"):
        with pytest.raises(EventLogError, match=name):
            list(read_log(tmp_path / name))
