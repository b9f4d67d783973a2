"""Guards judged by a real OPA, one by one and in batches."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.predicates import Guard, Verdict
from domain.guards import Question
from service.predicates.configured import remote_engine
from service.predicates.probe import probe
from service.predicates.remote import RemoteEngine
from service.settings import Settings
from tests.fakes.guards import question_of
from tests.policies.needed import needed_opa
from tests.policies.opa import serving

# It may have to be built, which takes minutes: that is for the tests that may take theirs.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
VERSION = f"{Path(__file__).parents[1] / 'policies' / 'bundle'} r7"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of one OPA for all."""
    with serving(needed_opa(), tmp_path_factory.mktemp("opa") / "log") as url:
        yield url


@pytest.fixture(params=[None, "turnstile/verdicts"], ids=["one by one", "in batches"])
async def engine(request: pytest.FixtureRequest, address: str, settings: Settings) -> AsyncIterator[RemoteEngine]:
    """Give an engine as the settings make it."""
    engine = remote_engine(
        settings.model_copy(
            update={"predicate_url": address, "predicate_opa_batch": request.param, "guard_seconds": 30.0}
        )
    )
    yield engine
    await engine.close()


def question(policy: str, *, name: str = "ann", amount: float = 0, state: str = "NEW") -> Question:
    """Return a question of the shop."""
    inputs = {
        "workflow": {"state": state},
        "command": {"context": {"amount": amount}},
        "actor": {"name": name},
        "children": [],
        "slas": [],
        "now": "2026-01-02T00:00:00.000000Z",
    }
    return question_of(Guard(engine="remote", expression=policy), inputs)


async def test_it_allows_denies_and_says_why(engine: RemoteEngine) -> None:
    """A denial has the policy's reason and values, each verdict the bundle's revision."""
    bob, ann = await engine.ask([question("shop/pay", name="bob", amount=250), question("shop/pay", amount=250)])
    assert Verdict(outcome="allow", engine="remote", policy_version=VERSION) == bob
    assert (
        Verdict(
            outcome="deny",
            clause="shop/pay",
            cause="250 is more than ann may pay",
            values={"command.context.amount": 250, "limit": 100},
            engine="remote",
            policy_version=VERSION,
        )
        == ann
    )


async def test_a_rule_without_a_result_denies(engine: RemoteEngine) -> None:
    """Undefined is OPA's no; of a policy that is not there too, so a wrong name opens nothing."""
    asked = [question("shop/open"), question("shop/open", state="DONE"), question("shop/nowhere")]
    assert ["allow", "deny", "deny"] == [verdict.outcome for verdict in await engine.ask(asked)]


async def test_what_is_no_verdict_opens_nothing(engine: RemoteEngine) -> None:
    """A text, and a rule on which OPA itself fails; the questions beside them are judged."""
    asked = [question("shop/open"), question("shop/odd"), question("shop/torn"), question("shop/open")]
    answers = [engine.ask([each]) for each in asked]
    assert ["allow", "unavailable", "unavailable", "allow"] == [(await answer)[0].outcome for answer in answers]


async def test_many_at_once_come_back_in_their_places(engine: RemoteEngine) -> None:
    """Whether one by one or in batches."""
    answers = [engine.ask([question("shop/pay", amount=amount)]) for amount in range(0, 300, 3)]
    expected = ["allow" if amount <= 100 else "deny" for amount in range(0, 300, 3)]
    assert expected == [(await answer)[0].outcome for answer in answers]


@pytest.mark.parametrize("batch", [None, "turnstile/verdicts", "turnstile/nowhere"])
async def test_it_answers_a_question_that_no_policy_is_for(address: str, settings: Settings, batch: str | None) -> None:
    """So it is seen to be well without a policy of ours; a rule for batches has to be there."""
    given = {"predicate_url": address, "predicate_opa_batch": batch, "predicate_seconds": 30.0, "guard_seconds": 30.0}
    asked = await probe(settings.model_copy(update=given))
    cause = "its answer has no list of verdicts" if batch == "turnstile/nowhere" else None
    assert cause == (asked.failed and asked.failed.cause)
    assert 0 < asked.seconds < 30
