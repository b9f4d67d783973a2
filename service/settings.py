"""Every setting, once: an environment variable TURNSTILE_* each, listed by `turnstile doctor`."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.policies import Dialect, PolicyName
from contracts.topics import Topics
from handlers.limits import Limits
from handlers.ticks import Clock
from service.store.pool import plain_url

Delivery = Literal["exactly-once", "at-least-once"]


PORT_MAX = 65535
_BROKER = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?")


class Settings(BaseSettings):
    """How this process runs; names are the environment's without TURNSTILE_."""

    model_config = SettingsConfigDict(env_prefix="TURNSTILE_", frozen=True, extra="ignore")

    bootstrap_servers: str | None = Field(None, description="the Kafka broker; none: the embedded one")
    database_url: str | None = Field(None, description="PostgreSQL 15 or later; none: the embedded one")
    data_dir: Path = Field(Path(".turnstile"), description="where the embedded broker and database keep their data")
    prefix: str = Field("turnstile", description="prefix of the topics' names", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    partitions: int = Field(6, ge=1, le=1000, description="partitions of the topics that `topics create` makes")
    replication: int = Field(1, ge=1, le=9, description="replicas of the topics that `topics create` makes")
    group_id: str = Field("turnstile", min_length=1, description="consumer group, and prefix of transactional ids")
    delivery: Delivery = Field("exactly-once", description="how events are published: exactly-once or at-least-once")
    turn_records_max: int = Field(500, ge=1, le=5000, description="commands decided in one database transaction")
    command_bytes_max: int = Field(256 * 1024, ge=1024, le=512 * 1024, description="largest command, in bytes")
    idempotency_days: float = Field(
        14, gt=0, le=3650, description="how long a command id is remembered; at least the topic's retention"
    )
    transactions_per_second: float = Field(400, gt=0, description="Kafka transactions a worker may spend")
    database_connections: int = Field(8, ge=2, le=200, description="connections of one worker")
    http_host: str = Field("127.0.0.1", description="address of /metrics and /health")
    http_port: int = Field(9464, ge=0, le=PORT_MAX, description="port of /metrics and /health; 0 picks a free one")
    guard_seconds: float = Field(2.0, gt=0, le=60, description="how long a guard may take before it is unavailable")
    predicate_url: str | None = Field(
        None, pattern=r"^https?://\S+$", description="the remote policy engine; none: remote guards are unavailable"
    )
    predicate_dialect: Dialect = Field("opa", description="what it speaks: opa (its data API) or json")
    predicate_opa_batch: PolicyName | None = Field(
        None, description="the OPA rule that takes many questions at once; none: one request each"
    )
    predicate_batch_max: int = Field(100, ge=1, le=1000, description="questions in one request to it")
    predicate_seconds: float = Field(
        1.0, gt=0, le=60, description="how long one try may take; all tries share TURNSTILE_GUARD_SECONDS"
    )
    predicate_retries: int = Field(2, ge=0, le=10, description="further tries where it cannot be reached or says 5xx")
    predicate_concurrency: int = Field(8, ge=1, le=256, description="requests to it under way at once")
    predicate_breaker_failures: int = Field(
        5, ge=1, le=1000, description="tries that fail in a row until it is left alone"
    )
    predicate_breaker_seconds: float = Field(5.0, gt=0, le=600, description="for how long it is left alone then")
    predicate_token_file: Path | None = Field(
        None, description="a file whose text is sent to it as a bearer token, read anew for each request"
    )
    parked_workflow_max: int = Field(100, ge=1, le=10_000, description="commands of one workflow that may be parked")
    parked_partition_max: int = Field(
        1000, ge=1, le=100_000, description="commands of one partition that may be parked"
    )
    parked_seconds_max: float = Field(
        3600, gt=0, le=30 * 86_400, description="how long a command may be parked before it is refused"
    )
    failing_max: int = Field(
        10, ge=0, le=1000, description="parked commands of one partition on which our own code may fail; then it stops"
    )
    tick_seconds: float = Field(1.0, gt=0, le=60, description="seconds between ticks")
    clock: Literal["real", "logical"] = Field(
        "real",
        description="what time it is: the database's clock; logical: what ticks and commands say, for simulations",
    )
    sla_grace_seconds: float = Field(
        2.0, ge=0, le=600, description="how long after its due instant an SLA waits for commands sent in time"
    )
    log_format: Literal["text", "json"] = Field("text", description="log lines for people or for machines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("bootstrap_servers")
    @classmethod
    def _brokers(cls, text: str | None) -> str | None:
        for broker in text.split(",") if text else ():
            named = _BROKER.fullmatch(broker.strip())
            if named is None or not (0 < int(named[2] or 1) <= PORT_MAX and _is_host(named[1])):
                raise ValueError("write host:port, several joined by commas")
        return text

    @field_validator("database_url")
    @classmethod
    def _database(cls, text: str | None) -> str | None:
        if text and not _is_database(text):
            raise ValueError("write postgresql://user:password@host:5432/name, with %40 for an @ in the password")
        return text

    @field_validator("http_host")
    @classmethod
    def _address(cls, text: str) -> str:
        if not _is_host(text):
            raise ValueError("write an address of this machine, or its name")
        return text

    @property
    def topics(self) -> Topics:
        """The topics under this prefix."""
        return Topics(prefix=self.prefix)

    @property
    def decision_clock(self) -> Clock:
        """What time it is in decisions."""
        return Clock(logical=self.clock == "logical", grace=timedelta(seconds=self.sla_grace_seconds))

    @property
    def limits(self) -> Limits:
        """What bounds a command."""
        return Limits(
            command_bytes_max=self.command_bytes_max,
            window=timedelta(days=self.idempotency_days),
            guard_seconds_max=self.guard_seconds,
            parked_workflow_max=self.parked_workflow_max,
            parked_partition_max=self.parked_partition_max,
            parked_age_max=timedelta(seconds=self.parked_seconds_max),
            failing_max=self.failing_max,
        )


def variable_of(name: str) -> str:
    """Return the environment's name of a setting."""
    return f"TURNSTILE_{name.upper()}"


def _is_database(url: str) -> bool:
    """Say whether an address is one that the database's library can read."""
    try:
        parts = urlsplit(plain_url(url))
        sound = parts.scheme == "postgresql" and parts.port != 0 and parts.netloc.count("@") <= 1
        return sound and (parts.hostname is None or _is_host(parts.hostname))
    except ValueError:  # of its port
        return False


def _is_host(name: str) -> bool:
    """Say whether a name is one that can be looked up: no part of it empty, none too long."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
