"""The command line by itself: help for every verb, bad words and bad input, definitions without a store, its docs."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest
import typer

from contracts.replies import Reply
from service.cli import surroundings, verbs
from service.cli.exits import EXIT_OF, Exit, RefusedError, exit_of
from service.cli.main import app
from service.cli.verbs import send
from service.cli.verbs.dead_letters import readable
from service.cli.verbs.wording import length_of
from service.settings import Settings
from service.store import pool
from tests.service.command_line import CommandLine, Said

DOCS = Path(__file__).parents[2] / "docs"
SOUND = """
name: shop.order
version: 1
states:
  new: {initial: true}
  paid: {}
  sent: {terminal: true}
transitions:
  - {name: pay, from: new, to: paid, guard: "command.context.amount > 0"}
  - {name: send, from: paid, to: sent}
"""
OFFICE = """
name: office
version: 1
time_zone: Europe/Berlin
week: {sunday: "00:00-24:00", monday: "09:00-17:00"}
exceptions: {2026-10-26: {hours: "10:00-12:00", note: training}}
"""
UNSOUND = """
name: shop.order
version: 1
states:
  new: {initial: true}
transitions:
  - {name: pay, from: new, to: payed}
automations: []
"""

UPDATE = '{{"command_type": "update_metadata", "workflow_id": "w", "metadata": {{"a": {}}}}}'

INTERRUPTED = """
import sys
from service.cli.entry import main

class Importing:
    def find_spec(self, name, *_):
        if name == "service.cli.main":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Importing())
main()
"""


def every_verb() -> list[list[str]]:
    """Return the words of each verb, groups included."""
    assert verbs.__all__
    found: list[list[str]] = [[]]
    found += [[_name(command)] for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found.append([str(group.name)])
        found += [[str(group.name), _name(command)] for command in group.typer_instance.registered_commands]
    return found


def _name(command: typer.models.CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


@pytest.mark.parametrize("words", every_verb(), ids=" ".join)
def test_every_verb_explains_itself(turnstile: CommandLine, words: list[str]) -> None:
    """--help ends well, shows how to call it, and says something of every option."""
    said = turnstile(*words, "--help")
    assert (Exit.DONE, "") == (said.code, said.err)
    assert f"Usage: turnstile {' '.join(words)}".strip() in said.out
    assert [] == re.findall(r"^  (--\S+)(?: <[^>]+>)?\s*$(?!\n {20})", said.out, re.MULTILINE)


@pytest.mark.parametrize("words", every_verb(), ids=" ".join)
def test_nothing_of_a_help_is_cut(turnstile: CommandLine, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """At 80 columns each line fits, and each verb's summary is a whole sentence."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = turnstile(*words, "--help").out
    assert [] == [line for line in shown.splitlines() if len(line) > 80]
    listed = shown.partition("\nCommands:\n")[2].splitlines()
    assert [] == [line for line in listed if not re.fullmatch(r"  [a-z-]+ +[A-Z`].*[^.…]\.", line)]


def test_verbs_are_listed_by_name(turnstile: CommandLine) -> None:
    """Whatever file they are in."""
    names = [line.split()[0] for line in turnstile("--help").out.partition("\nCommands:\n")[2].splitlines()]
    assert (sorted(names), True) == (names, {"bench", "definitions", "why"} <= set(names))


def test_the_version_is_that_of_the_package(turnstile: CommandLine) -> None:
    """Wherever it was installed from."""
    assert Said(Exit.DONE, f"turnstile {version('turnstile')}\n", "") == turnstile("--version")


def test_every_verb_speaks_json() -> None:
    """--json is there on every verb but those that run until they are stopped."""
    without = {"serve", "dev", "demo", "bench"}
    for command in app.registered_commands:
        assert command.callback is not None
        if _name(command) not in without:
            assert "as_json" in command.callback.__annotations__, _name(command)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            assert "as_json" in command.callback.__annotations__, (group.name, _name(command))


