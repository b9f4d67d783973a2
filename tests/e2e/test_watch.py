"""A worker looks around: a dead consumer ends it, another cluster halts it, a database that refuses is waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.request import urlopen

import asyncpg
import orjson
import pytest

from handlers.faults import Fault, Overlong, Poison, Transient
from service.adapters import Adapters, adapters
from service.app import Endpoints, Service, running
from service.broker.cluster import ClusterFacts, cluster_facts
from service.ownership import Phase
from service.settings import Settings
from service.store.partitions import resume
from service.store.pool import Pool, faults_of, open_connection
from service.watch import StuckError, Watch
from tests.e2e.audit import differences, look
from tests.e2e.outside import all_decided, creation, ids_on, put, send
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack


def phases(service: Service) -> Callable[[], Awaitable[list[Phase]]]:
    """Return what asks for the phase of each partition."""

    async def found() -> list[Phase]:
        return [phase for phase, _ in service.worker.phases().values()]

    return found


async def all_in(phase: Phase, service: Service, settings: Settings) -> None:
    """Wait until each partition is there."""
    await assert_eventually([phase] * settings.partitions, phases(service))


async def live(service: Service) -> tuple[int, str | None]:
    """Ask the process whether it lives."""

    def ask() -> tuple[int, str | None]:
        try:
            with urlopen(f"{service.address}/health/live") as answer:  # noqa: S310 - our own address
                return answer.status, orjson.loads(answer.read())["reason"]
        except OSError as refused:
            body = orjson.loads(refused.read())  # type: ignore[attr-defined] # an HTTPError has a body
            return int(refused.code), body["reason"]  # type: ignore[attr-defined]

    return await asyncio.to_thread(ask)


async def test_a_fault_of_ours_in_the_ticks_ends_the_worker(
    settings: Settings, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ticks no SLA breaches: nobody would notice a process that goes on and emits none."""

    async def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.scheduler.send_ticks", fails)
    async with running(settings, endpoints) as service, asyncio.timeout(30):
        with pytest.raises(ZeroDivisionError):
            await service.worker.failed()


async def test_a_consumer_whose_task_ended_ends_the_worker(settings: Settings, endpoints: Endpoints) -> None:
    """What the library's own task leaves undone nobody else does: the process says so and ends."""
    async with running(settings, endpoints) as service:
        await all_in(Phase.ACTIVE, service, settings)
        assert (200, None) == await live(service)
        consumer = service.worker.consumer
        assert consumer is not None
        consumer._fetcher._fetch_task.cancel()  # noqa: SLF001 - the fault itself
        with pytest.raises(StuckError, match="task of fetching has ended"):
            async with asyncio.timeout(60):
                await service.worker.failed()
        assert (503, "the consumer's task of fetching has ended") == await live(service)


async def test_a_group_that_hears_nothing_ends_the_worker(settings: Settings, endpoints: Endpoints) -> None:
    """While the broker answers, a member without heartbeats is none: a new process joins anew."""
    async with running(settings, endpoints) as service:
        await all_in(Phase.ACTIVE, service, settings)
        consumer = service.worker.consumer
        assert consumer is not None

        async def deaf() -> bool:
            return False

        consumer._coordinator._do_heartbeat = deaf  # noqa: SLF001 - the fault itself
        with pytest.raises(StuckError, match="no heartbeat"):
            async with asyncio.timeout(120):
                await service.worker.failed()


