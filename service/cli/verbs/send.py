"""`send`: commands into the topic, their replies out; nothing is sent unless all of the input can be read."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import uuid4

import orjson
import typer
from aiokafka import AIOKafkaProducer
from pydantic import ValidationError

from client.client import Client, ReplyTimeout
from contracts.commands import COMMAND_TYPES, COMMANDS
from domain.shape import instead_of
from service.cli.exits import Exit, UnreadableError
from service.cli.main import app, run
from service.cli.output import OUT, complain, say_json
from service.cli.surroundings import bootstrap_servers, settings
from service.cli.verbs.options import STDIN, AsJson, json_object, read_text
from service.cli.verbs.reach import broker_words, client_of, topic_there
from service.cli.verbs.wording import reply_lines
from service.settings import Settings

AT_ONCE = 200
SECONDS = 10.0

Body = dict[str, Any]
Answers = dict[tuple[str, str], Body | ReplyTimeout]  # by command and workflow: roots may use one id for a command each
TYPES = ", ".join(COMMAND_TYPES)


@app.command()
def send(
    command: Annotated[
        str | None, typer.Argument(metavar="JSON|-", help="A command as JSON, or - to read them from standard input.")
    ] = None,
    *,
    file: Annotated[
        str | None, typer.Option(help="Read commands from a file: one JSON object, or one per line.")
    ] = None,
    command_type: Annotated[str | None, typer.Option("--type", help=f"One of {TYPES}; else told by the rest.")] = None,
    workflow: Annotated[str | None, typer.Option(help="The workflow's id.")] = None,
    root: Annotated[str | None, typer.Option(help="The id of its tree's root, where it is not its own.")] = None,
    to: Annotated[str | None, typer.Option(help="The state to move it to.")] = None,
    transition: Annotated[str | None, typer.Option(help="The transition to take, by name.")] = None,
    definition: Annotated[str | None, typer.Option(help="Create it, on this definition.")] = None,
    definition_version: Annotated[int | None, typer.Option(help="The definition's version; else the latest.")] = None,
    metadata: Annotated[
        str | None, typer.Option(help="A JSON object: of a new workflow, or merged into its own.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A JSON object for guards to look at.")] = None,
    expected_version: Annotated[int | None, typer.Option(help="Refuse unless the workflow has this version.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is asked for.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose workflow it is.")] = None,
    command_id: Annotated[str | None, typer.Option(help="A UUID; sending it again is safe. Else made up.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each reply.")] = SECONDS,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the replies.")] = True,
    as_json: AsJson = False,
) -> None:
    """Send commands and show their replies. Exits 1 if one is rejected, 4 if a reply does not come in time.

    Give a command as JSON, many with --file or -, or describe one by options:
    turnstile send --workflow order-1 --definition shop.order

    Commands of one root are sent one after another, each after the reply to the one before.
    """
    fields = {
        "command_type": command_type,
        "command_id": command_id,
        "workflow_id": workflow,
        "root_id": root,
        "target_state": to,
        "transition": transition,
        "definition": definition,
        "definition_version": definition_version,
        "metadata": None if metadata is None else json_object(metadata, "--metadata"),
        "context": None if context is None else json_object(context, "--context"),
        "expected_version": expected_version,
        "reason": reason,
        "requested_by": by,
        "tenant": tenant,
    }
    described = {name: value for name, value in fields.items() if value is not None}
    commands = _commands(command, file, described)
    chosen = settings()
    if not wait:
        run(_post(chosen, commands, as_json=as_json))
    elif (code := run(_send(chosen, commands, timeout, as_json=as_json))) is not Exit.DONE:
        raise typer.Exit(code)


def _commands(command: str | None, file: str | None, described: Body) -> list[Body]:
    """Read the commands from the one place that is given, each checked against its contract."""
    given = [each for each in (command, file, described) if each]
    if len(given) != 1:
        problem = (
            "give a command"
            if not given
            else "give only one of a command as JSON, --file, and options that describe it"
        )
        raise UnreadableError(f"{problem}; `turnstile send --help` shows how")
    if described:
        return [_checked({"command_type": _told(described), **described}, "the command")]
    if command is not None and command != STDIN:
        return [_checked(json_object(command, "the command"), "the command")]
    name = file or STDIN
    return [
        _checked(body, place)
        for place, body in _documents(read_text(name), "standard input" if name == STDIN else name)
    ]


def _documents(text: str, name: str) -> list[tuple[str, Body]]:
    """Read one JSON object, on as many lines as it takes, or one per line."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise UnreadableError(f"{name} is empty: write one JSON object per line")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return [(f"{name}, line {number}", json_object(line, f"{name}, line {number}")) for number, line in lines]
    return [(name, json_object(text, name))]


