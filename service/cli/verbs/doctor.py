"""`doctor`: every setting and where it comes from, and whether all that a worker needs is as it must be."""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import orjson
import typer

from service.broker.cluster import TopicsError, cluster_facts
from service.broker.topics import check_topics
from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import OUT, complain, say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson
from service.cli.verbs.reach import broker_words
from service.local.errors import LocalStackError
from service.local.java import find_java
from service.local.stack import running
from service.settings import Settings, variable_of
from service.store import schema
from service.store.partitions import states
from service.store.pool import DatabaseUnreachableError
from service.store.reads import TooSlowError, reading, server_version
from service.store.schema import SchemaError

WORKER_SECONDS_MAX = 2.0

# What an address says after its ? that is nobody else's business: password, passfile, sslpassword, token and the like.
_SECRET = re.compile(r"([?&][^=&\s]*(?:pass|token|secret|key)[^=&\s]*=)[^&\s]*", re.IGNORECASE)


@dataclass(slots=True)
class Findings:
    """What was found, by name, and what is wrong in words."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Show every setting and what runs, and say what is wrong. Exits 3 if something is.

    --json shows as `database_url` the address with its password; everything else hides it.
    """
    chosen = settings()
    found = run(_examine(chosen))
    listed = _settings(chosen)
    if as_json:
        say_json({**found.facts, "problems": found.problems, "healthy": not found.problems, "settings": listed})
    else:
        say_table(
            ("setting", "value", "from", "meaning"),
            ((each["variable"], each["value"], each["from"], each["meaning"]) for each in listed),
        )
        OUT.print()
        for name, fact in found.facts.items():
            shown = hidden(fact) if isinstance(fact, str) else orjson.dumps(fact, default=str).decode()
            OUT.print(f"{name:<18}  {'-' if fact is None else shown}", markup=False)
        for problem in found.problems:
            complain(problem)
        if not found.problems:
            OUT.print("healthy")
    if found.problems:
        raise typer.Exit(Exit.SURROUNDINGS)


def hidden(text: str) -> str:
    """Return an address without its password, wherever it stands; rather too little is shown than a part of one."""
    text = _SECRET.sub(r"\1***", text)
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)


def _settings(chosen: Settings) -> list[dict[str, Any]]:
    given = {name.upper() for name in os.environ}
    listed = []
    for name, described in type(chosen).model_fields.items():
        variable = variable_of(name)
        value = getattr(chosen, name)
        listed.append(
            {
                "variable": variable,
                "value": value if isinstance(value, int | float | None) else hidden(str(value)),
                "default": described.default
                if isinstance(described.default, int | float | None)
                else str(described.default),
                "from": "environment" if variable in given else "default",
                "meaning": described.description,
            }
        )
    return listed


def _misspelt() -> Iterator[str]:
    """Name variables that look like a setting and are none; others may be anybody's, as Kubernetes' of a service."""
    known = [variable_of(name) for name in Settings.model_fields]
    for variable in sorted({name.upper() for name in os.environ} - set(known)):
        for near in get_close_matches(variable, known, n=1, cutoff=0.9):
            yield f"{variable} is no setting and counts for nothing: write {near} or remove it"


async def _examine(chosen: Settings) -> Findings:
    found = Findings(problems=list(_misspelt()))
    local = running(chosen.data_dir)
    broker = chosen.bootstrap_servers or (local.bootstrap_servers if local else "")
    database = chosen.database_url or (local.database_url if local else "")
    found.facts |= {
        "bootstrap_servers": broker or None,
        "database_url": database or None,
        "embedded": local is not None,
    }
    for what, address, variable in (
        ("broker", broker, "TURNSTILE_BOOTSTRAP_SERVERS"),
        ("database", database, "TURNSTILE_DATABASE_URL"),
    ):
        if not address:
            found.problems.append(f"no {what}: start the embedded one with `turnstile dev`, or set {variable}")
    await _broker(chosen, broker, found)
    await _database(database, found)
    await _workers(chosen, found)
    await _policy_engine(chosen, found)
    found.facts["java"] = await asyncio.to_thread(_java)
    return found