@pytest.mark.parametrize(
    ("words", "stdin", "problem"),
    [
        (["nonsense"], "", "No such command 'nonsense'"),
        (["send"], "", "give a command; `turnstile send --help` shows how"),
        (["send", "{"], "", "the command is not JSON"),
        (["send", "[]"], "", "the command is JSON, but no object"),
        (["send", '{"workflow_id":"w"}'], "", "command_type must be one of create_workflow"),
        (["send", '{"command_type":"burn","workflow_id":"w"}'], "", "command_type must be one of create_workflow"),
        (["send", '{"command_type":"recover_workflow"}'], "", "workflow_id: Field required"),
        (["send", '{"command_type":"recover_workflow"}', "--to", "a"], "", "give only one of"),
        (["send", "--to", "a"], "", "workflow_id: Field required"),
        (["send", "--workflow", "w"], "", "say what to do, as with --to, --transition or --definition"),
        (
            ["send", "--workflow", "w", "--definition", "d", "--to", "a"],
            "",
            "create_workflow has no field target_state",
        ),
        (
            ["send", '{"command_type":"recover_workflow","workflow_id":"w","expected_verson":1}'],
            "",
            "recover_workflow has no field expected_verson: write expected_version or remove it",
        ),
        (["send", "--workflow", "w", "--to", "a", "--transition", "b"], "", "give exactly one of target_state and"),
        (["send", "--workflow", "w", "--to", "a", "--context", "1"], "", "--context is JSON, but no object"),
        (["send", "--file", "/nowhere/at.all"], "", "/nowhere/at.all cannot be read: No such file or directory"),
        (["send", "-"], "", "standard input is empty"),
        (["send", "-"], '{"a": 1}\nnot JSON\n', "standard input, line 2 is not JSON"),
        (["send", "-"], "[1]\n", "standard input is JSON, but no object"),
        (["send", UPDATE.format(2**65)], "", f"the command: {2**65} is beyond 64 bits"),
        (["send", "-"], UPDATE.format(1) + "\n" + UPDATE.format(-(2**65)), f"line 2: -{2**65} is beyond 64 bits"),
        (["send", "--workflow", "w", "--metadata", f'{{"a": {2**65}}}'], "", f"--metadata: {2**65} is beyond 64 bits"),
        (["send", UPDATE.format("[" * 300 + "]" * 300)], "", "the command: it is nested deeper than 32"),
        (["list", "--sort", "colour"], "", "colour is not one of created_at"),
        (["get", "w", "--at", "yesterday"], "", "Invalid value for --at: yesterday is neither a version nor a time"),
        (["get", "w", "--at", "2026-11-21T09:30:00"], "", "a time with its zone, such as 2026-11-21T09:30:00Z"),
        (["get", "w", "--at", "-1"], "", "-1 is neither a version"),
        (["get", "w", "--at", "0001-01-01T00:00:00+09:00"], "", "is neither a version"),
        (["diff", "w", "--to", "2026-13-01T00:00:00Z"], "", "Invalid value for --to"),
        (["list", "--limit", "0"], "", "greater than or equal to 1"),
        (["list", "--offset", str(2**63)], "", "Invalid value for '--offset'"),
        (["history", "w", "--limit", str(2**63)], "", "Invalid value for '--limit'"),
        (["timers", "list", "--partition", str(2**31)], "", "Invalid value for '--partition'"),
        (["definitions", "diff", "a.b", "--to", str(2**31)], "", "Invalid value for '--to'"),
        (["dead-letters", "list", "--offset", str(2**63)], "", "Invalid value for '--offset'"),
        (["dead-letters", "show", str(2**31), "1"], "", "Invalid value for 'PARTITION'"),
        (["dead-letters", "show", "0", str(2**63)], "", "Invalid value for 'ROW'"),
        (["import", "log.csv", "--tick-every", "inf"], "", "Invalid value for '--tick-every'"),
        (["import", "log.csv", "--tick-every", "1e15"], "", "Invalid value for '--tick-every'"),
        (["dead-letters", "show", "0", "first"], "", "Invalid value for 'ROW'"),
        (["definitions", "check", "/nowhere/at.all"], "", "cannot be read"),
        (["definitions", "backtest"], "", "give a definition's file, or --of with --calendar or --target"),
        (["definitions", "backtest", "a.yaml", "--target", "reply=4h"], "", "name their definition by --of, no file"),
        (["definitions", "backtest", "--of", "a", "--target", "4h"], "", "--target 4h is none: write reply=4h"),
        (["definitions", "backtest", "--of", "a", "--target", "reply=soon"], "", "'soon' is no target"),
        (["definitions", "backtest", "--of", "a", "--target", "reply=0h"], "", "a target of no time"),
        (["definitions", "backtest", "--of", "a", "--target", "reply=4h", "--map", "a=b"], "", "no file, no --map"),
        (["definitions", "backtest", "-", "--map", "a"], SOUND, "--map a is no OLD=NEW"),
        (["definitions", "backtest", "-", "--map", "a=b", "--map", "a=c"], SOUND, "--map names a twice"),
        (["timers", "list", "--before", "3"], "", "--before: 3 is no time with its zone, such as 2026-11-21T09:30:00Z"),
        (["import", "/nowhere/at.csv"], "", "No such file or directory"),
        (["import", "log.txt"], "", "its name says no known format"),
        (["import", "log.csv", "--delimiter", "::"], "", "a delimiter is one character"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_words_and_input_end_with_2(turnstile: CommandLine, words: list[str], stdin: str, problem: str) -> None:
    """What cannot be understood is said in words, with nothing on stdout and no traceback."""
    said = turnstile(*words, stdin=stdin)
    assert (Exit.USAGE, "") == (said.code, said.out)
    assert problem in said.err
    assert "Traceback" not in said.err


def test_one_id_on_two_workflows_shows_each_its_reply(turnstile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is known within its root: the replies are told apart."""

    class Answers:
        async def send(self, body: dict[str, str], **_: object) -> Reply:
            name = body["workflow_id"]
            return Reply(
                command_id=UUID(body["command_id"]), workflow_id=name, root_id=name, outcome="accepted",
                decided_at=datetime(2026, 11, 21, tzinfo=UTC),
            )  # fmt: skip

    @asynccontextmanager
    async def answering(_: Settings) -> AsyncIterator[Answers]:
        yield Answers()

    monkeypatch.setattr(send, "client_of", answering)
    command = {"command_type": "recover_workflow", "command_id": str(uuid4())}
    lines = [orjson.dumps(command | {"workflow_id": name}).decode() for name in ("w1", "w2")]
    said = turnstile("send", "-", "--json", stdin="\n".join(lines))
    assert ["w1", "w2"] == [orjson.loads(line)["workflow_id"] for line in said.out.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        ["get", "w"],
        ["get", "w", "--at", "1"],
        ["diff", "w"],
        ["list"],
        ["history", "w"],
        ["why", "w"],
        ["verify"],
        ["timers", "list"],
        ["timers", "reconcile"],
        ["watch"],
        ["send", "--workflow", "w", "--to", "a"],
        ["send", "--workflow", "w", "--to", "a", "--no-wait"],
        ["topics", "check"],
        ["topics", "create"],
        ["topics", "grow"],
        ["db", "check"],
        ["db", "migrate"],
        ["definitions", "list"],
        ["definitions", "show", "d"],
        ["definitions", "graph", "d"],
        ["slas", "list"],
        ["definitions", "diff", "d"],
        ["partitions", "list"],
        ["dead-letters", "list"],
        ["serve"],
    ],
    ids=" ".join,
)
def test_without_servers_a_verb_says_what_to_start(turnstile: CommandLine, words: list[str]) -> None:
    """No broker or no database ends with 3 and names both ways out."""
    said = turnstile(*words)
    assert Exit.SURROUNDINGS == said.code
    assert "`turnstile dev`" in said.err
    assert "TURNSTILE_" in said.err


def test_a_wrong_setting_is_named(turnstile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that is wrong is in the message."""
    monkeypatch.setenv("TURNSTILE_PARTITIONS", "many")
    said = turnstile("get", "w")
    assert Exit.SURROUNDINGS == said.code
    assert "TURNSTILE_PARTITIONS" in said.err


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("BOOTSTRAP_SERVERS", "broker:port", "write host:port"),
        ("BOOTSTRAP_SERVERS", "one:9092,two:99999", "write host:port"),
        ("BOOTSTRAP_SERVERS", "PLAINTEXT://broker:9092", "write host:port"),
        ("BOOTSTRAP_SERVERS", "one:9092,a..b:9092", "write host:port"),
        ("DATABASE_URL", "postgresql://u@a..b/x", "write postgresql://"),
        ("DATABASE_URL", f"postgresql://u@{'x' * 64}/x", "write postgresql://"),
        ("HTTP_HOST", "a..b", "write an address of this machine"),
        ("DATABASE_URL", "localhost:5432", "write postgresql://"),
        ("DATABASE_URL", "mysql://db/x", "write postgresql://"),
        ("DATABASE_URL", "postgresql://u:s3cret@db:port/x", "write postgresql://"),
        ("DATABASE_URL", "postgresql://u:s3@cret@db/x", "with %40 for an @"),
    ],
)
@pytest.mark.parametrize("words", ["doctor", "db migrate", "topics check"])
def test_an_address_that_is_none_is_refused(
    turnstile: CommandLine, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str, words: str
) -> None:
    """Before anything is asked, with how to write it, and without the password."""
    monkeypatch.setenv(f"TURNSTILE_{variable}", value)
    said = turnstile(*words.split())
    assert (Exit.SURROUNDINGS, "") == (said.code, said.out)
    assert said.err.startswith(f"turnstile: wrong settings: TURNSTILE_{variable}: ")
    assert (True, False) == (says in said.err, "cret" in said.err)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("bootstrap_servers", "one:9092, two,[::1]:9092"),
        ("bootstrap_servers", ""),
        ("database_url", "postgresql+asyncpg://u:p%40w@[::1]:5432/x"),
        ("database_url", "postgresql:///x?host=/run/postgresql"),
        ("database_url", ""),
    ],
)
def test_an_address_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """All ways of writing one that the libraries know."""
    monkeypatch.setenv(f"TURNSTILE_{variable.upper()}", value)
    assert value == getattr(Settings(), variable)


