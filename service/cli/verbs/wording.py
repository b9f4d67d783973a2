"""Replies, rejections and lengths of time in words, the same wherever they are shown."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Json = Mapping[str, Any]

_NAMES = {"part": "partition", "n_parts": "partitions"}


def named(row: Json) -> dict[str, Any]:
    """Return a row of the store with its columns named as people know them."""
    return {_NAMES.get(name, name): value for name, value in row.items()}


def reply_lines(reply: Json) -> Iterator[str]:
    """Say what became of a command."""
    repeated = " (repeated)" if reply.get("duplicate") else ""
    if reply["outcome"] == "accepted":
        way = " -> ".join(reply[name] for name in ("from_state", "to_state") if reply.get(name))
        yield f"accepted{repeated}  {reply['workflow_id']}  {way or reply.get('state')}  version {reply.get('version')}"
    else:
        yield f"rejected{repeated}  {reply['workflow_id']}  command {reply['command_id']}"
        yield from rejection_lines(reply["rejection"])


def rejection_lines(rejection: Json) -> Iterator[str]:
    """Say why a command was refused and what was allowed then."""
    yield f"  {rejection['code']}: {rejection['message']}"
    why = rejection.get("why")
    if why:
        yield f"  unmet    {why.get('clause')}"
        for name, value in (why.get("values") or {}).items():
            yield f"           {name} = {orjson.dumps(value).decode()}"
        if why.get("verdict"):
            yield f"  guard    {verdict_line(why['verdict'])}"
    allowed = rejection.get("allowed")
    if allowed is not None:
        yield f"  allowed  {', '.join(map(way_out, allowed)) or 'nothing'}"
    if rejection.get("retryable"):
        yield "  it may pass later: send the same command again, with the same command_id"


def verdict_line(verdict: Json) -> str:
    """Say what is kept of a guard's verdict."""
    said = f"{verdict['engine']} said {verdict['outcome']}"
    if "policy_version" in verdict:
        said += f" by policy {verdict['policy_version']}"
    if "latency_us" in verdict:
        said += f" after {verdict['latency_us'] / 1000:.3f} ms"
    if "inputs_digest" in verdict:
        said += f", inputs {verdict['inputs_digest']}"
    return f"{said}, asked at {verdict['asked_at']}" if "asked_at" in verdict else said


def length_of(span: float) -> str:
    """Say seconds, to the millisecond, in hours, minutes and seconds: a day would be unclear."""
    minutes, rest = divmod(round(span * 1000), 60_000)
    parts = ((minutes // 60, "h"), (minutes % 60, "m"), (f"{rest / 1000:g}" if rest else 0, "s"))
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def way_out(allowed: Json) -> str:
    """Say a transition as it is asked for."""
    guarded = " [guard]" if allowed.get("guarded") else ""
    return f"{allowed['transition']} -> {allowed['target_state']}{guarded}"