async def _broker(chosen: Settings, address: str, found: Findings) -> None:
    found.facts |= {"cluster_id": None, "partitions": None, "topics": None}
    if not address:
        return
    try:
        with broker_words(address):
            facts = await cluster_facts(address, chosen.topics.commands)
            wanted = facts.partitions or chosen.partitions
            problems = [str(each) for each in await check_topics(address, chosen.topics, wanted, chosen.replication)]
    except TopicsError as error:
        found.problems.append(str(error))
        return
    found.facts |= {"cluster_id": facts.cluster_id, "partitions": facts.partitions, "topics": problems}
    found.problems.extend(problems)


async def _database(url: str, found: Findings) -> None:
    found.facts |= {"postgresql": None, "schema": None, "owners": None}
    if not url:
        return
    try:
        async with reading(url) as connection:
            found.facts["postgresql"] = await server_version(connection)
        found.facts["schema"] = asdict(await schema.state(url))
        await schema.check(url)
        async with reading(url) as connection:
            known = await states(connection)
    except (DatabaseUnreachableError, SchemaError, TooSlowError) as error:
        found.problems.append(str(error))
        return
    found.facts["owners"] = {str(state.part): state.owner for state in known}
    found.problems.extend(f"partition {state.part} is halted: {state.halted}" for state in known if state.halted)
    if known and found.facts["cluster_id"] not in (None, known[0].cluster_id):
        found.problems.append(
            f"this database belongs to Kafka cluster {known[0].cluster_id}, the broker is {found.facts['cluster_id']}: "
            "give the broker it was used with, or an empty database"
        )
    if known and found.facts["partitions"] and found.facts["partitions"] != len(known):
        found.problems.append(
            f"the commands topic has {found.facts['partitions']} partitions, the database knows {len(known)}: "
            "`turnstile topics grow` takes new ones in"
        )


async def _workers(chosen: Settings, found: Findings) -> None:
    """Ask the worker of this machine, if its port is known; one that is elsewhere or absent is no fault."""
    address = f"http://{chosen.http_host}:{chosen.http_port}"
    if not chosen.http_port:
        found.facts["worker"] = {"address": None, "answers": None}
        return
    ready = await asyncio.to_thread(_ready, f"{address}/health/ready")
    found.facts["worker"] = {"address": address, "answers": ready is not None, "ready": ready and ready.get("ready")}
    if ready is not None and not ready.get("ready"):
        found.problems.append(f"the worker at {address} is not ready: {orjson.dumps(ready).decode()}")


def _ready(url: str) -> Mapping[str, Any] | None:
    """Return what a worker says of itself, None if nobody of ours answers there."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=WORKER_SECONDS_MAX) as answer:
            said = orjson.loads(answer.read())
    except HTTPError as refused:
        try:
            said = orjson.loads(refused.read())
        except orjson.JSONDecodeError:
            return None
    except (URLError, OSError, orjson.JSONDecodeError):
        return None
    return said if isinstance(said, dict) and "ready" in said else None


async def _policy_engine(chosen: Settings, found: Findings) -> None:
    """Ask the remote policy engine as a worker would; guards that nobody sends there are no reason to have one."""
    found.facts["policy_engine"] = None
    if chosen.predicate_url is None:
        return
    from service.predicates.probe import probe  # noqa: PLC0415 - its HTTP library takes 25 MiB: see service.adapters

    asked = await probe(chosen)
    address = hidden(chosen.predicate_url)
    fact = {"address": address, "answers": asked.failed is None, "seconds": round(asked.seconds, 4)}
    found.facts["policy_engine"] = fact
    if asked.failed is not None:
        found.problems.append(f"the policy engine at {address}: {asked.failed.cause}; {asked.failed.mend}")


def _java() -> dict[str, Any] | None:
    """Return the Java that would run the embedded broker."""
    try:
        java = find_java()
    except LocalStackError:
        return None
    return {"executable": str(java.executable), "major": java.major}
