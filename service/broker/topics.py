"""Decides how each topic must be set up, creates what is missing and says what is wrong with what is there.

The promises rest on these settings: what the broker forgets or refuses, no later code can make good.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.protocol.api import Response

from contracts.envelope import JsonObject
from contracts.topics import Topics
from service.broker.cluster import DEADLINE_SECONDS, TopicsError, admin

__all__ = ["Problem", "Report", "TopicPlan", "TopicsError", "check_topics", "create_topics", "plans"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024
FOR_EVER = "-1"
SET_ON_THE_TOPIC = 1  # the config source of a setting that was given for this topic alone
NO_LEADER: JsonObject = {"leader": -1}
POLL_SECONDS = 0.05
ALTER = "run turnstile topics create --fix, or change it with kafka-configs"


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How one topic must be: settings with an exact value, and settings that must be at least a number."""

    name: str
    partitions: int
    replication: int
    exactly: Mapping[str, str]
    at_least: Mapping[str, int]

    @property
    def config(self) -> dict[str, str]:
        """Every setting as a new topic gets it."""
        return {**self.exactly, **{name: str(value) for name, value in self.at_least.items()}}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one topic, and what to do; `fixable` ones `create_topics(fix=True)` mends."""

    topic: str
    setting: str
    expected: str
    actual: str
    remedy: str
    fixable: bool = False

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.actual}, must be {self.expected}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `create_topics` found and did."""

    created: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    fixed: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


def plans(topics: Topics, partitions: int, replication: int) -> tuple[TopicPlan, ...]:
    """Plan every topic; retention is a lower bound but for ticks, of which only the newest counts."""
    durable = {"min.insync.replicas": 2 if replication > 2 else 1}  # noqa: PLR2004 - one of three may be away
    at_least: dict[str, dict[str, int]] = {
        # The dedup window is never below this retention; a batch may hold one command of 1 MiB.
        topics.commands: {"retention.ms": 7 * DAY_MS, "max.message.bytes": MIB},
        # What one command of 1 MiB becomes, with its envelope.
        topics.events: {"retention.ms": 7 * DAY_MS, "max.message.bytes": 2 * MIB},
        topics.replies: {"retention.ms": 7 * DAY_MS, "max.message.bytes": 2 * MIB},
        topics.scheduler: {},
        topics.alerts: {"retention.ms": 7 * DAY_MS},
        topics.webhook_deliveries: {"retention.ms": 7 * DAY_MS},
        # 256 KiB of value and 64 KiB of headers in base64, and room for a transaction's others.
        topics.dead_letters: {"retention.ms": 30 * DAY_MS, "max.message.bytes": 2 * MIB},
    }
    exactly = {
        topics.commands: {"message.timestamp.type": "LogAppendTime"},
        topics.scheduler: {"retention.ms": str(HOUR_MS)},
    }
    return tuple(
        TopicPlan(
            name=name,
            partitions=partitions,
            replication=replication,
            exactly=MappingProxyType({"cleanup.policy": "delete"} | exactly.get(name, {})),
            at_least=MappingProxyType(at_least[name] | durable),
        )
        for name in topics.all()
    )


