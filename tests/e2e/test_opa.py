"""A workflow whose guards a real OPA judges, from the command to what `why` says of the denial."""

from pathlib import Path

import orjson
import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.outside import all_decided, command, creation, define, outcomes, put, send, turnstile
from tests.policies.needed import needed_opa
from tests.policies.opa import serving

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
PAYMENT = """
name: shop.payment
version: 1
states:
  NEW: {initial: true}
  PAID: {terminal: true}
transitions:
  - {name: pay, from: NEW, to: PAID, guard: {remote: shop/pay}}
"""


async def test_a_denial_is_explained_in_the_policys_words(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """Who asks why reads the reason, the policy and the values it rests on; whoever may pay more passes."""
    await define(endpoints, PAYMENT)
    denied = command("p-1", transition="pay", requested_by="ann", context={"amount": 250})
    allowed = command("p-1", transition="pay", requested_by="bob", context={"amount": 250})
    with serving(needed_opa(), tmp_path / "log") as url:
        asking = settings.model_copy(update={"predicate_url": url})
        async with running(asking, endpoints):
            records = [put(creation("p-1", "shop.payment")), put(denied)]
            places = await send(endpoints, settings.topics.commands, records)
            await all_decided(settings, endpoints)
            _, why = await turnstile(settings, endpoints, "why", "p-1")
            _, why_json = await turnstile(settings, endpoints, "why", denied["command_id"], "--json")
            places += await send(endpoints, settings.topics.commands, [put(allowed)])
            await all_decided(settings, endpoints)
    told = await outcomes(settings, endpoints)
    assert ["accepted", "GUARD_DENIED", "accepted"] == [told[place] for place in places]
    assert (
        "GUARD_DENIED: the guard of pay denied it: 250 is more than ann may pay "
        "unmet shop/pay command.context.amount = 250 limit = 100"
    ) in " ".join(why.decode().split())
    (rejection,) = [reply["rejection"] for reply in orjson.loads(why_json)["outcomes"]]
    verdict = rejection["why"].pop("verdict")
    assert ("remote", True) == (verdict["engine"], verdict["policy_version"].endswith(" r7"))
    assert {"clause": "shop/pay", "values": {"command.context.amount": 250, "limit": 100}} == rejection["why"]


async def test_without_the_setting_a_remote_guard_says_what_is_missing(
    settings: Settings, endpoints: Endpoints
) -> None:
    """A definition is the store's, its engine the worker's: the definition applies, and the guard stays shut."""
    await define(endpoints, PAYMENT)
    async with running(settings, endpoints):
        records = [put(creation("p-1", "shop.payment")), put(command("p-1", transition="pay"))]
        places = await send(endpoints, settings.topics.commands, records)
        await all_decided(settings, endpoints)
        code, why = await turnstile(settings, endpoints, "why", "p-1")
    told = await outcomes(settings, endpoints)
    assert (["accepted", "PREDICATE_UNAVAILABLE"], 0) == ([told[place] for place in places], code)
    assert "set TURNSTILE_PREDICATE_URL" in " ".join(why.decode().split())