async def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere else: an embedded server runs in its place."""
    asked: list[dict[str, object]] = []

    class Stack:
        def __init__(self, _: Path, **chosen: object) -> None:
            asked.append(chosen)
            raise RefusedError

    monkeypatch.setattr(surroundings, "LocalStack", Stack)
    with pytest.raises(RefusedError):
        await surroundings.embedded(Settings(bootstrap_servers="", database_url="")).__aenter__()
    assert [{"broker": True, "database": True, "benchmark": False}] == asked


@pytest.mark.parametrize("words", ["get w", "db check"])
def test_a_database_that_says_nothing_is_not_waited_for(
    turnstile: CommandLine, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """As where the address is a broker's, or a firewall's."""
    monkeypatch.setattr(pool, "OPEN_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("TURNSTILE_DATABASE_URL", f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")
        said = turnstile(*words.split())
    assert (Exit.SURROUNDINGS, True) == (said.code, "does not answer (no answer within 0.2 s)" in said.err)


def test_a_sound_definition_checks(turnstile: CommandLine) -> None:
    """Standard input is read, and nothing is said on stderr."""
    assert Said(Exit.DONE, "shop.order version 1 is sound\n", "") == turnstile("definitions", "check", "-", stdin=SOUND)


def test_findings_have_their_place(turnstile: CommandLine, tmp_path: Path) -> None:
    """Each error is a line with file, line, column, code and what to do."""
    file = tmp_path / "order.yaml"
    file.write_text(UNSOUND, "utf-8")
    said = turnstile("definitions", "check", str(file))
    text = "automations is not enforced by this build yet: remove the clause or use a later version"
    assert Said(Exit.REFUSED, f"{file}:8:1: error: NOT_SUPPORTED_YET: {text}\n", "") == said
    file.write_text(UNSOUND.replace("automations: []\n", ""), "utf-8")
    said = turnstile("definitions", "check", str(file), "--json")
    assert Exit.REFUSED == said.code
    findings = [orjson.loads(line) for line in said.out.splitlines()]
    assert ("error", "UNKNOWN_STATE", 7, 32) == tuple(
        next(each for each in findings if each["severity"] == "error")[name]
        for name in ("severity", "code", "line", "column")
    )


@pytest.mark.parametrize(
    ("group", "text", "says"),
    [
        ("definitions", "", "-:1:1: error: BAD_VALUE: the document: write names with their values, as in `version: 1`"),
        ("calendars", "- office", "the document: write names with their values"),
        ("slas", "", "the document: write names with their values"),
        ("definitions", SOUND.replace("{terminal: true}", "the end"), "states.sent: write names with their values"),
        ("definitions", SOUND.replace("from: paid", "from: []"), "transitions.1.from: give at least one"),
        ("definitions", f"{SOUND}slas: {{}}", "slas: write a list, as in [one, two]"),
        ("calendars", f"{OFFICE}holidays: [{{country: de}}]", "country: write the two capital letters of ISO 3166"),
        ("calendars", OFFICE.replace("2026-10-26", "26.10.2026"), "write a date as in 2026-12-24"),
        ("calendars", OFFICE.replace("Europe/Berlin", "Berlin (CET)"), "time_zone: write an IANA name such as"),
    ],
)
def test_a_wrong_shape_is_said_as_it_is_to_be_written(turnstile: CommandLine, group: str, text: str, says: str) -> None:
    """In the words of who writes such a file."""
    said = turnstile(group, "check", "-", stdin=text)
    assert (Exit.REFUSED, True) == (said.code, says in said.out), said.out


def test_an_unsound_definition_is_not_applied(turnstile: CommandLine) -> None:
    """The findings are on stderr, before any store is looked for."""
    said = turnstile("definitions", "apply", "-", stdin=UNSOUND)
    assert (Exit.REFUSED, "") == (said.code, said.out)
    assert "-:8:1: error: NOT_SUPPORTED_YET: " in said.err


def test_a_file_is_drawn_without_a_store(turnstile: CommandLine, tmp_path: Path) -> None:
    """The graph of a file is Mermaid text."""
    file = tmp_path / "order.yaml"
    file.write_text(SOUND, "utf-8")
    said = turnstile("definitions", "graph", str(file))
    drawn = (
        "stateDiagram-v2\n    [*] --> new\n    new --> paid : pay [guard]\n    paid --> sent : send\n    sent --> [*]\n"
    )
    assert (Exit.DONE, drawn) == (said.code, said.out)


def test_text_that_is_not_utf8_is_no_traceback(turnstile: CommandLine, tmp_path: Path) -> None:
    """The byte at fault is named."""
    file = tmp_path / "order.yaml"
    file.write_bytes(b"name: \xff")
    said = turnstile("definitions", "check", str(file))
    assert (Exit.USAGE, f"turnstile: {file} is not UTF-8 text (byte 6); save it as UTF-8\n") == (said.code, said.err)


@pytest.mark.parametrize(
    ("raw", "most", "shown"),
    [
        (b"plain {}\n", None, "plain {}\n"),
        (b"\x00\xff", None, "00 ff"),
        ("grün".encode(), 3, "gr"),
        ("grün".encode(), 4, "grü"),
        (b"ab\xff", None, "61 62 ff"),
        (b"", None, ""),
    ],
)
def test_bytes_are_shown_as_text_where_they_are_text(raw: bytes, most: int | None, shown: str) -> None:
    """A character that a cut went through is left out; other bytes are shown as such."""
    assert shown == readable(raw, most)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (1386.911573999999973, "23m 6.912s"), (59.9999, "1m"), (3661, "1h 1m 1s"), (0.024, "0.024s")],
)
def test_a_length_of_time_is_said_to_the_millisecond(seconds: float, said: str) -> None:
    """No sum of floats is shown as it is."""
    assert said == length_of(seconds)


def test_a_due_instant_shows_what_was_counted(turnstile: CommandLine) -> None:
    """In the calendar's own time, with the offset of each instant; the dates that differ are named."""
    said = turnstile("calendars", "due", "-", "--from", "2026-10-25T00:00", "--target", "26h", stdin=OFFICE)
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "due Mon 2026-10-26 11:00:00+01:00" in lines
    assert "Sun 2026-10-25 00:00:00+02:00 Mon 2026-10-26 00:00:00+01:00 25h" in lines
    assert "Mon 2026-10-26 10:00-12:00 training" in lines
    as_json = orjson.loads(
        turnstile(
            "calendars", "worked", "-", "--from", "2026-10-24T22:00Z", "--to", "2026-10-26", "--json", stdin=OFFICE
        ).out
    )
    assert (90_000, [90_000]) == (as_json["seconds"], [each["seconds"] for each in as_json["counted"]])


