"""The command line against a running service: what a person types, what comes back, and how it ends."""

import asyncio
import socket
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from service.app import Endpoints, running
from service.cli.exits import Exit
from service.definitions.files import shipped
from service.settings import Settings
from tests.e2e.outside import Put, command, creation, move, send
from tests.e2e.terminal import Said, Terminal
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
STRICT = """
name: shop.strict
version: 1
states:
  new: {initial: true}
  A: {}
  B: {terminal: true}
transitions:
  - {name: a, from: new, to: A}
  - {name: b, from: A, to: B}
"""
LAMP = """
name: shop.lamp
version: 1
states: {dark: {initial: true}, lit: {}, gone: {terminal: true}}
transitions:
  - {name: light, from: dark, to: lit, guard: "true"}
  - {name: douse, from: lit, to: dark}
  - {name: lose, from: lit, to: gone}
"""
OFFICE = """
name: shop.office
version: 1
time_zone: Europe/Berlin
week: {monday: "09:00-17:00", tuesday: "09:00-17:00"}
holidays: [{country: DE, region: BY}]
exceptions: {2026-12-29: {hours: [], note: stocktaking}}
"""
LOG = """case:concept:name,concept:name,time:timestamp,org:resource
1,A,2024-01-01T08:00:00Z,ann
1,B,2024-01-01T09:00:00Z,bob
2,A,2024-01-01T08:30:00Z,ann
2,A,2024-01-01T08:40:00Z,ann
3,B,2024-01-01T10:00:00Z,
"""


@pytest.fixture
def turnstile(terminal: Terminal) -> Terminal:
    """Give the shell under the name of what is typed in it."""
    return terminal


PROMISING = (
    STRICT.replace("strict", "promising")
    + """
slas:
  - {name: answer, target: 1d, calendar: shop.office}
"""
)
CONFIGURED = """
name: shop.promising
version: 1
definition: shop.strict
sla: {name: answer, target: 1d, calendar: shop.office}
"""
LOGIC = """\
name: door.logic
version: 1
states: {SHUT: {initial: true}, OPEN: {terminal: true}}
transitions:
  - name: open
    from: SHUT
    to: OPEN
    guard:
      jsonlogic:
        and:
          - "==": [{var: workflow.version}, 1]
          - in: [{var: command.context.key}, [gold, silver]]
"""


async def test_a_rule_of_jsonlogic_guards_a_running_workflow(
    settings: Settings, endpoints: Endpoints, turnstile: Terminal, tmp_path: Path
) -> None:
    """Written as a person writes it, applied, asked: its clause and values are in the refusal, its verdict is kept."""
    file = tmp_path / "door.yaml"
    file.write_text(LOGIC.replace("var: workflow.version", "var: version"), encoding="utf-8")
    wrong = await turnstile("definitions", "apply", str(file))
    assert (Exit.REFUSED, True) == (wrong.code, ":11:26: error: BAD_GUARD: " in wrong.err)
    file.write_text(LOGIC, encoding="utf-8")
    async with running(settings, endpoints):
        assert Exit.DONE == (await turnstile("definitions", "apply", str(file))).code
        await turnstile("send", "--workflow", "d", "--definition", "door.logic", "--timeout", "30")
        denied = await turnstile("send", "--workflow", "d", "--to", "OPEN", "--context", '{"key": "tin"}', "--json")
        why = denied.json[0]["rejection"]["why"]
        assert '{"in":[{"var":"command.context.key"},["gold","silver"]]}' == why["clause"]
        assert ({"command.context.key": "tin"}, "jsonlogic") == (why["values"], why["verdict"]["engine"])
        moved = await turnstile("send", "--workflow", "d", "--to", "OPEN", "--context", '{"key": "gold"}')
        assert Exit.DONE == moved.code
        assert "jsonlogic said allow after " in (await turnstile("why", "d")).out


