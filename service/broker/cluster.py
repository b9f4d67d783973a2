"""Asks the broker about itself, within a deadline, and says plainly when it does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

DEADLINE_SECONDS = 15.0
METADATA_MS_MAX = 15_000
"""Partitions that were added, or a topic that was made anew, are noticed after as long as this."""


class TopicsError(Exception):
    """Say what the broker refused or that it does not answer, and what to do."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Which cluster this is, and the topic's partition count: 0 where there is no such topic."""

    cluster_id: str
    partitions: int


async def cluster_facts(
    bootstrap_servers: str, topic: str, *, deadline_seconds: float = DEADLINE_SECONDS
) -> ClusterFacts:
    """Read the cluster's id and the topic's partition count, creating nothing; raises TopicsError."""
    async with admin(bootstrap_servers, deadline_seconds=deadline_seconds) as client:
        cluster = await client.describe_cluster()
        # Asking for all topics and not for this one: a question about one topic may create it.
        topics = {described["topic"]: described for described in await client.describe_topics()}
    return ClusterFacts(str(cluster["cluster_id"]), len(topics[topic]["partitions"]) if topic in topics else 0)


@asynccontextmanager
async def admin(
    bootstrap_servers: str, *, deadline_seconds: float = DEADLINE_SECONDS
) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client for the block, which ends within the deadline or raises TopicsError."""
    client = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers, request_timeout_ms=max(1, int(deadline_seconds * 1000))
    )
    try:
        async with asyncio.timeout(deadline_seconds):
            await client.start()
            yield client
    except (KafkaError, OSError) as reason:  # TimeoutError is an OSError
        said = str(reason) or f"no answer within {deadline_seconds:g} s"
        raise TopicsError(
            f"the broker at {bootstrap_servers} does not answer: {said}; is it running, and is the address right?"
        ) from reason
    finally:
        await client.close()