def _told(described: Body) -> str:
    """Tell the type of a command from what is said of it."""
    if "definition" in described:
        return "create_workflow"
    if "target_state" in described or "transition" in described:
        return "request_transition"
    return "update_metadata" if "metadata" in described else ""


def _checked(body: Body, place: str) -> Body:
    body.setdefault("command_id", str(uuid4()))
    _known(body, place)
    try:
        COMMANDS.validate_python(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] in {"union_tag_not_found", "union_tag_invalid"}:
            unsaid = "" if body.get("command_type") else "say what to do, as with --to, --transition or --definition; "
            raise UnreadableError(f"{place}: {unsaid}command_type must be one of {TYPES}") from error
        where = ".".join(str(step) for step in first["loc"][1:])
        problem = first["msg"].removeprefix("Value error, ")
        raise UnreadableError(f"{place}: {where}{': ' if where else ''}{problem}") from error
    return body


def _known(body: Body, place: str) -> None:
    """Refuse what the service would pass over: a misspelt `expected_version` would check nothing."""
    kind = str(body.get("command_type"))
    model = COMMAND_TYPES.get(kind)
    fields = body if model is None else model.model_fields
    for name in body:
        if name not in fields:
            raise UnreadableError(f"{place}: {kind} has no field {name}: {instead_of(name, fields)}")


async def _send(chosen: Settings, commands: Sequence[Body], seconds: float, *, as_json: bool) -> Exit:
    """Send round by round, the roots of a round side by side; a silence ends it."""
    code = Exit.DONE
    async with client_of(chosen) as client:
        for start in range(0, len(commands), AT_ONCE):
            round_ = commands[start : start + AT_ONCE]
            by_root: dict[str, list[Body]] = {}
            for body in round_:
                by_root.setdefault(_root(body), []).append(body)
            answers = await asyncio.gather(*(_one_by_one(client, group, seconds) for group in by_root.values()))
            replies = {asked: reply for group in answers for asked, reply in group.items()}
            for body in round_:
                answer = replies.get(_asked(body))
                if isinstance(answer, ReplyTimeout):
                    complain(str(answer))
                elif answer is not None:
                    _show(answer, as_json=as_json)
                    code = Exit.REFUSED if answer["outcome"] == "rejected" else code
            if any(isinstance(answer, ReplyTimeout) for answer in replies.values()):
                unsent = len(commands) - start - len(replies)
                if unsent:
                    complain(f"{unsent} commands were not sent")
                return Exit.TIMEOUT
    return code


async def _one_by_one(client: Client, group: Sequence[Body], seconds: float) -> Answers:
    answers: Answers = {}
    for body in group:
        try:
            reply = await client.send(body, timeout_seconds=seconds)
        except ReplyTimeout as silence:
            return answers | {_asked(body): silence}
        answers[_asked(body)] = reply.model_dump(mode="json", exclude_none=True)
    return answers


async def _post(chosen: Settings, commands: Sequence[Body], *, as_json: bool) -> None:
    """Write the commands durably and say where they are."""
    address = bootstrap_servers(chosen)
    with broker_words(address):
        await topic_there(address, chosen.topics.commands)
        async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
            sent = [
                (body, await producer.send(chosen.topics.commands, orjson.dumps(body), key=_root(body).encode()))
                for body in commands
            ]
            for body, delivery in sent:
                at = await delivery
                place = {"command_id": str(body["command_id"]), "partition": at.partition, "offset": at.offset}
                if as_json:
                    say_json(place)
                else:
                    OUT.print(f"sent  command {place['command_id']}  partition {at.partition}, offset {at.offset}")


def _asked(body: Mapping[str, Any]) -> tuple[str, str]:
    return str(body["command_id"]), str(body["workflow_id"])


def _root(body: Mapping[str, Any]) -> str:
    return str(body.get("root_id") or body["workflow_id"])


def _show(reply: Body, *, as_json: bool) -> None:
    if as_json:
        say_json(reply)
        return
    for line in reply_lines(reply):
        OUT.print(line, markup=False)
