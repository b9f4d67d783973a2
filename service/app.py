"""The process: starts the store, the worker, the ticks and the HTTP page in order, and stops them in reverse."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiokafka
import structlog
from aiokafka.errors import KafkaError

from service import memory
from service.adapters import Adapters, adapters
from service.broker.cluster import ClusterFacts, cluster_facts
from service.http import build, serving
from service.liveness import LoopTurns, end_when_still
from service.ownership import Phase
from service.scheduler import TickEmitter
from service.settings import Settings
from service.store import schema
from service.store.partitions import ensure
from service.store.pool import Pool, open_pool
from service.telemetry import Telemetry
from service.watch import Watch
from service.worker import Worker

STOP_SECONDS_MAX = 5.0
ASK_SECONDS_MAX = 5.0
STUCK = 5
"""What a process ends with that could not go on by itself: start it again."""

log = structlog.get_logger()


class NotReadyError(Exception):
    """Something the service needs is not there; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The broker and the database that a process works with."""

    bootstrap_servers: str
    database_url: str


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: where it answers, its worker, and the turns of its loop."""

    address: str
    worker: Worker
    telemetry: Telemetry
    turns: LoopTurns


Choose = Callable[[Settings, str, Pool], Adapters]


@asynccontextmanager
async def running(settings: Settings, endpoints: Endpoints, *, choose: Choose = adapters) -> AsyncIterator[Service]:
    """Run a worker, a tick emitter unless time is logical, and the HTTP page; raises what keeps them from starting."""
    await schema.check(endpoints.database_url)
    facts = await cluster_facts(endpoints.bootstrap_servers, settings.topics.commands)
    if facts.partitions == 0:
        raise NotReadyError(f"there is no topic {settings.topics.commands}: run `turnstile topics create`")
    pool = await open_pool(endpoints.database_url, size=settings.database_connections)
    try:
        async with pool.acquire() as connection:
            await ensure(connection, cluster_id=facts.cluster_id, n_parts=facts.partitions)
        telemetry = Telemetry()
        chosen = choose(settings, endpoints.bootstrap_servers, pool)
        chosen.engines.report_to(telemetry.predicates)
        worker = Worker(settings, bootstrap_servers=endpoints.bootstrap_servers, adapters=chosen, telemetry=telemetry)
        watch = _watch(settings, endpoints, worker, chosen, facts)
        ticks = _emitter(settings, endpoints, telemetry)
        if ticks is None:
            telemetry.no_ticks_of_ours()
        app = build(telemetry, lambda: _readiness(worker, ticks, pool), lambda: watch.stuck)
        async with serving(app, _listener(settings.http_host, settings.http_port)) as address:
            emitting = None if ticks is None else _beside(worker, ticks.run(), "ticks")
            turns = LoopTurns(telemetry)
            turning = asyncio.create_task(turns.run(), name="turns")
            watching: asyncio.Task[None] | None = None
            try:
                await worker.start()
                watching = _beside(worker, watch.run(), "watch")
                log.info("service.started", http=address, delivery=settings.delivery, partitions=facts.partitions)
                yield Service(address, worker, telemetry, turns)
            finally:
                await _cancelled(watching)  # a consumer that is told to stop must not look dead
                if ticks is not None:
                    ticks.stop()
                await worker.stop()
                await chosen.engines.close()
                await _cancelled(turning)
                if emitting is not None:
                    await asyncio.wait({emitting}, timeout=STOP_SECONDS_MAX)
                    await _cancelled(emitting)
                log.info("service.stopped")
    finally:
        await _close(pool)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise NotReadyError(
            f"/metrics and /health cannot be at {host}:{port}: {reason}; give TURNSTILE_HTTP_PORT another port, or 0 "
            "for any that is free, and TURNSTILE_HTTP_HOST an address of this machine"
        ) from error


async def serve(settings: Settings, endpoints: Endpoints, *, choose: Choose = adapters) -> None:
    """Run until SIGTERM or SIGINT, then drain; raises the fault that must stop the process."""
    memory.settle()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unheard)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    working = asyncio.create_task(_work(settings, endpoints, choose), name="service")
    stopped = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if working not in done:  # also one that has not started yet; it drains as it ends
        working.cancel()
        await asyncio.wait({working})
    stopped.cancel()
    if not working.cancelled():
        await working


async def _work(settings: Settings, endpoints: Endpoints, choose: Choose) -> None:
    """Run until cancelled, or until a fault stops the process."""
    async with running(settings, endpoints, choose=choose) as service:
        end_when_still(service.turns, code=STUCK)
        await service.worker.failed()


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in a line what the client's futures and tasks hold when nobody waits any more: it was heard elsewhere."""
    error, future = context.get("exception"), context.get("future")
    code = getattr(future.get_coro(), "cr_code", None) if isinstance(future, asyncio.Task) else None
    if isinstance(error, KafkaError) or (code is not None and aiokafka.__name__ in code.co_filename):
        log.info("client.unheard", error=repr(error))
    else:
        loop.default_exception_handler(context)


async def _readiness(worker: Worker, ticks: TickEmitter | None, pool: Pool) -> dict[str, Any]:
    """Return what each part says of itself.

    Ready when the database answers, the group has said which partitions are ours (it may be none) and each is active.
    """
    phases = worker.phases()
    database = await _answers(pool)
    settled = worker.joined and all(phase is Phase.ACTIVE for phase, _ in phases.values())
    return {
        "ready": database and settled,
        "database": database,
        "joined": worker.joined,
        "scheduler": {"clock": "logical"} if ticks is None else {"clock": "real", "leading": ticks.leading},
        "partitions": {str(part): {"phase": phase, "reason": reason} for part, (phase, reason) in phases.items()},
    }


async def _cancelled(task: "asyncio.Task[None] | None") -> None:
    """Let a task go, however it ends; what swallows its cancellation is not waited for."""
    if task is not None:
        task.cancel()
        _, left = await asyncio.wait({task}, timeout=STOP_SECONDS_MAX)
        if left:
            log.warning("service.left_behind", task=task.get_name())


def _beside(worker: Worker, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run something beside the worker; a fault in it ends the process."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            worker.fail(fault)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


def _watch(settings: Settings, endpoints: Endpoints, worker: Worker, chosen: Adapters, facts: ClusterFacts) -> Watch:
    return Watch(
        worker,
        claims=chosen.store,
        ask=partial(
            cluster_facts, endpoints.bootstrap_servers, settings.topics.commands, deadline_seconds=ASK_SECONDS_MAX
        ),
        expected=facts,
    )


async def _answers(pool: Pool) -> bool:
    try:
        async with asyncio.timeout(2):
            return bool(await pool.fetchval("select true"))
    except Exception:  # noqa: BLE001 - whatever it is, the answer to "does it answer" is no
        return False


def _emitter(settings: Settings, endpoints: Endpoints, telemetry: Telemetry) -> TickEmitter | None:
    """Return what emits ticks; nothing of ours does where time is logical: whoever simulates says what time it is."""
    if settings.clock == "logical":
        return None
    return TickEmitter(
        bootstrap_servers=endpoints.bootstrap_servers,
        database_url=endpoints.database_url,
        topics=settings.topics,
        name=settings.group_id,
        period_seconds=settings.tick_seconds,
        telemetry=telemetry,
    )


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()