@pytest.mark.parametrize(
    ("start", "target", "code", "says"),
    [
        ("2026-10-25T02:30", "1h", Exit.USAGE, "add +02:00 or +01:00"),
        ("2026-03-29T02:30", "1h", Exit.USAGE, "does not exist in Europe/Berlin"),
        ("1969-03-29T02:30", "1h", Exit.USAGE, "1970 to 2099"),
        ("2100-01-01T00:00Z", "1h", Exit.USAGE, "1970 to 2099"),
        ("yesterday", "1h", Exit.USAGE, "write 2026-11-20T16:30"),
        ("2026-11-20T16:30", "1d", Exit.USAGE, "add working_day"),
        ("2026-11-20T16:30", "1 day", Exit.USAGE, "as in 2d, 4h or 1h 30m"),
        ("2026-11-20T16:30", "999999h", Exit.REFUSED, "not due before 2100"),
    ],
)
def test_what_is_unclear_is_not_reckoned(
    turnstile: CommandLine, start: str, target: str, code: Exit, says: str
) -> None:
    """Instants that happen twice or never, days of several lengths, targets that are never used up."""
    said = turnstile("calendars", "due", "-", "--from", start, "--target", target, stdin=OFFICE)
    assert (code, "", True) == (said.code, said.out, says in " ".join(said.err.split())), said.err