async def create_topics(
    bootstrap_servers: str,
    topics: Topics,
    partitions: int,
    replication: int,
    *,
    fix: bool = False,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Report:
    """Create the topics that are missing, wait until they have leaders, and judge the ones that are there.

    With `fix`, wrong settings of those are changed; partition and replica counts never are. Raises TopicsError.
    """
    planned = plans(topics, partitions, replication)
    async with admin(bootstrap_servers, deadline_seconds=deadline_seconds) as client:
        there = await _partitions(client, planned)
        created = await _create(client, [plan for plan in planned if plan.name not in there])
        await _wait_for_leaders(client, planned)
        kept = tuple(plan for plan in planned if plan.name not in created)
        problems = await _judge_all(client, kept)
        fixed = tuple(problem for problem in problems if problem.fixable) if fix else ()
        await _alter(client, fixed)
        await _wait_until_mended(client, kept, fixed)
    return Report(
        created=tuple(plan.name for plan in planned if plan.name in created),
        kept=tuple(plan.name for plan in kept),
        fixed=fixed,
        problems=tuple(problem for problem in problems if problem not in fixed),
    )


async def check_topics(
    bootstrap_servers: str,
    topics: Topics,
    partitions: int,
    replication: int,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> tuple[Problem, ...]:
    """Say everything that is wrong with the topics, changing nothing; raises TopicsError."""
    async with admin(bootstrap_servers, deadline_seconds=deadline_seconds) as client:
        return await _judge_all(client, plans(topics, partitions, replication))


def _judge(plan: TopicPlan, replicas: Sequence[int], config: Mapping[str, str]) -> Iterator[Problem]:
    """Hold one topic, given as each partition's replica count and the settings in force, against its plan."""
    if len(replicas) != plan.partitions:
        remedy = (
            "run turnstile topics grow with that count, or use the count that all topics have"
            if len(replicas) < plan.partitions
            else "partitions cannot be taken away: use its count, or another prefix"
        )
        yield Problem(plan.name, "partitions", str(plan.partitions), str(len(replicas)), remedy)
    if min(replicas) < plan.replication:
        remedy = "reassign its replicas with kafka-reassign-partitions"
        yield Problem(plan.name, "replication", f"at least {plan.replication}", str(min(replicas)), remedy)
    for name, value in plan.exactly.items():
        if config.get(name) != value:
            yield Problem(plan.name, name, value, str(config.get(name)), ALTER, fixable=True)
    for name, least in plan.at_least.items():
        actual = config.get(name, "0")
        if int(actual) < least and (name, actual) != ("retention.ms", FOR_EVER):
            yield Problem(plan.name, name, f"at least {least}", actual, ALTER, fixable=True)


async def _judge_all(client: AIOKafkaAdminClient, planned: Sequence[TopicPlan]) -> tuple[Problem, ...]:
    there = await _partitions(client, planned)
    configs = await _configs(client, there)
    problems: list[Problem] = []
    for plan in planned:
        if not there.get(plan.name):
            problems.append(Problem(plan.name, "topic", "there", "missing", "run turnstile topics create"))
            continue
        replicas = [len(partition["replicas"]) for partition in there[plan.name]]
        config = {entry["config_names"]: entry["config_value"] for entry in configs[plan.name]}
        problems.extend(_judge(plan, replicas, config))
    return tuple(problems)


async def _partitions(client: AIOKafkaAdminClient, planned: Sequence[TopicPlan]) -> dict[str, list[JsonObject]]:
    """Find the planned topics that exist; asking for all topics creates none, asking for one may."""
    names = {plan.name for plan in planned}
    return {each["topic"]: each["partitions"] for each in await client.describe_topics() if each["topic"] in names}


async def _configs(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, list[JsonObject]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(names)]
    responses = await client.describe_configs(resources) if resources else []
    return {each["resource_name"]: each["config_entries"] for each in _accepted(responses, "show the settings of")}


async def _create(client: AIOKafkaAdminClient, missing: Sequence[TopicPlan]) -> frozenset[str]:
    """Create the topics; one that somebody else has just created counts as kept."""
    if not missing:
        return frozenset()
    response = await client.create_topics(
        [NewTopic(plan.name, plan.partitions, plan.replication, topic_configs=plan.config) for plan in missing]
    )
    answers = {each["topic"]: each for each in response.to_object()["topic_errors"]}
    for name, answer in answers.items():
        if answer["error_code"] not in {0, TopicAlreadyExistsError.errno}:
            raise TopicsError(f"the broker refuses to create {name}: {answer['error_message']}")
    return frozenset(name for name, answer in answers.items() if answer["error_code"] == 0)


async def _wait_for_leaders(client: AIOKafkaAdminClient, planned: Sequence[TopicPlan]) -> None:
    """Wait until every topic can be written: a broker learns of a new one a moment after its controller."""
    while True:
        there = await _partitions(client, planned)
        leaders = [partition["leader"] for partitions in there.values() for partition in partitions or [NO_LEADER]]
        if len(there) == len(planned) and min(leaders) >= 0:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _alter(client: AIOKafkaAdminClient, problems: Sequence[Problem]) -> None:
    """Set what is wrong; the request replaces all that is set on a topic, so the rest is given again."""
    wrong = {problem.topic for problem in problems}
    configs = await _configs(client, wrong)
    resources = []
    for topic in sorted(wrong):
        config = {
            entry["config_names"]: entry["config_value"]
            for entry in configs[topic]
            if entry["config_source"] == SET_ON_THE_TOPIC
        }
        config |= {each.setting: each.expected.removeprefix("at least ") for each in problems if each.topic == topic}
        resources.append(ConfigResource(ConfigResourceType.TOPIC, topic, config))
    _accepted(await client.alter_configs(resources) if resources else [], "change the settings of")


async def _wait_until_mended(
    client: AIOKafkaAdminClient, planned: Sequence[TopicPlan], fixed: Sequence[Problem]
) -> None:
    """Wait until the broker shows what was set: it learns of it a moment after its controller."""
    while True:
        if not (fixed and set(fixed) & set(await _judge_all(client, planned))):
            return
        await asyncio.sleep(POLL_SECONDS)


def _accepted(responses: Iterable[Response], asked: str) -> list[JsonObject]:
    """Give the answers for each topic, or raise TopicsError for the first refusal."""
    answers: list[JsonObject] = [each for response in responses for each in response.to_object()["resources"]]
    for each in answers:
        if each["error_code"]:
            raise TopicsError(f"the broker refuses to {asked} {each['resource_name']}: {each['error_message']}")
    return answers