async def test_a_workflow_s_life(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """Sent, refused, explained, moved, looked at from every side, and found sound."""
    async with running(settings, endpoints):
        name = "w [1]"
        created = await turnstile("send", "--workflow", name, "--definition", "alims.workflow", "--timeout", "30")
        assert Said(Exit.DONE, f"accepted  {name}  CREATED  version 1\n", "") == created
        denied = await turnstile("send", "--workflow", name, "--to", "ACTIVE", "--context", '{"hold": true}', "--json")
        assert (Exit.REFUSED, "GUARD_DENIED") == (denied.code, denied.json[0]["rejection"]["code"])
        because = await turnstile("why", name)
        assert Exit.DONE == because.code
        assert f"{name} is CREATED, version 1, on alims.workflow version 1" in because.out
        assert "GUARD_DENIED" in because.out
        assert "command.context.hold = true" in because.out
        assert "cel said deny after " in because.out
        told = (await turnstile("why", denied.json[0]["command_id"], "--json")).json[0]
        assert ["rejected"] == [outcome["outcome"] for outcome in told["outcomes"]]

        moved = await turnstile(
            "send", "--workflow", name, "--transition", "activate", "--by", "ann", "--reason", "[go]"
        )
        assert f"accepted  {name}  CREATED -> ACTIVE  version 2\n" == moved.out
        now = (await turnstile("why", name, "--json")).json[0]
        assert ([], ["PAUSED", "COMPLETED", "FAILED", "CANCELLED"]) == (
            now["refusals"],
            [way["target_state"] for way in now["allowed"]],
        )
        (guard,) = now["guards"]
        assert ("activate", "allow", "cel") == (
            guard["transition"], guard["verdict"]["outcome"], guard["verdict"]["engine"]
        )  # fmt: skip
        assert guard["guard"].startswith("!has(command.context.hold)")
        assert (32, int) == (len(guard["verdict"]["inputs_digest"]), type(guard["verdict"]["latency_us"]))
        assert 1 == len((await turnstile("why", name, "--all", "--json")).json[0]["refusals"])

        got, listed, history = await asyncio.gather(
            turnstile("get", name, "--json"),
            turnstile("list", "--open", "--state", "ACTIVE", "--json"),
            turnstile("history", name, "--json"),
        )
        assert ("ACTIVE", 2) == (got.json[0]["state"], got.json[0]["version"])
        assert (got.json, "1 of 1 workflows\n") == (listed.json, listed.err)
        assert [(1, 1), (2, 2)] == [(event["sequence"], event["version"]) for event in history.json]
        assert "[go]" in (await turnstile("history", name)).out
        seen = await turnstile("watch", "--from-beginning", "--count", "2", "--workflow", name, "--json")
        assert [event["event_id"] for event in history.json] == [event["event_id"] for event in seen.json]
        sound = await turnstile("verify", "--json")
        assert (1, 2, True) == tuple(sound.json[0][field] for field in ("workflows", "events", "sound"))


async def test_why_counts_what_it_shows(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """So many guards and so many refusals, the newest, whatever events and repeats there are between them."""
    file = turnstile.folder / "lamp.yaml"
    file.write_text(LAMP, encoding="utf-8")
    refused = move("l", "broken")
    async with running(settings, endpoints):
        assert Exit.DONE == (await turnstile("definitions", "apply", "lamp.yaml")).code
        await turnstile("send", "--workflow", "l", "--definition", "shop.lamp", "--timeout", "30")
        first = move("l", "gone")
        ways = [move("l", state) for state in ("lit", "dark") * 3]
        lines = "\n".join(orjson.dumps(body).decode() for body in (*ways, first, refused, refused, refused))
        await turnstile("send", "-", stdin=lines)
        shown = (await turnstile("why", "l", "--all", "--limit", "2", "--json")).json[0]
        assert [4, 6] == [each["sequence"] for each in shown["guards"]]
        assert [refused["command_id"], first["command_id"]] == [each["command_id"] for each in shown["refusals"]]
        assert [2, 4, 6] == [
            each["sequence"] for each in (await turnstile("why", "l", "--all", "--json")).json[0]["guards"]
        ]


async def test_what_is_not_there(turnstile: Terminal) -> None:
    """Unknown names end with 1 and a line that says where to look."""
    asked = [
        ("get", "nobody"),
        ("history", "nobody"),
        ("why", "nobody"),
        ("why", str(uuid4())),
        ("definitions", "show", "nobody"),
        ("definitions", "graph", "nobody"),
        ("partitions", "show", "0"),
        ("dead-letters", "show", "0", "1"),
    ]
    for words in asked:
        said = await turnstile(*words)
        assert (Exit.REFUSED, "") == (said.code, said.out), words
        assert said.err.startswith("turnstile: "), words


async def test_a_port_that_is_taken_is_named(turnstile: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a second worker of one machine."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TURNSTILE_HTTP_PORT", str(port))
        async with turnstile.left_running("serve") as process, asyncio.timeout(60):
            _, said = await process.communicate()
    assert Exit.SURROUNDINGS == process.returncode
    assert f"cannot be at 127.0.0.1:{port}: Address already in use; give TURNSTILE_HTTP_PORT" in said.decode()
    assert "Traceback" not in said.decode()


async def test_many_commands_from_standard_input(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """Lines of one root are decided in their order, replies come in the lines' order, one refusal makes the exit 1."""
    bodies = [body for number in range(3) for body in (creation(f"w{number}"), move(f"w{number}", "ACTIVE"))]
    bodies.append(move("w0", "CREATED"))
    lines = "\n".join(orjson.dumps(body).decode() for body in bodies) + "\n"
    async with running(settings, endpoints):
        said = await turnstile("send", "-", "--json", "--timeout", "30", stdin=lines)
        assert Exit.REFUSED == said.code
        assert [body["command_id"] for body in bodies] == [reply["command_id"] for reply in said.json]
        assert [*["accepted"] * 6, "rejected"] == [reply["outcome"] for reply in said.json]
        again = await turnstile("send", "-", "--json", "--timeout", "30", stdin=lines)
        assert [True] * 7 == [reply["duplicate"] for reply in again.json]


async def test_no_worker_is_a_timeout(turnstile: Terminal) -> None:
    """Nobody answers: 4, and what to do; without waiting the command is there, and done."""
    body = orjson.dumps(creation("w")).decode()
    said = await turnstile("send", body, "--timeout", "0.5")
    assert (Exit.TIMEOUT, "") == (said.code, said.out)
    assert "send it again with the same command_id" in said.err
    posted = await turnstile("send", body, "--no-wait", "--json")
    assert (Exit.DONE, 1) == (posted.code, posted.json[0]["offset"])


async def test_watch_shows_what_comes(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """A filter by definition and type lets through what it should, as it is published."""
    async with (
        running(settings, endpoints),
        turnstile.left_running(
            "watch", "--definition", "alims.workflow", "--type", "CREATED", "--count", "1", "--from-beginning"
        ) as watching,
    ):
        assert watching.stdout is not None
        await turnstile("send", "--workflow", "w", "--definition", "alims.workflow_strict", "--timeout", "30")
        await turnstile("send", "--workflow", "v", "--definition", "alims.workflow", "--by", "ann")
        async with asyncio.timeout(30):
            out, _ = await watching.communicate()
        assert (Exit.DONE, "v  1  CREATED  created in CREATED  by ann\n") == (
            watching.returncode,
            out.decode().partition("  ")[2],
        )


async def test_definitions_are_applied_once(turnstile: Terminal) -> None:
    """Applied, applied again without effect, refused when changed, shown as it was written, drawn."""
    file = turnstile.folder / "strict.yaml"
    file.write_text(STRICT, "utf-8")
    assert "shop.strict version 1 applied\n" == (await turnstile("definitions", "apply", "strict.yaml")).out
    assert "is applied already" in (await turnstile("definitions", "apply", "strict.yaml")).out
    file.write_text(STRICT.replace("to: A", "to: B"), "utf-8")
    changed = await turnstile("definitions", "apply", "strict.yaml")
    assert (Exit.REFUSED, True) == (changed.code, "give the change version 2" in changed.err)
    assert STRICT == (await turnstile("definitions", "show", "shop.strict")).out
    listed = (await turnstile("definitions", "list", "--json")).json
    assert [*shipped(), "shop.strict"] == [each["name"] for each in listed]
    assert "new --> A : a" in (await turnstile("definitions", "graph", "shop.strict")).out


@pytest.mark.parametrize("verb", ["definitions", "slas"])
async def test_a_promise_needs_a_calendar_that_can_reckon_it(turnstile: Terminal, verb: str) -> None:
    """Neither is it applied without its calendar, nor a calendar that no longer knows how long a day is."""
    promising = PROMISING if verb == "definitions" else CONFIGURED
    (turnstile.folder / "promising.yaml").write_text(promising, "utf-8")
    missing = await turnstile(verb, "apply", "promising.yaml")
    assert Exit.REFUSED == missing.code
    assert "there is no calendar shop.office; apply it first with `turnstile calendars apply`" in missing.err
    (turnstile.folder / "office.yaml").write_text(OFFICE, "utf-8")
    assert 0 == (await turnstile("calendars", "apply", "office.yaml")).code
    assert "shop.promising version 1 applied\n" == (await turnstile(verb, "apply", "promising.yaml")).out
    shorter = OFFICE.replace("version: 1", "version: 2").replace('tuesday: "09:00-17:00"', 'tuesday: "09:00-12:00"')
    (turnstile.folder / "office.yaml").write_text(shorter, "utf-8")
    unclear = await turnstile("calendars", "apply", "office.yaml")
    assert (Exit.REFUSED, True) == (
        unclear.code,
        "SLA answer, calendar shop.office version 2: '1d' is unclear" in unclear.err,
    )


@pytest.mark.parametrize("instead", [{"1d": "8h"}, {"sla: {": "retired: true\nsla: {"}], ids=["in hours", "retired"])
async def test_a_calendar_is_asked_about_the_newest_of_what_is_configured(
    turnstile: Terminal, instead: dict[str, str]
) -> None:
    """A new run is under the newest version, so an older one's days do not matter, nor those of one that is retired."""
    (turnstile.folder / "office.yaml").write_text(OFFICE, "utf-8")
    assert 0 == (await turnstile("calendars", "apply", "office.yaml")).code
    (turnstile.folder / "promising.yaml").write_text(CONFIGURED, "utf-8")
    assert 0 == (await turnstile("slas", "apply", "promising.yaml")).code
    newer = CONFIGURED.replace("version: 1", "version: 2")
    for text, other in instead.items():
        newer = newer.replace(text, other)
    (turnstile.folder / "promising.yaml").write_text(newer, "utf-8")
    assert 0 == (await turnstile("slas", "apply", "promising.yaml")).code
    shorter = OFFICE.replace("version: 1", "version: 2").replace('tuesday: "09:00-17:00"', 'tuesday: "09:00-12:00"')
    (turnstile.folder / "office.yaml").write_text(shorter, "utf-8")
    assert 0 == (await turnstile("calendars", "apply", "office.yaml")).code


async def test_calendars_are_applied_once(turnstile: Terminal) -> None:
    """Applied, applied again without effect, refused when changed, shown as written; reckoned with by version."""
    file = turnstile.folder / "office.yaml"
    file.write_text(OFFICE, "utf-8")
    assert (
        "shop.office version 1 applied\n" == (await turnstile("calendars", "apply", "office.yaml", "--by", "ann")).out
    )
    assert "is applied already" in (await turnstile("calendars", "apply", "office.yaml")).out
    file.write_text(OFFICE.replace("17:00", "18:00"), "utf-8")
    changed = await turnstile("calendars", "apply", "office.yaml")
    assert (Exit.REFUSED, True) == (changed.code, "give the change version 2" in changed.err)
    file.write_text(OFFICE.replace("17:00", "18:00").replace("version: 1", "version: 2"), "utf-8")
    assert (await turnstile("calendars", "apply", "office.yaml", "--json")).json[0]["applied"]
    assert OFFICE == (await turnstile("calendars", "show", "shop.office", "--version", "1")).out
    listed = (await turnstile("calendars", "list", "--json")).json
    assert [("shop.office", 2, None), ("shop.office", 1, "ann")] == [
        (each["name"], each["version"], each["applied_by"]) for each in listed
    ]
    year = (await turnstile("calendars", "show", "shop.office", "--year", "2026", "--json")).json[0]
    assert {"2026-01-06": "Epiphany", "2026-12-29": "stocktaking"}.items() <= {
        each["date"]: each["note"] for each in year["dates"]
    }.items()
    wanted = ("calendars", "due", "shop.office", "--from", "2026-12-28T15:00", "--target", "3h", "--json")
    assert "2026-12-28T18:00:00+01:00" == (await turnstile(*wanted)).json[0]["due"]
    assert "2027-01-04T10:00:00+01:00" == (await turnstile(*wanted, "--version", "1")).json[0]["due"]
    nothing = await turnstile("calendars", "show", "shop.other")
    assert (Exit.REFUSED, True) == (nothing.code, "`turnstile calendars list`" in nothing.err)


async def test_topics_grow(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """Partitions are added to every topic and taken in; fewer, and a check against another number, are refused."""
    async with running(settings, endpoints):
        assert [0, 1, 2] == [each["partition"] for each in (await turnstile("partitions", "list", "--json")).json]
        healthy = await turnstile("doctor", "--json")
        assert (Exit.DONE, []) == (healthy.code, healthy.json[0]["problems"])
        assert (endpoints.bootstrap_servers, endpoints.database_url, 3) == tuple(
            healthy.json[0][name] for name in ("bootstrap_servers", "database_url", "partitions")
        )
        assert endpoints.database_url not in (await turnstile("doctor")).out
    assert Exit.REFUSED == (await turnstile("topics", "grow", "--partitions", "2")).code
    assert {"partitions": 5, "added": 2} == (await turnstile("topics", "grow", "--partitions", "5", "--json")).json[0]
    assert "5 partitions, as before\n" == (await turnstile("topics", "grow")).out
    assert Exit.DONE == (await turnstile("topics", "check")).code
    assert Exit.SURROUNDINGS == (await turnstile("topics", "check", "--partitions", "6")).code
    assert 7 == len((await turnstile("topics", "create", "--json")).json[0]["kept"])
    assert 5 == (await turnstile("partitions", "show", "4", "--json")).json[0]["partitions"]
    assert "schema 0005" in (await turnstile("db", "check")).out
    async with running(settings, endpoints):
        said = await turnstile("send", "--workflow", "w", "--definition", "alims.workflow", "--timeout", "30")
        assert Exit.DONE == said.code


async def test_a_log_is_imported_once(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """Discovered and driven; again without doubling; a stricter definition rejects the events that deviate."""
    (turnstile.folder / "shop.csv").write_text(LOG, "utf-8")
    (turnstile.folder / "strict.yaml").write_text(STRICT, "utf-8")
    async with running(settings, endpoints):
        first = await turnstile("import", "shop.csv", "--json", "--give-up", "60")
        assert (Exit.DONE, 8, 0) == (first.code, first.json[0]["accepted"], first.json[0]["duplicates"])
        again = await turnstile("import", "shop.csv", "--json", "--give-up", "60")
        assert (Exit.DONE, 8, 8) == (again.code, again.json[0]["accepted"], again.json[0]["duplicates"])
        with (turnstile.folder / "shop.csv").open("a", encoding="utf-8") as log:
            log.write("1,C,2024-01-02T08:00:00Z,ann\n4,C,2024-01-02T09:00:00Z,ann\n")
        waits = await turnstile("import", "shop.csv", "--json", "--give-up", "60")
        assert (Exit.REFUSED, True) == (waits.code, "`turnstile definitions migrate import.shop --from 1 " in waits.err)
        words = ("--from", "1", "--to", "2", "--reason", "the log has grown", "--give-up", "60")
        assert Exit.DONE == (await turnstile("definitions", "migrate", "import.shop", *words)).code
        longer = (await turnstile("import", "shop.csv", "--json", "--give-up", "60")).json[0]
        assert (2, 11, {}, 8) == tuple(
            longer[name] for name in ("definition_version", "accepted", "rejected", "duplicates")
        )
        strict = await turnstile("import", "shop.csv", "--definition", "strict.yaml", "--name", "strict", "--json")
        assert (Exit.REFUSED, {"INVALID_TRANSITION": 3, "TERMINAL_STATE": 1}) == (
            strict.code,
            strict.json[0]["rejected"],
        )
        told = (await turnstile("why", "strict:1", "--json")).json[0]
        assert ("B", ["TERMINAL_STATE"]) == (
            told["state"],
            [reply["rejection"]["code"] for reply in told["refusals"]],
        )
        listed = await turnstile("list", "--definition", "shop.strict", "--sort", "workflow_id", "--json")
        assert [("strict:1", "B"), ("strict:2", "A"), ("strict:3", "new"), ("strict:4", "new")] == [
            (row["workflow_id"], row["state"]) for row in listed.json
        ]
        unknown = await turnstile("import", "shop.csv", "--definition", "shop.nothing")
        assert (Exit.REFUSED, True) == (unknown.code, "`turnstile definitions list`" in unknown.err)
        assert Exit.DONE == (await turnstile("verify")).code


async def test_dead_letters_are_shown(settings: Settings, endpoints: Endpoints, turnstile: Terminal) -> None:
    """Bytes are shown as text or hexadecimal, whatever markup they hold."""
    records = [Put(b"[bold]no JSON", b"k", 0, [("h", b"v")]), Put(b"\xff\x00", None, 1)]
    async with running(settings, endpoints):
        await send(endpoints, settings.topics.commands, records)

        async def kept() -> int:
            return len((await turnstile("dead-letters", "list", "--json")).json)

        await assert_eventually(2, kept)
        listed = (await turnstile("dead-letters", "list", "--json")).json
        places = {letter["partition"]: (str(letter["partition"]), str(letter["seq"])) for letter in listed}
        assert [{0, 1}, False] == [set(places), any("part" in letter for letter in listed)]
        assert (await turnstile("dead-letters", "show", *places[0])).out.endswith("header h  v\nvalue\n[bold]no JSON\n")
        assert (await turnstile("dead-letters", "show", *places[1])).out.endswith("value\nff 00\n")
        assert "/wA=" == (await turnstile("dead-letters", "show", *places[1], "--json")).json[0]["value"]
        answered = command("w", "request_transition")
        await send(endpoints, settings.topics.commands, [Put(orjson.dumps(answered), b"w")])

        async def explained() -> bool:
            return (await turnstile("why", "w")).code == Exit.DONE

        await assert_eventually(True, explained)  # noqa: FBT003 - that it is
        assert "INVALID_COMMAND" in (await turnstile("why", "w")).out
