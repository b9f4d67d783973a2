"""Topics on a real broker: created once, judged truthfully, mended without losing what else was set."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts.topics import Topics
from service.broker.cluster import admin, cluster_facts
from service.broker.topics import Problem, TopicsError, check_topics, create_topics, plans
from service.local.stack import LocalStack

pytestmark = pytest.mark.stack
DAY_MS = 86_400_000
NOBODY = "127.0.0.1:1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Give the address of a real broker."""
    folder = tmp_path_factory.mktemp("topics") / ".turnstile"
    async with LocalStack(Path(folder), database=False, report=lambda _line: None) as endpoints:
        yield endpoints.bootstrap_servers


@pytest.fixture
def topics() -> Topics:
    """Give names that no other test uses."""
    return Topics(prefix=f"t{uuid4().hex[:8]}")


async def _config(client: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {
        entry["config_names"]: entry["config_value"]
        for entry in answers[0].to_object()["resources"][0]["config_entries"]
    }


async def test_all_topics_are_created_as_planned(broker: str, topics: Topics) -> None:
    """Every planned setting is in force on the broker, and the check has nothing to say."""
    report = await create_topics(broker, topics, 3, 1)
    assert topics.all() == report.created
    assert report.problems == ()
    async with admin(broker) as client:
        for plan in plans(topics, 3, 1):
            config = await _config(client, plan.name)
            assert plan.config == {name: config[name] for name in plan.config}
    assert await check_topics(broker, topics, 3, 1) == ()


async def test_creating_again_changes_nothing(broker: str, topics: Topics) -> None:
    """A second run keeps every topic."""
    await create_topics(broker, topics, 2, 1)
    again = await create_topics(broker, topics, 2, 1)
    assert again.created == ()
    assert topics.all() == again.kept
    assert again.problems == ()


async def test_two_at_once_create_each_topic_once(broker: str, topics: Topics) -> None:
    """Workers that start together do not trip over each other."""
    reports = await asyncio.gather(*(create_topics(broker, topics, 2, 1) for _ in range(3)))
    assert sorted(topics.all()) == sorted(name for report in reports for name in report.created)
    assert [report.problems for report in reports] == [()] * 3


async def test_missing_topics_are_said_and_not_created(broker: str, topics: Topics) -> None:
    """A check creates nothing, not even by asking."""
    for _ in range(2):
        problems = await check_topics(broker, topics, 2, 1)
        assert [(name, "topic", "missing") for name in topics.all()] == [
            (problem.topic, problem.setting, problem.actual) for problem in problems
        ]


async def test_a_wrong_topic_is_reported_and_mended(broker: str, topics: Topics) -> None:
    """`fix` sets what is wrong and leaves everything else that was set on the topic."""
    wrong = {"retention.ms": "60000", "cleanup.policy": "compact", "segment.ms": "123456"}
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topics.commands, 2, 1, topic_configs=wrong)])
    found = (await create_topics(broker, topics, 2, 1)).problems
    assert {
        ("cleanup.policy", "delete", "compact"),
        ("message.timestamp.type", "LogAppendTime", "CreateTime"),
        ("retention.ms", f"at least {7 * DAY_MS}", "60000"),
    } == {(problem.setting, problem.expected, problem.actual) for problem in found}
    assert found == await check_topics(broker, topics, 2, 1)

    report = await create_topics(broker, topics, 2, 1, fix=True)
    assert found == report.fixed
    assert report.problems == ()
    assert await check_topics(broker, topics, 2, 1) == ()
    async with admin(broker) as client:
        config = await _config(client, topics.commands)
    assert (config["segment.ms"], config["retention.ms"]) == ("123456", str(7 * DAY_MS))


async def test_a_longer_retention_is_no_problem(broker: str, topics: Topics) -> None:
    """Keeping commands for longer, or for ever, is the operator's choice."""
    async with admin(broker) as client:
        for name, kept in ((topics.commands, str(30 * DAY_MS)), (topics.events, "-1")):
            config = {"retention.ms": kept, "message.timestamp.type": "LogAppendTime", "max.message.bytes": "4194304"}
            await client.create_topics([NewTopic(name, 2, 1, topic_configs=config)])
    assert (await create_topics(broker, topics, 2, 1)).problems == ()


@pytest.mark.parametrize(("there", "remedy"), [(1, "turnstile topics grow"), (3, "cannot be taken away")])
async def test_another_partition_count_is_reported_never_changed(
    broker: str, topics: Topics, there: int, remedy: str
) -> None:
    """Partitions decide where a workflow lives: they are not altered in passing."""
    await create_topics(broker, topics, there, 1)
    problems = (await create_topics(broker, topics, 2, 1, fix=True)).problems
    assert [(name, "partitions", "2", str(there)) for name in topics.all()] == [
        (problem.topic, problem.setting, problem.expected, problem.actual) for problem in problems
    ]
    assert all(remedy in str(problem) for problem in problems)
    assert (await cluster_facts(broker, topics.commands)).partitions == there


async def test_too_few_replicas_are_reported(broker: str, topics: Topics) -> None:
    """A topic with one copy is not what a cluster of three was asked for."""
    await create_topics(broker, topics, 1, 1)
    problems = [problem for problem in await check_topics(broker, topics, 1, 3) if problem.topic == topics.events]
    assert [(problem.setting, problem.actual) for problem in problems] == [
        ("replication", "1"),
        ("min.insync.replicas", "1"),
    ]


async def test_a_refusal_of_the_broker_is_a_sentence(broker: str, topics: Topics) -> None:
    """Three replicas on one broker cannot be, and the broker's own words say so."""
    with pytest.raises(TopicsError, match=r"refuses to create .*replication factor of 3"):
        await create_topics(broker, topics, 1, 3)


async def test_cluster_facts_tell_id_and_partitions(broker: str, topics: Topics) -> None:
    """The id stays, the count is the topic's, and a topic that is not there has none and is not created."""
    before = await cluster_facts(broker, topics.commands)
    assert before.partitions == 0
    assert (await cluster_facts(broker, topics.commands)).partitions == 0
    await create_topics(broker, topics, 4, 1)
    after = await cluster_facts(broker, topics.commands)
    assert (before.cluster_id, 4) == (after.cluster_id, after.partitions)
    assert len(after.cluster_id) == 22


async def test_nobody_at_the_address_is_said_at_once(topics: Topics) -> None:
    """A refused connection is a TopicsError that names the address."""
    for ask in (create_topics(NOBODY, topics, 1, 1), check_topics(NOBODY, topics, 1, 1), cluster_facts(NOBODY, "t")):
        with pytest.raises(TopicsError, match=r"127\.0\.0\.1:1 does not answer"):
            await ask


async def test_a_silent_address_is_given_up_at_the_deadline(topics: Topics) -> None:
    """Something that accepts and never answers costs the deadline and no more."""

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        writer.close()

    hold = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(TopicsError, match="does not answer"):
        await check_topics(address, topics, 1, 1, deadline_seconds=0.5)
    assert time.monotonic() - began < 3
    hold.set()
    server.close()
    await server.wait_closed()


def test_a_problem_reads_as_a_sentence() -> None:
    """What is, what must be, what to do."""
    problem = Problem("t.commands", "cleanup.policy", "delete", "compact", "change it")
    assert str(problem) == "t.commands: cleanup.policy is compact, must be delete; change it"
