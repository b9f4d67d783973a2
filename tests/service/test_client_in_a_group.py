"""What a subscriber of a group hears when a partition moves on while its caller is at work."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from client import Client
from client import client as client_module
from contracts.events import Event

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def _record(sequence: int) -> SimpleNamespace:
    event = Event(
        event_id=uuid4(), sequence=sequence, workflow_id="w1", root_id="w1", event_type="TRANSITION",
        category="state", message="", definition="d", definition_version=1, version=sequence, timestamp=NOW,
    )  # fmt: skip
    return SimpleNamespace(value=event.model_dump_json().encode(), offset=sequence)


@pytest.mark.parametrize("moved", [CommitFailedError("of an older generation"), IllegalStateError("is not assigned")])
async def test_a_partition_that_moved_on_ends_no_subscription(
    monkeypatch: pytest.MonkeyPatch, moved: KafkaError
) -> None:
    """Whether the broker tells it or the member knows by then: its next events come, and are committed again."""
    committed: list[int] = []

    class Moving:
        def __init__(self, *_: object, **__: object) -> None:
            self.batches = 0

        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def getmany(self, **_: object) -> Mapping[TopicPartition, list[Any]]:
            self.batches += 1
            return {TopicPartition("events", 0): [_record(self.batches)]}

        async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
            if self.batches == 1:
                raise moved
            committed.extend(offsets.values())

    monkeypatch.setattr(client_module, "AIOKafkaConsumer", Moving)
    taken = []
    async for event in Client("nowhere").subscribe(group="g"):
        taken.append(event.sequence)
        if len(taken) == 3:
            break
    assert ([1, 2, 3], [3]) == (taken, committed)
