"""`topics`: the broker's side made ready, judged, and given more partitions."""

from collections.abc import Iterable
from typing import Annotated

import typer
from aiokafka.admin import NewPartitions

from service.broker.cluster import TopicsError, admin, cluster_facts
from service.broker.topics import Problem, check_topics, create_topics
from service.cli.exits import Exit, RefusedError
from service.cli.main import app, run
from service.cli.output import OUT, complain, say_json
from service.cli.surroundings import bootstrap_servers, settings
from service.cli.verbs.options import AsJson, PartitionsOption
from service.cli.verbs.reach import asking, broker_words, changing
from service.settings import Settings
from service.store.partitions import grow as take_in
from service.store.partitions import states

topics = typer.Typer(no_args_is_help=True, help="Create, check and grow the topics.")
app.add_typer(topics, name="topics")


@topics.command()
def create(
    *,
    partitions: PartitionsOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Also mend wrong settings of topics that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing. Exits 3 if one that is there is not as it must be."""
    chosen = settings()

    async def work() -> tuple[Problem, ...]:
        address = bootstrap_servers(chosen)
        with broker_words(address):
            wanted = partitions or await _partitions(chosen, address)
            report = await create_topics(address, chosen.topics, wanted, chosen.replication, fix=fix)
        if as_json:
            say_json(
                {
                    "created": report.created,
                    "kept": report.kept,
                    "fixed": [_json(problem) for problem in report.fixed],
                    "problems": [_json(problem) for problem in report.problems],
                }
            )
        else:
            for name in report.created:
                OUT.print(f"created  {name}  {wanted} partitions", markup=False)
            for name in report.kept:
                OUT.print(f"kept     {name}", markup=False)
            for problem in report.fixed:
                OUT.print(f"fixed    {problem.topic}  {problem.setting} was {problem.actual}", markup=False)
        return report.problems

    _judge(run(work()))


@topics.command()
def check(*, partitions: PartitionsOption = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the topics. Nothing is changed; exits 3 if something is."""
    chosen = settings()

    async def work() -> tuple[Problem, ...]:
        address = bootstrap_servers(chosen)
        with broker_words(address):
            wanted = partitions or await _partitions(chosen, address)
            problems = await check_topics(address, chosen.topics, wanted, chosen.replication)
        if as_json:
            for problem in problems:
                say_json(_json(problem))
        elif not problems:
            OUT.print(f"{len(chosen.topics.all())} topics are as they must be, {wanted} partitions each", markup=False)
        return problems

    _judge(run(work()))


@topics.command()
def grow(*, partitions: PartitionsOption = None, as_json: AsJson = False) -> None:
    """Give the topics more partitions, or take in those they got.

    Restart the workers afterwards. Trees that are stored stay where they are; new ones use the new partitions too.
    """
    chosen = settings()

    async def work() -> None:
        address = bootstrap_servers(chosen)
        with broker_words(address):
            facts = await cluster_facts(address, chosen.topics.commands)
            wanted = partitions or facts.partitions
            await _fits(chosen, facts.cluster_id, facts.partitions, wanted)
            await _give(chosen, address, wanted)
        async with changing(chosen) as opened:
            added = await take_in(opened, cluster_id=facts.cluster_id, n_parts=wanted)
        if as_json:
            say_json({"partitions": wanted, "added": added})
        elif added:
            OUT.print(f"{wanted} partitions, {added} of them new; the workers take them up by themselves", markup=False)
        else:
            OUT.print(f"{wanted} partitions, as before", markup=False)

    run(work())


async def _partitions(chosen: Settings, address: str) -> int:
    """Return how many partitions the topics should have: what commands has, else the setting."""
    facts = await cluster_facts(address, chosen.topics.commands)
    return facts.partitions or chosen.partitions


async def _fits(chosen: Settings, cluster_id: str, there: int, wanted: int) -> None:
    """Refuse another cluster's topics, and a number below what is used."""
    if not there:
        raise TopicsError(f"there is no topic {chosen.topics.commands}: run `turnstile topics create`")
    async with asking(chosen) as opened:
        known = await states(opened)
    for state in known[:1]:
        if state.cluster_id != cluster_id:
            problem = f"this database belongs to Kafka cluster {state.cluster_id}, the broker is {cluster_id}"
            raise RefusedError(f"{problem}: give the broker this database was used with")
    used = max(there, len(known))
    if wanted < used:
        raise RefusedError(f"{used} partitions are in use and none can be taken away: give at least {used}")


async def _give(chosen: Settings, address: str, wanted: int) -> None:
    """Add partitions, to the commands topic last: what is decided there needs the same partition of the others."""
    async with admin(address) as client:
        there = {each["topic"]: len(each["partitions"]) for each in await client.describe_topics()}
        others = [name for name in chosen.topics.all() if name != chosen.topics.commands]
        for name in (*others, chosen.topics.commands):
            if name not in there:
                raise TopicsError(f"there is no topic {name}: run `turnstile topics create`")
            if there[name] < wanted:
                response = await client.create_partitions({name: NewPartitions(wanted)})
                for answer in response.to_object()["topic_errors"]:
                    if answer["error_code"]:
                        raise TopicsError(f"the broker refuses to grow {name}: {answer['error_message']}")


def _judge(problems: Iterable[Problem]) -> None:
    found = tuple(problems)
    for problem in found:
        complain(str(problem))
    if found:
        raise typer.Exit(Exit.SURROUNDINGS)


def _json(problem: Problem) -> dict[str, object]:
    names = ("topic", "setting", "expected", "actual", "remedy", "fixable")
    return {name: getattr(problem, name) for name in names}
