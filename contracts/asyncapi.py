"""The AsyncAPI 3.0 document, made from the contracts: one message is one record, never a batch of them.

Written here and not by the framework, whose generator shows a batch subscriber as an array and a raw one as empty.
"""

from pydantic.json_schema import models_json_schema

from contracts.alerts import Alert
from contracts.commands import COMMAND_MODELS, COMMAND_TYPES
from contracts.dead_letters import DeadLetter
from contracts.envelope import CONTENT_TYPE, Headers, JsonObject
from contracts.events import Event
from contracts.examples import HEADERS, PAYLOADS
from contracts.replies import Reply
from contracts.ticks import Tick
from contracts.topics import Topics

# Of the contracts, not of the package: the major rises with an incompatible change, which the tests forbid.
CONTRACTS_VERSION = "1.0.0"
KAFKA_BINDING = "0.5.0"

ROOT_KEY = "The root id. Partitioned by murmur2 as Java does; librdkafka needs partitioner=murmur2_random."
ORIGINAL_KEY = "The key of the record that could not be read, as it was."

CHANNELS = {
    "commands": "Commands from producers, and follow-ups the service sends itself; LogAppendTime.",
    "events": "One event per accepted change, in order per root. Read with isolation.level=read_committed.",
    "replies": "One reply per command record. Read with isolation.level=read_committed.",
    "scheduler": "Ticks, between the service's own workers; partition n wakes commands partition n.",
    "alerts": "Alerts for the notification service. Read with isolation.level=read_committed.",
    "webhook_deliveries": "Webhook deliveries, keyed by destination; none are sent yet.",
    "dead_letters": "What could not be read as a command.",
}


def document(topics: Topics | None = None) -> JsonObject:
    """Describe every topic, message and operation, under the given topic names."""
    named = topics or Topics()
    commands = tuple(COMMAND_TYPES)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Turnstile",
            "version": CONTRACTS_VERSION,
            "description": "Commands in, exactly one outcome each, events out. Readers ignore fields they do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "kafka": {
                "host": "{bootstrap_servers}",
                "protocol": "kafka",
                "description": "The Kafka cluster, 3.3 or later.",
                "variables": {"bootstrap_servers": {"default": "localhost:9092"}},
            }
        },
        "channels": {
            "commands": _channel("commands", named.commands, *commands),
            "events": _channel("events", named.events, "event"),
            "replies": _channel("replies", named.replies, "reply"),
            "scheduler": _channel("scheduler", named.scheduler, "tick"),
            "alerts": _channel("alerts", named.alerts, "alert"),
            "webhook_deliveries": _channel("webhook_deliveries", named.webhook_deliveries),
            "dead_letters": _channel("dead_letters", named.dead_letters, "dead_letter"),
        },
        "operations": {
            "receive_command": _operation("receive", "commands", *commands)
            | {"reply": {"channel": _channel_ref("replies"), "messages": [_message_ref("replies", "reply")]}},
            "send_event": _operation("send", "events", "event"),
            "send_reply": _operation("send", "replies", "reply"),
            "send_alert": _operation("send", "alerts", "alert"),
            "send_dead_letter": _operation("send", "dead_letters", "dead_letter"),
            "send_tick": _operation("send", "scheduler", "tick"),
            "receive_tick": _operation("receive", "scheduler", "tick"),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(channel: str, topic: str, *messages: str) -> JsonObject:
    return {
        "address": topic,
        "description": CHANNELS[channel],
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": KAFKA_BINDING}},
    }


def _operation(action: str, channel: str, *messages: str) -> JsonObject:
    return {
        "action": action,
        "channel": _channel_ref(channel),
        "messages": [_message_ref(channel, name) for name in messages],
    }


def _channel_ref(channel: str) -> JsonObject:
    return {"$ref": f"#/channels/{channel}"}


def _message_ref(channel: str, message: str) -> JsonObject:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _messages() -> JsonObject:
    commands = {
        name: _message(name, model.__name__, key=ROOT_KEY, by_command=True) for name, model in COMMAND_TYPES.items()
    }
    return commands | {
        "event": _message("event", "Event", "event", "sla_event", key=ROOT_KEY, headers="Headers"),
        "reply": _message(
            "reply", "Reply", "reply", "rejected_reply", key=ROOT_KEY, headers="Headers", by_command=True
        ),
        "alert": _message("alert", "Alert", "alert", key=ROOT_KEY, headers="Headers"),
        "dead_letter": _message("dead_letter", "DeadLetter", "dead_letter", key=ORIGINAL_KEY, headers="Headers"),
        "tick": _message("tick", "Tick", "tick"),
    }


def _message(
    name: str,
    schema: str,
    *examples: str,
    key: str | None = None,
    headers: str = "OptionalHeaders",
    by_command: bool = False,
) -> JsonObject:
    message: JsonObject = {
        "name": name,
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": f"#/components/schemas/{headers}"},
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "examples": [
            {"name": example, "payload": PAYLOADS[example]} | ({"headers": HEADERS} if headers == "Headers" else {})
            for example in examples or (name,)
        ],
        "bindings": {"kafka": {"bindingVersion": KAFKA_BINDING}},
    }
    if key:
        message["bindings"]["kafka"]["key"] = {"type": "string", "description": key}
    if by_command:
        message["correlationId"] = {"location": "$message.payload#/command_id"}
    return message


def _schemas() -> JsonObject:
    """Every payload, as its reader sees a command and as its writer writes everything else."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in COMMAND_MODELS]
        + [(model, "serialization") for model in (Event, Reply, Alert, DeadLetter, Tick)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: JsonObject = definitions["$defs"]
    return schemas | {
        "Headers": _headers() | {"description": "CloudEvents 1.0 for Kafka, binary mode; absent ones are left out."},
        "OptionalHeaders": _headers(optional=True) | {"description": "As Headers; every one may be missing."},
    }


def _headers(*, optional: bool = False) -> JsonObject:
    """Header values are text on the wire: a header that has none is not written, so none is null."""
    fields = {field.alias or name: field for name, field in Headers.model_fields.items()}
    always = [name for name, field in fields.items() if field.is_required() or field.default is not None]
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in fields},
        "required": [] if optional else always,
    }
