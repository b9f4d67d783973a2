"""`partitions`: who owns each, how far it is, why it is halted; halt, resume and adopt."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from service.adoption import Plan, carry_out, fence, plan
from service.broker.cluster import ClusterFacts, cluster_facts
from service.broker.positions import reading
from service.cli.exits import RefusedError, UnreadableError
from service.cli.main import app, run
from service.cli.output import OUT, say_fields, say_json, say_table
from service.cli.surroundings import bootstrap_servers, settings
from service.cli.verbs.options import AsJson
from service.cli.verbs.reach import asking, broker_words, changing
from service.cli.verbs.wording import named
from service.store import partitions as store
from service.store.adoption import Standing, standing
from service.store.partitions import PartitionState, states
from service.store.pool import Connection

partitions = typer.Typer(no_args_is_help=True, help="Look at, halt, resume and adopt the partitions.")
app.add_typer(partitions, name="partitions")

Numbers = Annotated[list[int] | None, typer.Argument(metavar="N", min=0, show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All partitions.")]


@partitions.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the partitions. `waiting` counts rows that the store does not know to be published yet."""
    found = run(_states())
    if as_json:
        for state in found:
            say_json(_fields(state))
        return
    say_table(
        ("partition", "owner", "epoch", "turn", "next offset", "next row", "waiting", "parked", "touched", "halted"),
        (
            (
                state.part,
                state.owner,
                state.epoch,
                state.turn,
                state.next_offset,
                state.next_seq,
                state.next_seq - state.published_seq,
                state.parked,
                f"{state.touched_at:%Y-%m-%d %H:%M:%S}",
                state.halted,
            )
            for state in found
        ),
    )


@partitions.command()
def show(
    number: Annotated[int, typer.Argument(metavar="N", min=0, show_default=False)], *, as_json: AsJson = False
) -> None:
    """Show one partition. Exits 1 if there is none of that number."""
    found = run(_states())
    state = next((each for each in found if each.part == number), None)
    if state is None:
        known = f"there are 0 to {len(found) - 1}" if found else "no worker has run on this database yet"
        raise RefusedError(f"no partition {number}: {known}")
    if as_json:
        say_json(_fields(state))
    else:
        say_fields(_fields(state))


@partitions.command()
def halt(
    numbers: Numbers = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever finds it halted.", show_default=False)],
    every: All = False,
    as_json: AsJson = False,
) -> None:
    """Halt partitions: their commands wait until they are resumed.

    The owner is fenced at once and lets go within seconds. One that is halted already keeps its reason.
    """

    async def work() -> list[int]:
        async with changing(settings()) as connection:
            known = await _known(connection, numbers, every=every)
            await store.halt(connection, known, reason)
        return known

    _say(run(work()), "halted", as_json=as_json)


@partitions.command()
def resume(numbers: Numbers = None, *, every: All = False, as_json: AsJson = False) -> None:
    """Let halted partitions go on, within seconds.

    No worker is restarted. Log and store are compared again first; a partition that is still parted halts again.
    """

    async def work() -> list[int]:
        async with changing(settings()) as connection:
            known = await _known(connection, numbers, every=every)
            await store.resume(connection, known)
        return known

    _say(run(work()), "resumed", as_json=as_json)


@partitions.command()
def adopt(
    numbers: Numbers = None,
    *,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, it is only shown.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Also take another Kafka cluster for our own.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who decides this; kept in the journal.")] = "an operator",
    as_json: AsJson = False,
) -> None:
    """Take parted partitions up again, or show what that means. With --yes it is done.

    Says which published events the store does not have and which commands are gone or decided again. An adopted
    partition begins a new incarnation: no event is ever published under an id that was used. Nothing in the topics is
    changed. Exits 1 for a partition that is not halted, 3 where broker or database do not answer. See docs/backup.md.
    """
    chosen = settings()

    async def work() -> list[Plan]:
        address = bootstrap_servers(chosen)
        with broker_words(address):
            facts = await cluster_facts(address, chosen.topics.commands)
            async with (
                changing(chosen) as connection,
                reading(address, chosen.topics, chosen.group_id) as reader,
            ):
                found = [await _halted(connection, part) for part in await _known(connection, numbers, every=every)]
                _judge_cluster(found, facts, every=every, cluster=cluster)
                if yes:
                    for before in found:
                        await fence(
                            before.part, bootstrap_servers=address, topics=chosen.topics, group_id=chosen.group_id
                        )
                plans = [await plan(connection, reader, before, facts) for before in found]
                for planned in plans if yes else ():
                    await carry_out(connection, planned, by=by)
        return plans

    for planned in run(work()):
        if as_json:
            say_json(planned.fields() | {"adopted": yes})
            continue
        for finding in planned.findings or ("log and store agree: `partitions resume` is enough",):
            OUT.print(f"partition {planned.before.part}: {finding}", markup=False)
        for workflow_id, sequences in planned.published.sequences.items():
            OUT.print(f"  {workflow_id}  events {sequences[0]} to {sequences[-1]}", markup=False)
        done = "is adopted" if yes else "would be adopted; nothing is changed yet, do it with --yes"
        OUT.print(f"partition {planned.before.part} {done}", markup=False)


async def _known(connection: Connection, numbers: Sequence[int] | None, *, every: bool) -> list[int]:
    """Return the partitions that are meant; raises RefusedError where one does not exist."""
    if bool(numbers) == every:
        raise UnreadableError("say which partitions: their numbers, or --all")
    known = sorted(await store.halts(connection))
    strange = sorted(set(numbers or ()) - set(known))
    if strange or not known:
        there = f"there are 0 to {len(known) - 1}" if known else "no worker has run on this database yet"
        raise RefusedError(f"no partition {', '.join(map(str, strange))}: {there}")
    return known if every else sorted(set(numbers or ()))


async def _halted(connection: Connection, part: int) -> Standing:
    found = await standing(connection, part)
    if found is None or found.halted is None:
        problem = f"partition {part} is not halted, and only a halted one can be adopted"
        raise RefusedError(f"{problem}: `turnstile partitions halt {part} --reason ...`")
    return found


def _judge_cluster(found: Sequence[Standing], facts: ClusterFacts, *, every: bool, cluster: bool) -> None:
    """Refuse another cluster unless it is meant, and then for all partitions at once."""
    if facts.partitions < len(found):
        raise RefusedError(f"the commands topic has {facts.partitions} partitions: `turnstile topics create` first")
    if any(each.cluster_id != facts.cluster_id for each in found) and not (cluster and every):
        raise RefusedError(
            f"the broker is of cluster {facts.cluster_id}, the store of {found[0].cluster_id}: give the broker this "
            "database was used with, or say --all --cluster to leave that one for good"
        )


def _say(parts: Sequence[int], done: str, *, as_json: bool) -> None:
    for part in parts:
        if as_json:
            say_json({"partition": part, done: True})
        else:
            OUT.print(f"partition {part} is {done}", markup=False)


async def _states() -> list[PartitionState]:
    async with asking(settings()) as connection:
        return await states(connection)


def _fields(state: PartitionState) -> dict[str, Any]:
    return named(asdict(state)) | {"waiting": state.next_seq - state.published_seq}
