"""The names every message shares: ids, header names, and the shape of free JSON.

Headers follow the CloudEvents 1.0 Kafka binding in binary mode. On commands every header is optional.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, NewType

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints


def _in_utc(instant: datetime) -> datetime:
    """Return the instant in UTC; near year 1 or 9999 an offset can take it out of the calendar."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such instant in UTC") from None


WorkflowId = NewType("WorkflowId", str)
RootId = NewType("RootId", str)
Part = NewType("Part", int)

Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4000)]
JsonObject = dict[str, Any]
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]

CONTENT_TYPE = "application/json"
SPEC_VERSION = "1.0"
SOURCE = "turnstile"

HEADER_ID = "ce_id"
HEADER_TYPE = "ce_type"
HEADER_SOURCE = "ce_source"
HEADER_SPEC_VERSION = "ce_specversion"
HEADER_SUBJECT = "ce_subject"
HEADER_TIME = "ce_time"
HEADER_SCHEMA = "ce_dataschema"
HEADER_CONTENT_TYPE = "content-type"
HEADER_TRACEPARENT = "traceparent"
HEADER_CORRELATION_ID = "correlation_id"
HEADER_CAUSATION_ID = "causation_id"
# Forwarding, written by the service alone.
HEADER_HOPS = "turnstile_hops"
HEADER_BROKER_TIME = "turnstile_broker_time"
HEADER_ORIGIN = "turnstile_origin"
# On what the service asks of itself: how many such commands led to this one.
HEADER_DEPTH = "turnstile_depth"


class Contract(BaseModel):
    """A frozen message; readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Headers(Contract):
    """The headers of a record that the service writes, as text; absent ones are left out."""

    ce_specversion: str = SPEC_VERSION
    ce_id: str
    ce_type: str
    ce_source: str = SOURCE
    ce_subject: str | None = None
    ce_time: str | None = None
    ce_dataschema: str | None = None
    content_type: str = Field(default=CONTENT_TYPE, alias=HEADER_CONTENT_TYPE)
    traceparent: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
