"""The worker's consumer: one that never moves a position by itself, and that shows whether it still lives.

aiokafka's own answer to a position that has left the log is to go to the log's end: commands would be skipped unseen.
Here (`auto_offset_reset="none"`) it says so instead, and the owner claims again, which compares log and store.
"""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faststream.kafka import KafkaBroker

from contracts.topics import Topics

Astray = Callable[[int, int], None]


class WatchedConsumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
    """A consumer of commands and ticks; `polls` and `beats` count what only a living one does."""

    def __init__(self, *args: Any, topics: Topics, astray: Astray, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self._own_topics = topics
        self._astray = astray
        self.polls = 0
        self.beats = 0
        self._passed: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Start, and count the heartbeats that the group's coordinator answers."""
        await super().start()
        self._coordinator._do_heartbeat = self._counted(self._coordinator._do_heartbeat)  # noqa: SLF001 - no hook

    async def getmany(self, *partitions: Any, **options: Any) -> dict[Any, Any]:  # noqa: ANN401
        """Return records as they come; a position that cannot be read on from is told, and no other has to wait."""
        self._note_passed()
        try:
            return await super().getmany(*partitions, **options)  # type: ignore[no-any-return]
        except OffsetOutOfRangeError as error:
            for key, offset in error.args[0].items():
                if key.topic == self._own_topics.commands:
                    self.pause(key)
                    self._astray(key.partition, offset)
                else:
                    self._to_newest(key)
        except NoOffsetForPartitionError as error:
            for key in error.args:  # commands are paused, until the store has said where to begin
                self._to_newest(key)
        finally:
            self.polls += 1
        return {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from an offset."""
        super().seek(partition, offset)
        self._passed[partition] = offset

    def passed(self, key: TopicPartition) -> int:
        """Return the offset before which everything since the last seek was read, and what came of it taken in."""
        return self._passed.get(key, 0)

    def ended(self) -> str | None:
        """Say which of the consumer's own tasks has ended, None while all go on."""
        tasks = {
            "the group's coordination": self._coordinator._coordination_task,  # noqa: SLF001 - no other way to see them
            "fetching": self._fetcher._fetch_task,  # noqa: SLF001
        }
        return next((name for name, task in tasks.items() if task.done()), None)

    @property
    def rejoining(self) -> bool:
        """Whether the group is giving out partitions, when nobody polls or beats."""
        return bool(self._subscription.reassignment_in_progress)

    def _note_passed(self) -> None:
        """Note positions before the next poll: whoever polls has taken in by now what the last one returned."""
        for key in self.assignment():
            if key.topic == self._own_topics.commands:
                state = self._subscription.subscription.assignment.state_value(key)
                if state is not None and state.has_valid_position:
                    self._passed[key] = state.position

    def _to_newest(self, key: Any) -> None:  # noqa: ANN401
        """Go to the end: of ticks the newest wins, and a lost one does not matter."""
        if key in self.assignment():
            self._fetcher.request_offset_reset([key], OffsetResetStrategy.LATEST)

    def _counted(self, beat: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
        @wraps(beat)
        async def counted() -> bool:
            heard = await beat()
            self.beats += heard
            return heard

        return counted


async def watch_consumer(broker: KafkaBroker, topics: Topics, astray: Astray) -> None:
    """Have the broker's subscribers, once they start, build consumers of our kind."""
    await broker.connect()
    config = broker.config.broker_config
    options = getattr(config.builder, "keywords", {})
    config.builder = partial(WatchedConsumer, topics=topics, astray=astray, **options)
