"""A command is carried out once, however often it comes."""

from collections import Counter
from typing import Any

import orjson
import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.outside import all_decided, creation, move, outcomes, put, read_json, send

pytestmark = pytest.mark.stack


async def _replies(settings: Settings, endpoints: Endpoints, command_id: str) -> list[dict[str, Any]]:
    replies = await read_json(endpoints, settings.topics.replies)
    return [reply for reply in replies if reply["command_id"] == command_id]


def _first(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in reply.items() if name != "duplicate"}


async def test_a_thousand_repeats_change_one_thing(settings: Settings, endpoints: Endpoints) -> None:
    """One of the thousand makes an event, the others get its reply and are told that they are repeats."""
    body = creation("w")
    again = dict(reversed(body.items())) | {"submitted_at": "2999-01-01T00:00:00Z"}
    async with running(settings, endpoints):
        await send(endpoints, settings.topics.commands, [put(body), *[put(body)] * 900, *[put(again)] * 99])
        await all_decided(settings, endpoints)
    assert Counter(accepted=1, duplicate=999) == Counter((await outcomes(settings, endpoints)).values())
    first, *others = await _replies(settings, endpoints, body["command_id"])
    assert [first] * 999 == [_first(reply) for reply in others]
    assert [(body["command_id"], 1, "CREATED")] == [
        (event["command_id"], event["version"], event["to_state"])
        for event in await read_json(endpoints, settings.topics.events)
    ]


async def test_an_id_used_for_something_else_is_refused(settings: Settings, endpoints: Endpoints) -> None:
    """Other content or another tenant under a used id changes nothing and learns nothing of the first."""
    body = creation("w", tenant="one", metadata={"secret": "value"})
    others = [
        body | {"metadata": {"secret": "other"}},
        body | {"tenant": "two"},
        move("w", "ACTIVE") | {"command_id": body["command_id"]},
    ]
    async with running(settings, endpoints):
        await send(endpoints, settings.topics.commands, [put(each) for each in [body, *others, body]])
        await all_decided(settings, endpoints)
    replies = await _replies(settings, endpoints, body["command_id"])
    codes = [reply.get("rejection", {}).get("code", reply["outcome"]) for reply in replies]
    assert ["accepted", *["COMMAND_ID_REUSED"] * 3, "accepted"] == codes
    assert [False] * 3 == ["events" in reply or b"secret" in orjson.dumps(reply) for reply in replies[1:4]]
    strangers = [reply.get("state") for reply in replies[2:4]]
    assert [None, None] == strangers
    assert 1 == len(await read_json(endpoints, settings.topics.events))


async def test_a_repeat_after_a_restart_gets_the_first_reply(settings: Settings, endpoints: Endpoints) -> None:
    """Another worker answers accepted and refused commands as the first one did."""
    bodies = [creation("w"), move("w", "COMPLETED"), move("w", "ACTIVE")]
    records = [put(body) for body in bodies]
    for _ in range(2):
        async with running(settings, endpoints):
            await send(endpoints, settings.topics.commands, records)
            await all_decided(settings, endpoints)
    replies = [await _replies(settings, endpoints, body["command_id"]) for body in bodies]
    assert [["accepted", None], ["rejected", "INVALID_TRANSITION"], ["accepted", None]] == [
        [first["outcome"], first.get("rejection", {}).get("code")] for first, _ in replies
    ]
    assert [first | {"duplicate": True} for first, _ in replies] == [again for _, again in replies]
    assert 2 == len(await read_json(endpoints, settings.topics.events))
