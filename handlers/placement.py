"""Which partition a root belongs to: where it is stored, else Kafka's murmur2 of its id.

The same hash as the Java client's and aiokafka's default partitioner; librdkafka's default differs.
"""

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


def partition_of(root_id: str, n_parts: int) -> int:
    """Return the commands partition of a root that is not stored yet."""
    return int((murmur2(root_id.encode()) & _POSITIVE) % n_parts)
