"""Where the broker keeps how far the relay of a partition got: as the offset of a group that nobody joins."""

from typing import Any

from aiokafka import TopicPartition


def cursor_group(group_id: str) -> str:
    """Return the group under which the relays of a consumer group keep their cursors."""
    return f"{group_id}-outbox"


async def read_cursor(client: Any, group: str, key: TopicPartition) -> int | None:  # noqa: ANN401 - no types
    """Return the next seq to publish of a commands partition, None where there is none; `client` is an admin's."""
    offsets = await client.list_consumer_group_offsets(group, partitions=[key])
    found = offsets.get(key)
    return None if found is None or found.offset < 0 else int(found.offset)
