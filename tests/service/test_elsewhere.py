"""What leaves a partition, over a producer in memory that knows its topics as a real one does: as they were once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError

from contracts.topics import Topics
from handlers.faults import Transient
from service.broker import publishers
from service.broker.publishers import Elsewhere
from service.broker.records import OutRecord
from service.broker.ticks import send_ticks
from tests.eventually import assert_eventually

TOPICS = Topics()


class Cluster:
    """Topics with partitions, each with a leader or without; `sent` is what arrived in which."""

    def __init__(self, **partitions: int) -> None:
        self.partitions = partitions
        self.leaderless: set[int] = set()
        self.away = False
        self.sent: list[tuple[str, int]] = []
        self.producers: list[Producer] = []

    def producer(self, **_: object) -> "Producer":
        """Make a producer."""
        made = Producer(self)
        self.producers.append(made)
        return made

    @property
    def parts(self) -> list[int]:
        """Return the partitions that something arrived in."""
        return [part for _, part in self.sent]


class Producer:
    """Sends to partitions that it knows, and asserts like aiokafka that it is asked for no others."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known = dict(cluster.partitions)
        self._unanswered: list[asyncio.Future[object]] = []
        self.ending = asyncio.Event()
        self.answered = asyncio.Event()
        self.stopped = 0

    @property
    def client(self) -> Self:
        """Return what knows the topics."""
        return self

    async def start(self) -> None:
        """Connect."""
        await asyncio.sleep(0)
        if self._cluster.away:
            raise KafkaConnectionError

    async def force_metadata_update(self) -> None:
        """Look again."""
        self._known = dict(self._cluster.partitions)

    async def partitions_for(self, topic: str) -> set[int]:
        """Return the partitions that were there at the last look."""
        return set(range(self._known[topic.rpartition(".")[2]]))

    async def send(self, topic: str, *_: object, partition: int, **__: object) -> "asyncio.Future[object]":
        """Send; what has no leader is never answered."""
        assert partition in await self.partitions_for(topic), "Unrecognized partition"
        assert not self.stopped
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if partition in self._cluster.leaderless:
            self._unanswered.append(answer)
        else:
            self._cluster.sent.append((topic, partition))
            answer.set_result(None)
        return answer

    async def waiting(self) -> int:
        """Return how many sends wait for an answer."""
        return len(self._unanswered)

    def fails(self) -> None:
        """Fail what was not answered; whoever ends the producer waits for more."""
        for answer in self._unanswered:
            answer.set_exception(RequestTimedOutError())

    async def flush(self) -> None:
        """Wait for every answer."""
        self.ending.set()
        if self._unanswered:
            await self.answered.wait()

    async def stop(self) -> None:
        """End."""
        self.stopped += 1


class Ends:
    """A consumer that knows where partitions end."""

    async def end_offsets(self, keys: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends."""
        return dict.fromkeys(keys, 7)


def forward(part: int) -> list[OutRecord]:
    """Return a command for another partition."""
    return [OutRecord(TOPICS.commands, b"k", b"{}", [], partition=part)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Give a cluster with two partitions, and producers for it."""
    made = Cluster(commands=2, scheduler=2)
    monkeypatch.setattr(publishers, "AIOKafkaProducer", made.producer)
    return made


async def test_a_partition_that_was_added_is_found(cluster: Cluster) -> None:
    """What a producer knows of a topic may be old: a command for a new partition gets there all the same."""
    elsewhere = Elsewhere("")
    await elsewhere.send(forward(1))
    cluster.partitions["commands"] = 4
    await elsewhere.send(forward(3))
    assert [1, 3] == cluster.parts
    assert 1 == len(cluster.producers)


async def test_a_partition_that_is_not_there_is_asked_for_again(cluster: Cluster) -> None:
    """No bug of ours: it may come."""
    elsewhere = Elsewhere("")
    with pytest.raises(Transient, match=r"turnstile\.commands has no partition 3"):
        await elsewhere.send(forward(3))
    cluster.partitions["commands"] = 4
    await elsewhere.send(forward(3))
    assert [3] == cluster.parts


async def test_ticks_go_where_both_topics_have_a_partition(cluster: Cluster) -> None:
    """Somebody gave the commands topic alone more partitions: the ticks of the others go on."""
    cluster.partitions["commands"] = 4
    producer: Any = cluster.producer()
    consumer: Any = Ends()
    now = datetime(2026, 11, 21, tzinfo=UTC)
    await asyncio.gather(*await send_ticks(consumer, producer, TOPICS, time=now, name="t"))
    assert [(TOPICS.scheduler, 0), (TOPICS.scheduler, 1)] == cluster.sent


async def test_a_partition_without_a_leader_holds_up_no_other(cluster: Cluster) -> None:
    """Commands for healthy partitions arrive while others wait for their answers, or for their producer's end."""
    cluster.leaderless.add(0)
    elsewhere = Elsewhere("")
    stuck = [asyncio.create_task(elsewhere.send(forward(0))) for _ in range(4)]
    await elsewhere.send(forward(1))
    (failing,) = cluster.producers
    await assert_eventually(len(stuck), failing.waiting)
    await elsewhere.send(forward(1))
    assert ([1, 1], [False] * 4) == (cluster.parts, [task.done() for task in stuck])
    failing.fails()
    await failing.ending.wait()
    await elsewhere.send(forward(1))
    assert ([1, 1, 1], False) == (cluster.parts, all(task.done() for task in stuck))
    failing.answered.set()
    outcomes = await asyncio.gather(*stuck, return_exceptions=True)
    assert [Transient] * 4 == [type(outcome) for outcome in outcomes]
    await elsewhere.close()
    assert [1, 1] == [producer.stopped for producer in cluster.producers]


async def test_a_producer_that_does_not_start_is_let_go(cluster: Cluster) -> None:
    """The next send begins with another one."""
    cluster.away = True
    elsewhere = Elsewhere("")
    with pytest.raises(Transient):
        await elsewhere.send(forward(1))
    cluster.away = False
    await elsewhere.send(forward(1))
    assert ([1], [1, 0]) == (cluster.parts, [producer.stopped for producer in cluster.producers])