def test_a_calendar_is_checked_without_a_store(turnstile: CommandLine) -> None:
    """Findings as of a compiler; exit code 1 with an error, 0 without."""
    sound = turnstile("calendars", "check", "-", stdin=OFFICE)
    assert (Exit.DONE, True) == (sound.code, sound.out.endswith("office version 1 is sound\n"))
    assert sound.out.startswith("-:5:7: note: DAYS_DIFFER: ")
    unsound = turnstile("calendars", "check", "-", "--json", stdin=OFFICE.replace("Berlin", "Bonn"))
    found = [orjson.loads(line) for line in unsound.out.splitlines()]
    assert (Exit.REFUSED, [("UNKNOWN_TIME_ZONE", 4, 12)]) == (
        unsound.code,
        [(each["code"], each["line"], each["column"]) for each in found if each["severity"] == "error"],
    )


def test_every_expected_error_has_its_code() -> None:
    """An error that is not of a listed kind is ours, and none is listed twice."""
    assert list(EXIT_OF.values()) == [exit_of(kind.__new__(kind)) for kind in EXIT_OF]


def test_the_docs_list_every_verb_and_exit_code() -> None:
    """docs/cli.md forgets none."""
    text = (DOCS / "cli.md").read_text("utf-8")
    missing = [" ".join(words) for words in every_verb() if words and f"`{' '.join(words)}" not in text]
    assert [] == missing
    assert [] == [code.name for code in Exit if f"| {code.value} |" not in text]


def test_the_docs_list_every_setting() -> None:
    """docs/settings.md has each with its default and its meaning."""
    text = (DOCS / "settings.md").read_text("utf-8")
    for name, setting in Settings.model_fields.items():
        default = "" if setting.default is None else f"`{setting.default}`"
        assert f"| `TURNSTILE_{name.upper()}` | {default} | {setting.description} |" in text


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_an_empty_one(tmp_path: Path, closed: str) -> None:
    """A supervisor may give none: the loop runs all the same, and what is wrong has its exit code."""
    said = tmp_path / "said"
    nowhere = {"TURNSTILE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    line = f"{sys.executable} -m service list {closed}; echo $? > {said}"
    subprocess.run(["sh", "-c", line], env={**os.environ, **nowhere}, capture_output=True, check=False, timeout=60)
    assert f"{Exit.SURROUNDINGS}\n" == said.read_text("utf-8")


def test_ctrl_c_while_it_begins_is_no_traceback() -> None:
    """Its imports take a moment, and nothing has happened by then."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=60)
    assert (Exit.INTERRUPTED, "") == (done.returncode, done.stderr)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`turnstile --help | true` says nothing."""
    line = f"{sys.executable} -m service --help | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert "" == done.stderr