async def test_another_cluster_seen_while_running_halts(settings: Settings, endpoints: Endpoints) -> None:
    """Seen once it may be a mistake; seen twice all partitions halt, and only an operator resumes them."""
    chosen: list[Adapters] = []

    def choose(given: Settings, bootstrap_servers: str, pool: Pool) -> Adapters:
        chosen.append(adapters(given, bootstrap_servers, pool))
        return chosen[0]

    async with running(settings, endpoints, choose=choose) as service:
        await all_in(Phase.ACTIVE, service, settings)
        facts = await cluster_facts(endpoints.bootstrap_servers, settings.topics.commands)
        other = f"the broker is of cluster another, this database belongs to {facts.cluster_id}"
        fewer = "the commands topic has 0 partitions, 3 were used: it was made anew"
        for strange, reason in (
            (ClusterFacts("another", facts.partitions), other),
            (ClusterFacts(facts.cluster_id, 0), fewer),
        ):

            async def ask(strange: ClusterFacts = strange) -> ClusterFacts:
                return strange

            watch = Watch(service.worker, claims=chosen[0].store, ask=ask, expected=facts)
            await watch.look_at_cluster()
            assert {0: None, 1: None, 2: None} == await chosen[0].store.halts()
            await watch.look_at_cluster()
            await all_in(Phase.HALTED, service, settings)
            assert [reason] * 3 == [each for _, each in service.worker.phases().values()]
            connection = await open_connection(endpoints.database_url)
            try:
                assert [0, 1, 2] == await resume(connection, None)
            finally:
                await connection.close()
            await all_in(Phase.ACTIVE, service, settings)


async def administer(endpoints: Endpoints, *statements: str) -> None:
    """Run statements as an administrator, who may also write where others may not."""
    connection = await asyncpg.connect(endpoints.database_url, server_settings={"default_transaction_read_only": "off"})
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""


async def test_a_read_only_database_is_waited_for(settings: Settings, endpoints: Endpoints) -> None:
    """Sessions are ended and writes refused for a while: the worker lives on, and each command is decided once."""
    async with running(settings, endpoints) as service:
        await all_in(Phase.ACTIVE, service, settings)
        names = ids_on(0, 6, partitions=settings.partitions)
        await send(endpoints, settings.topics.commands, [put(creation(name)) for name in names[:3]])
        name = settings.prefix
        await administer(endpoints, f'alter database "{name}" set default_transaction_read_only = on', END_SESSIONS)
        before = service.telemetry.claims_lost._value.get()  # noqa: SLF001 - its only way to be read
        await send(endpoints, settings.topics.commands, [put(creation(name)) for name in names[3:]])

        async def refused() -> bool:
            return bool(service.telemetry.claims_lost._value.get() > before + 2)  # noqa: SLF001

        await assert_eventually(expected=True, actual=refused)
        assert (200, None) == await live(service)
        await administer(endpoints, f'alter database "{name}" reset default_transaction_read_only', END_SESSIONS)
        await all_decided(settings, endpoints)
    seen = await look(settings, endpoints)
    assert (6, []) == (len(seen.commands), differences(seen))


@pytest.mark.parametrize(
    ("states", "fault"),
    [
        ("08006 25006 25P03 40001 40P01 53100 53200 53300 55P03 57P01 57P02 57P03 58030", Transient),
        ("57014", Overlong),
        ("22001 22021 22P02 22P05 54000", Poison),
        ("XX001 XX002 42P01 23505", Fault),
    ],
)
async def test_each_class_of_error_means_one_thing(endpoints: Endpoints, states: str, fault: type[Fault]) -> None:
    """What passes is waited for, what is long is halved, what a value causes set aside; what is broken ends it."""
    connection = await open_connection(endpoints.database_url)
    try:
        for state in states.split():
            with pytest.raises(Fault) as raised, faults_of():
                await connection.execute(f"do $$ begin raise exception 'a fault' using errcode = '{state}'; end $$")
            assert (state, fault) == (state, raised.type)
    finally:
        await connection.close()


async def test_a_statement_that_takes_too_long_is_transient(endpoints: Endpoints) -> None:
    """The server ends it, and says so by 57014."""
    connection = await open_connection(endpoints.database_url)
    try:
        await connection.execute("set statement_timeout = 50")
        with pytest.raises(Transient, match="57014"), faults_of():
            await connection.execute("select pg_sleep(60)")
    finally:
        await connection.close()


async def test_a_plan_that_a_migration_outdated_is_transient(endpoints: Endpoints) -> None:
    """A statement prepared before a column changed its type is no reason to stop the process."""
    connection = await open_connection(endpoints.database_url)
    try:
        await connection.execute("create table changing (a int)")
        prepared = await connection.prepare("select a from changing")
        await connection.execute("alter table changing alter a type text")
        with pytest.raises(Transient, match="0A000"), faults_of():
            await prepared.fetch()
    finally:
        await connection.close()
