"""The one FastStream subscriber: raw batches of commands and ticks, sorted and handed on at once.

One subscriber for both topics and the range assignor keep partition n of both in one worker. Acknowledgement
is manual and never used: the offset that counts is committed with the outcomes, in the store.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.kafka.subscriber import usecase

from contracts.topics import Topics
from handlers.ports import Record

POLL_MS = 10
POLL_RECORDS_MAX = 2000
# One fetch at a time per broker: while it waits for idle partitions, those with records wait with them.
FETCH_WAIT_MS = 20
HEARTBEAT_MS = 1_000
SESSION_MS = 6_000
REBALANCE_MS = 60_000

Sort = Callable[[Sequence[Record]], None]


def subscribe(
    broker: KafkaBroker, topics: Topics, *, group_id: str, listener: ConsumerRebalanceListener, sort: Sort
) -> "usecase.BatchSubscriber":
    """Declare the subscriber; its consumer exists once the broker is started."""
    subscriber = broker.subscriber(
        topics.commands,
        topics.scheduler,
        batch=True,
        group_id=group_id,
        listener=listener,
        parser=_parse,
        decoder=_decode,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        auto_offset_reset="none",
        isolation_level="read_committed",
        partition_assignment_strategy=(RangePartitionAssignor,),
        batch_timeout_ms=POLL_MS,
        max_records=POLL_RECORDS_MAX,
        heartbeat_interval_ms=HEARTBEAT_MS,
        session_timeout_ms=SESSION_MS,
        rebalance_timeout_ms=REBALANCE_MS,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )

    @subscriber
    async def receive(records: list[Any]) -> None:
        sort(records)

    return subscriber


async def _parse(records: tuple[Any, ...]) -> KafkaMessage:
    """Wrap the raw records without looking at them: a bad header must not cost its neighbours."""
    return KafkaMessage(raw_message=records, body=b"", consumer=FAKE_CONSUMER)


async def _decode(message: KafkaMessage) -> list[Any]:
    return list(message.raw_message)
