"""Ticks as they are sent: the time was read before the ends of the commands partitions that go with it."""

import asyncio
from datetime import datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.ticks import Tick
from contracts.topics import Topics


async def send_ticks(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, topics: Topics, *, time: datetime, name: str
) -> "list[asyncio.Future[object]]":
    """Send one tick to each partition that both topics have; return the futures that tell whether they arrived."""
    parts = sorted(await producer.partitions_for(topics.commands) & await producer.partitions_for(topics.scheduler))
    ends = await consumer.end_offsets([TopicPartition(topics.commands, part) for part in parts])
    sent = []
    for key, end in ends.items():
        tick = Tick(partition=key.partition, time=time, commands_end_offset=end, emitter=name)
        value = tick.model_dump_json().encode()
        sent.append(await producer.send(topics.scheduler, value, partition=key.partition))
    return sent
