"""A small client: send a command and await its reply, or read the events, each once and in order per workflow.

It knows the contracts and Kafka, nothing of the service.
"""

import asyncio
import itertools
import logging
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from contracts.commands import COMMANDS, Command
from contracts.events import Event
from contracts.replies import Reply
from contracts.topics import Topics

WORKFLOWS_REMEMBERED_MAX = 100_000
POLL_MS = 1_000

Message = TypeVar("Message", Event, Reply)
Asked = tuple[UUID, str]  # a command's id and its workflow's: roots may use one id for a command each

log = logging.getLogger(__name__)


class ClientError(Exception):
    """Say what kept a command or a subscription from working, and what to do."""


class ReplyTimeout(ClientError):  # noqa: N818 - named for what happened
    """Say that no reply came in time; the command may still be decided."""

    def __init__(self, command_id: UUID, timeout_seconds: float) -> None:
        super().__init__(
            f"no reply to command {command_id} within {timeout_seconds:g} s; it may still be decided: "
            "send it again with the same command_id to learn its outcome, it is never carried out twice"
        )
        self.command_id = command_id


class Client:
    """Producer and subscriber over one cluster; `async with` it, so that what it opened is closed."""

    def __init__(self, bootstrap_servers: str, *, topics: Topics | None = None) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics or Topics()
        self._producer: AIOKafkaProducer | None = None
        self._consumers: set[AIOKafkaConsumer] = set()
        self._starting = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._waiting: defaultdict[Asked, list[asyncio.Future[Reply]]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        for consumer in tuple(self._consumers):
            await self._stop(consumer)
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, command: Command | Mapping[str, Any], *, timeout_seconds: float = 5.0) -> Reply:
        """Send a command to its root's partition and await its reply; a missing `command_id` is made up.

        Raises ReplyTimeout, pydantic.ValidationError for what is no command, and aiokafka's KafkaError.
        """
        body = command.model_dump(exclude_none=True) if isinstance(command, BaseModel) else dict(command)
        body.setdefault("command_id", uuid4())
        checked = COMMANDS.validate_python(body)
        producer = await self._ready_to_send()
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        asked = checked.command_id, checked.workflow_id
        self._waiting[asked].append(reply)
        try:
            async with asyncio.timeout(timeout_seconds):
                key = (checked.root_id or checked.workflow_id).encode()
                await producer.send_and_wait(self._topics.commands, to_json(body), key=key)
                return await reply
        except TimeoutError:
            raise ReplyTimeout(checked.command_id, timeout_seconds) from None
        finally:
            self._forget(asked, reply)

    async def subscribe(self, *, from_beginning: bool = False, group: str | None = None) -> AsyncIterator[Event]:
        """Give committed events as they come, starting with the first iteration; a repeat is dropped.

        With a `group`, members share the partitions, and what was in hand at a crash or a break comes again after it.
        `from_beginning` says where to start without a group, or when it has no position yet. An event that this
        version cannot read is logged and left out.
        """
        consumer = AIOKafkaConsumer(
            self._topics.events,
            bootstrap_servers=self._bootstrap_servers,
            group_id=group,
            isolation_level="read_committed",
            auto_offset_reset="earliest" if from_beginning else "latest",
            enable_auto_commit=False,
        )
        self._consumers.add(consumer)
        try:
            await consumer.start()
            last_sequence: OrderedDict[str, int] = OrderedDict()
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    for record in records:
                        event = _read(Event, record)
                        if event and _is_new(event, last_sequence):
                            yield event
                    if group is not None:
                        # Either says that the partition has a new owner, who reads these again.
                        with suppress(CommitFailedError, IllegalStateError):
                            await consumer.commit({partition: records[-1].offset + 1})
        except ConsumerStoppedError:
            return  # the client was closed
        finally:
            await self._stop(consumer)

    async def _ready_to_send(self) -> AIOKafkaProducer:
        """Start producer and reply reader once, the reader first: a reply must not come before its reader."""
        async with self._starting:
            if self._listening is None:
                consumer = await self._replies_from_now()
                self._listening = asyncio.create_task(self._listen(consumer))
            if self._producer is None:
                # Not idempotent: such a producer is dead after one refused record, and command_id guards repeats.
                producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap_servers, acks="all")
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
        if self._listening.done():
            raise ClientError("the reader of the replies has ended: open a new client") from self._listening.exception()
        return self._producer

    async def _replies_from_now(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            self._topics.replies,
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        self._consumers.add(consumer)
        try:
            await consumer.start()
            partitions: set[TopicPartition] = consumer.assignment()
            await consumer.seek_to_end()
            for partition in partitions:
                await consumer.position(partition)
        except BaseException:
            await self._stop(consumer)
            raise
        if not partitions:
            await self._stop(consumer)
            raise ClientError(f"there is no topic {self._topics.replies}: run turnstile topics create")
        return consumer

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        """Hand each reply to who has waited longest for its command."""
        try:
            async for record in consumer:
                if (reply := _read(Reply, record)) is None:
                    continue
                waiting = self._waiting.get((reply.command_id, reply.workflow_id), ())
                pending = (each for each in waiting if not each.done())
                if (first := next(pending, None)) is not None:
                    first.set_result(reply)
        finally:
            for each in itertools.chain.from_iterable(self._waiting.values()):
                if not each.done():
                    each.set_exception(ClientError("the client was closed, or its reader of the replies has ended"))

    def _forget(self, asked: Asked, reply: asyncio.Future[Reply]) -> None:
        waiting = self._waiting[asked]
        waiting.remove(reply)
        if not waiting:
            del self._waiting[asked]

    async def _stop(self, consumer: AIOKafkaConsumer) -> None:
        self._consumers.discard(consumer)
        await consumer.stop()


def _read(model: type[Message], record: ConsumerRecord) -> Message | None:
    """Read a record; what a newer service writes and this version cannot read is left out, and said."""
    try:
        return model.model_validate_json(record.value or b"")
    except ValidationError as reason:
        log.warning("%s[%d]@%d is left out: %s", record.topic, record.partition, record.offset, _said(reason))
        return None


def _said(reason: ValidationError) -> str:
    """Name the fields at fault, not what they hold: a log is no place for payloads."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in reason.errors())


def _is_new(event: Event, last_sequence: OrderedDict[str, int]) -> bool:
    """Say whether the event follows what its workflow showed; sequences rise by one, so one number is enough."""
    seen = last_sequence.get(event.workflow_id, 0)
    last_sequence[event.workflow_id] = max(seen, event.sequence)
    last_sequence.move_to_end(event.workflow_id)
    if len(last_sequence) > WORKFLOWS_REMEMBERED_MAX:
        last_sequence.popitem(last=False)
    return event.sequence > seen
