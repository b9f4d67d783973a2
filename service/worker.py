"""A worker: one consumer, one owner per assigned partition, and a stop that leaves nothing half done."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

import structlog
from faststream.kafka import KafkaBroker

from handlers.batch import sort
from handlers.commands import CommandsHandler
from handlers.ports import Ownership, Record
from handlers.routes import subscribe
from service.adapters import Adapters
from service.broker import lenient
from service.broker.cluster import METADATA_MS_MAX
from service.broker.consumer import WatchedConsumer, watch_consumer
from service.broker.log import ConsumerLog, Rebalances
from service.ownership import PartitionOwner, Phase
from service.relay import Relay
from service.settings import Settings
from service.telemetry import Telemetry
from service.tokens import TokenBucket

DRAIN_SECONDS_MAX = 5.0
LEAVE_SECONDS_MAX = 10.0

log = structlog.get_logger()


class Worker:
    """Takes turns of the partitions that the consumer group assigns to it."""

    def __init__(self, settings: Settings, *, bootstrap_servers: str, adapters: Adapters, telemetry: Telemetry) -> None:
        self._settings = settings
        self._adapters = adapters
        self._telemetry = telemetry
        self._topics = settings.topics
        self._handler = CommandsHandler(adapters.store, adapters.guards, settings.limits, settings.decision_clock)
        self._tokens = TokenBucket(settings.transactions_per_second, burst=settings.transactions_per_second / 10)
        lenient.install()
        self._log = ConsumerLog(self._topics)
        self._broker = KafkaBroker(
            bootstrap_servers,
            consumer_only=True,
            allow_auto_create_topics=False,
            logger=_quiet(),
            apply_types=False,
            metadata_max_age_ms=METADATA_MS_MAX,
        )
        listener = Rebalances(self._topics, assigned=self._assigned, revoked=self._revoked)
        self._subscriber = subscribe(
            self._broker, self._topics, group_id=settings.group_id, listener=listener, sort=self._sort
        )
        self._owners: dict[int, PartitionOwner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None
        self._stopping = False
        self.joined = False

    async def start(self) -> None:
        """Join the group; turns begin as partitions are assigned."""
        self._failed = asyncio.get_running_loop().create_future()
        await watch_consumer(self._broker, self._topics, self._astray)
        await self._broker.start()

    async def failed(self) -> None:
        """Wait for ever, or raise the fault that must stop the process."""
        if self._failed is not None:
            await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Drain every partition, then leave the group; what a rebalance would still assign is left alone."""
        self._stopping = True
        await self._revoked(list(self._owners))
        try:
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                await self._broker.stop()
        except TimeoutError:
            log.warning("worker.left_unheard", reason="the consumer does not stop; the group will miss it")
        await self._adapters.elsewhere.close()

    @property
    def consumer(self) -> WatchedConsumer | None:
        """Return the consumer, None while there is none."""
        return cast("WatchedConsumer | None", self._subscriber.consumer)

    @property
    def consuming(self) -> bool:
        """Whether somebody still takes what the consumer fetches."""
        return any(not task.done() for task in self._subscriber.tasks)

    def fail(self, fault: BaseException) -> None:
        """Have `failed` raise, so that the process ends."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(fault)

    def look_again(self, part: int, doubt: str) -> None:
        """Have a partition claimed anew."""
        if part in self._owners:
            self._owners[part].look_again(doubt)

    def phases(self) -> dict[int, tuple[Phase, str | None]]:
        """Return where each assigned partition is, and why it is halted."""
        return {part: (owner.phase, owner.reason) for part, owner in sorted(self._owners.items())}

    def _astray(self, part: int, offset: int) -> None:
        self.look_again(part, f"the log no longer gives offset {offset}")

    def _sort(self, records: Sequence[Record]) -> None:
        inboxes = {part: owner.inbox for part, owner in self._owners.items()}
        sort(records, inboxes, scheduler_topic=self._topics.scheduler)

    def _assigned(self, parts: Iterable[int]) -> None:
        if self._stopping:
            return
        self.joined = True
        self._log.consumer = self._subscriber.consumer
        for part in parts:
            if part in self._owners:
                continue
            self._log.pause(part)
            owner = PartitionOwner(
                part,
                log_of_commands=self._log,
                claims=self._adapters.store,
                handler=self._handler,
                relays=self._relay,
                telemetry=self._telemetry,
                turn_records_max=self._settings.turn_records_max,
            )
            task = asyncio.create_task(owner.run(), name=f"partition-{part}")
            task.add_done_callback(partial(self._ended, part))
            self._owners[part] = owner
            self._tasks[part] = task
        self._telemetry.owned.set(len(self._owners))

    async def _revoked(self, parts: Iterable[int]) -> None:
        going = {part: self._tasks[part] for part in parts if part in self._tasks}
        for part in going:
            self._owners[part].drain()
        left = set(going.values())
        while left:
            _, left = await asyncio.wait(left, timeout=DRAIN_SECONDS_MAX)
            for task in left:  # again where it goes on with something else, as its relay's last rows
                log.warning("partition.drain_cut_short", task=task.get_name())
                task.cancel()
        for part in going:
            self._owners.pop(part, None)
            self._tasks.pop(part, None)
            self._telemetry.forget(part)
        self._telemetry.owned.set(len(self._owners))

    def _ended(self, part: int, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (fault := task.exception()) is None:
            return
        self.fail(fault)
        log.error("partition.failed", part=part, reason=repr(fault))

    def _relay(self, owned: Ownership) -> Relay:
        return Relay(
            owned,
            outbox=self._adapters.store,
            publishers=self._adapters.publisher,
            tokens=self._tokens,
            telemetry=self._telemetry,
        )


def _quiet() -> logging.Logger:
    """FastStream's own log lines, from warnings up."""
    logger = logging.getLogger("turnstile.faststream")
    logger.setLevel(logging.WARNING)
    return logger
