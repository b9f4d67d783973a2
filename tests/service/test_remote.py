"""The remote engine against one that does as told: only a proper allow opens, and nobody's trouble is another's."""

import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.policies import PolicyAnswer, PolicyRequest, PolicyVerdict
from contracts.predicates import Guard, Verdict
from domain.guards import VARIABLES, Question
from service.predicates.breaker import State
from service.predicates.dialects import Dialect, Opa, PlainJson, Put, Unreadable
from service.predicates.remote import Bounds, RemoteEngine
from service.predicates.transport import ANSWER_BYTES_MAX, Http
from service.telemetry import Telemetry
from tests.eventually import assert_eventually
from tests.fakes.guards import question_of
from tests.policies.engine import Json, ScriptedEngine, say, scripted_engine

BOUNDS = Bounds(patience_seconds=20.0, seconds=10.0, retries=0, failures_max=1000)
DIALECTS = ["json", "opa", "opa batch"]
ALLOW = Verdict(outcome="allow", engine="remote")


def question(policy: str = "shop/open", **context: Any) -> Question:  # noqa: ANN401 - any JSON
    """Return a question that the scripted engine judges by its context."""
    inputs = {
        "workflow": {"workflow_id": "w", "state": "NEW"},
        "command": {"context": context},
        "actor": {"name": "ann"},
        "children": [],
        "slas": [],
        "now": "2026-01-02T00:00:00.000000Z",
    }
    return question_of(Guard(engine="remote", expression=policy), inputs)


def dialect(url: str, spoken: str = "json", batch_max: int = 100) -> Dialect:
    """Return what is spoken at an address."""
    if spoken == "json":
        return PlainJson(url, batch_max)
    return Opa(url, batch_max, "turnstile/verdicts" if spoken == "opa batch" else None)


@asynccontextmanager
async def asking(
    scripted: ScriptedEngine, bounds: Bounds = BOUNDS, spoken: str = "json", batch_max: int = 100
) -> AsyncIterator[RemoteEngine]:
    """Open an engine that asks the scripted one, and close it."""
    engine = RemoteEngine(dialect(scripted.url, spoken, batch_max), Http(connections=bounds.concurrency), bounds)
    try:
        yield engine
    finally:
        await engine.close()


async def outcomes(*answers: "asyncio.Future[Any]") -> list[str]:
    """Return the outcomes of single questions."""
    return [(await answer)[0].outcome for answer in answers]


@pytest.mark.parametrize("spoken", DIALECTS)
async def test_allow_and_deny_come_back_in_their_places(spoken: str) -> None:
    """A denial brings its reason and values; its clause is the policy."""
    async with scripted_engine() as scripted, asking(scripted, spoken=spoken) as engine:
        found = await engine.ask([question(), question("shop/close", deny="late"), question()])
    denied = Verdict(
        outcome="deny",
        clause="shop/close",
        cause="it is to be denied",
        values={"command.context.deny": "late"},
        engine="remote",
    )
    assert [ALLOW, denied, ALLOW] == found


@pytest.mark.parametrize(("spoken", "requests"), [("json", 1), ("opa batch", 1), ("opa", 5)])
async def test_questions_of_one_turn_of_the_loop_share_a_request(spoken: str, requests: int) -> None:
    """Whoever asks; OPA's plain rules take one each."""
    async with scripted_engine() as scripted, asking(scripted, spoken=spoken) as engine:
        answers = [engine.ask([question(deny=number % 2)]) for number in range(5)]
        assert ["allow", "deny", "allow", "deny", "allow"] == await outcomes(*answers)
    assert (requests, 5) == (len(scripted.requests), sum(map(len, scripted.requests)))


async def test_while_all_requests_are_under_way_the_next_questions_gather() -> None:
    """No more requests at once than may be, none larger than may be, and each question is asked once."""
    bounds = replace(BOUNDS, concurrency=2)
    async with scripted_engine() as scripted, asking(scripted, bounds, batch_max=10) as engine:
        scripted.seconds = 0.01
        answers = []
        for _ in range(40):
            answers.append(engine.ask([question()]))
            await asyncio.sleep(0)
        assert ["allow"] * 40 == await outcomes(*answers)
        assert (2, 40, True) == (
            scripted.at_once_most,
            sum(map(len, scripted.requests)),
            all(len(each) <= 10 for each in scripted.requests),
        )
        assert len(scripted.requests) <= 12


@pytest.mark.parametrize(("spoken", "path"), [("json", None), ("opa", "input"), ("opa batch", "input")])
async def test_what_is_sent_is_what_is_documented(spoken: str, path: str | None) -> None:
    """A plain request is the contract's, OPA's has the same below `input`."""
    inputs = question().inputs.whole()
    sent = orjson.loads(dialect("http://x", spoken).request([Put("shop/open", orjson.dumps(inputs))]).body)
    inner = sent if path is None else sent[path]
    if spoken == "opa":
        assert inputs == inner
    else:
        asked = PolicyRequest.model_validate(inner).questions[0]
        assert ("shop/open", inputs) == (asked.policy, asked.input)


async def test_a_token_is_read_for_each_request(tmp_path: Path) -> None:
    """So that it may be changed under a running worker; without its file nothing is sent."""
    file = tmp_path / "token"
    async with scripted_engine() as scripted:
        engine = RemoteEngine(dialect(scripted.url), Http(connections=1, token_file=file), BOUNDS)
        for token in ("one", "two"):
            file.write_text(f"{token}\n")
            await engine.ask([question()])
        file.unlink()
        (verdict,) = await engine.ask([question()])
        await engine.close()
    assert ["Bearer one", "Bearer two"] == [each["authorization"] for each in scripted.headers]
    assert "TURNSTILE_PREDICATE_TOKEN_FILE" in (verdict.cause or "")


# What is no proper verdict, as an engine might say it: of one question, in the plain dialect.
NO_VERDICTS: list[Any] = [
    None, "true", 1, 1.0, 0, "allow", [], [True], {}, {"allow": "true"}, {"allow": 1}, {"allow": None}, {"Allow": True},
    {"allow": [True]}, {"result": True}, {"allow": True, "reason": 1}, {"allow": True, "values": [1]},
    {"allow": True, "policy_version": 7},
]  # fmt: skip


@pytest.mark.parametrize("verdict", NO_VERDICTS, ids=repr)
@pytest.mark.parametrize("spoken", DIALECTS)
async def test_what_is_no_verdict_opens_nothing(spoken: str, verdict: object) -> None:
    """Of the wrong type or shape; the others of its request are judged all the same."""

    def judge(policy: str, _: Json) -> object:
        return verdict if policy == "odd" else True

    async with scripted_engine(judge) as scripted, asking(scripted, spoken=spoken) as engine:
        answers = [engine.ask([question(name)]) for name in ("even", "odd", "level")]
        even, odd, level = await outcomes(*answers)
    undefined = spoken == "opa" and isinstance(verdict, dict) and "allow" not in verdict
    assert ("allow", "deny" if undefined else "unavailable", "allow") == (even, odd, level)


# Whole answers that are none.
BODIES: list[object] = [
    b"", b"ok", b"<html>", b"true", b"[true]", b"null", b'{"verdicts":[true]', b'{"verdicts":true}', b'{"verdicts":[]}',
    b'{"verdicts":[true,true]}', b'{"verdicts":{"0":true}}', b'{"result":true,"result":"x"}', b'{"allow":true}',
    b'{"error":"no"}', b'{"verdicts":[NaN]}', b'{"verdicts":["\\ud800"]}', b"[" * 200_000, b'{"verdicts":' * 100_000,
    b"\x1f\x8b\x08\x00", b"\xff\xfe{\x00}\x00",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:30])
@pytest.mark.parametrize("spoken", DIALECTS)
async def test_an_answer_that_cannot_be_read_is_unavailable(spoken: str, body: bytes) -> None:
    """Garbage, another shape, verdicts missing or too many."""
    async with scripted_engine() as scripted, asking(scripted, spoken=spoken) as engine:
        scripted.fault = lambda _, __, writer: say(writer, body)
        (verdict,) = await engine.ask([question()])
    assert ("unavailable", True) == (verdict.outcome, (verdict.cause or "").startswith("the policy engine: "))


def raw(text: bytes) -> Callable[..., Any]:
    """Return a fault that says something."""
    return lambda _, __, writer: writer.write(text)


async def drip(_: ScriptedEngine, __: Json, writer: asyncio.StreamWriter) -> None:
    """Say a proper answer so slowly that it never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
    for letter in b'{"verdicts": [true]}'[:-1]:
        writer.write(bytes([letter]))
        await asyncio.sleep(0.02)
    await asyncio.sleep(60)


async def drip_head(_: ScriptedEngine, __: Json, writer: asyncio.StreamWriter) -> None:
    """Never come to an end of the headers."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x-more: 1\r\n")
        await asyncio.sleep(0.02)


async def silence(_: ScriptedEngine, __: Json, ___: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.sleep(60)


LATE = "did not answer within"
SAYS_ALLOW = b'{"verdicts": [true]}'
FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "500": (lambda _, __, writer: say(writer, SAYS_ALLOW, "500 Oh"), "status 500"),
    "503": (lambda _, __, writer: say(writer, SAYS_ALLOW, "503 Busy"), "status 503"),
    "404": (lambda _, __, writer: say(writer, SAYS_ALLOW, "404 No"), "status 404"),
    "201": (lambda _, __, writer: say(writer, SAYS_ALLOW, "201 Made"), "status 201"),
    "redirect": (
        lambda self, _, writer: say(writer, SAYS_ALLOW, "307 Go", f"location: {self.url}/elsewhere"),
        "status 307",
    ),
    "no http": (raw(b"SSH-2.0-OpenSSH_9\r\n"), "does not speak HTTP"),
    "cut": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n" + SAYS_ALLOW), "the policy engine"),
    "nothing": (raw(b""), "cannot be reached"),
    "headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000), "does not speak HTTP"),
    "gzip": (lambda _, __, writer: say(writer, b"\x1f\x8b", "200 OK", "content-encoding: gzip"), "not JSON"),
    "slow": (drip, LATE),
    "slow head": (drip_head, LATE),
    "silent": (silence, LATE),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_faulty_engine_opens_nothing(fault: str) -> None:
    """Whatever it does, the cause says it, and one question is one request."""
    does, cause = FAULTS[fault]
    bounds = replace(BOUNDS, seconds=0.5) if cause == LATE else BOUNDS
    async with scripted_engine() as scripted, asking(scripted, bounds) as engine:
        scripted.fault = does
        (verdict,) = await engine.ask([question()])
        assert (1, "unavailable", True) == (len(scripted.requests), verdict.outcome, cause in (verdict.cause or ""))


@pytest.mark.parametrize("declared", [True, False])
async def test_an_endless_answer_is_refused_in_bounded_memory(*, declared: bool) -> None:
    """Whether it says how long it is or not: no more than the limit and what the sockets hold is taken."""
    sent = 0

    async def endless(_engine: ScriptedEngine, _body: Json, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        length = b"content-length: 1073741824" if declared else b"transfer-encoding: chunked"
        writer.write(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % length)
        piece = b" " * 65536
        for _ in range(1024 * 1024 * 1024 // len(piece)):
            writer.write(piece if declared else b"10000\r\n%s\r\n" % piece)
            sent += len(piece)
            await writer.drain()

    async with scripted_engine() as scripted, asking(scripted) as engine:
        scripted.fault = endless
        tracemalloc.start()
        (verdict,) = await engine.ask([question()])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"more than {ANSWER_BYTES_MAX} bytes" in (verdict.cause or "")
        assert (True, True) == (peak < 16 * ANSWER_BYTES_MAX, sent < 64 * ANSWER_BYTES_MAX)


async def test_one_question_that_the_engine_fails_on_is_found_by_halving() -> None:
    """The other nineteen of its request have their verdicts, and the breaker stays closed."""

    def fails(_: ScriptedEngine, body: Json, writer: asyncio.StreamWriter) -> bool:
        policies = [each["policy"] for each in body["questions"]]
        if "bad" in policies:
            return say(writer, {}, "500 Oh")
        return say(writer, {"verdicts": [True for _ in policies]})

    names = ["good"] * 7 + ["bad"] + ["good"] * 12
    async with scripted_engine() as scripted, asking(scripted, replace(BOUNDS, failures_max=2)) as engine:
        scripted.fault = fails
        found = await outcomes(*[engine.ask([question(name)]) for name in names])
        assert ["unavailable" if name == "bad" else "allow" for name in names] == found
        scripted.fault = None
        assert ["allow"] == await outcomes(engine.ask([question()]))


async def test_where_every_part_fails_the_engine_is_to_blame() -> None:
    """A large batch is not taken apart to the last question."""
    async with scripted_engine() as scripted, asking(scripted) as engine:
        scripted.fault = FAULTS["500"][0]
        assert ["unavailable"] * 64 == await outcomes(*[engine.ask([question()]) for _ in range(64)])
        assert [64, 32, 32] == [len(each) for each in scripted.requests]


async def test_an_engine_that_comes_back_within_the_tries_is_not_noticed() -> None:
    """What cannot be reached and what says 5xx is tried again; the metrics tell."""
    telemetry = Telemetry()
    async with scripted_engine() as scripted, asking(scripted, replace(BOUNDS, retries=2)) as engine:
        engine.report_to(telemetry.predicates)
        faults: Iterator[Callable[..., Any]] = iter([FAULTS["nothing"][0], FAULTS["503"][0]])

        def twice(*given: Any) -> Any:  # noqa: ANN401 - as a fault
            return next(faults, lambda _, __, writer: say(writer, SAYS_ALLOW))(*given)

        scripted.fault = twice
        assert ["allow"] == await outcomes(engine.ask([question()]))
    assert 2 == telemetry.registry.get_sample_value("turnstile_predicate_retries_total")


async def test_what_was_answered_is_not_asked_again() -> None:
    """A status below 500, a verdict that is none, or silence would be the same the next time."""
    for name in ("404", "201", "redirect", "no http", "silent"):
        seconds = 0.5 if name == "silent" else 10.0
        async with (
            scripted_engine() as scripted,
            asking(scripted, replace(BOUNDS, seconds=seconds, retries=3)) as engine,
        ):
            scripted.fault = FAULTS[name][0]
            await engine.ask([question()])
            assert (name, 1) == (name, len(scripted.requests))


async def test_an_open_breaker_answers_at_once_and_closes_by_itself() -> None:
    """After failures in a row nothing is sent for a while; then one question probes, and the others wait for it."""
    bounds = replace(BOUNDS, failures_max=2, open_seconds=0.7)
    telemetry = Telemetry()

    async def state() -> float:
        return telemetry.registry.get_sample_value("turnstile_predicate_breaker_state") or 0.0

    async with scripted_engine() as scripted, asking(scripted, bounds) as engine:
        engine.report_to(telemetry.predicates)
        assert State.CLOSED == await state()
        scripted.fault = FAULTS["500"][0]
        for _ in range(2):
            await engine.ask([question()])
        assert State.OPEN == await state()
        answer = engine.ask([question()])
        assert (True, 2) == (answer.done(), len(scripted.requests))
        (verdict,) = await answer
        assert (
            "the policy engine is not asked for a while, since 2 tries in a row failed: it answered with status 500"
            == verdict.cause
        )
        await assert_eventually(float(State.HALF_OPEN), state)
        assert ["unavailable"] * 3 == await outcomes(*[engine.ask([question()]) for _ in range(3)])
        assert [1, 1, 1] == [len(each) for each in scripted.requests]
        scripted.fault = None
        await assert_eventually(float(State.HALF_OPEN), state)
        assert ["allow"] * 9 == await outcomes(*[engine.ask([question()]) for _ in range(9)])
        assert (State.CLOSED, [1, 8]) == (await state(), [len(each) for each in scripted.requests[3:]])


async def test_an_engine_that_is_not_there_opens_the_breaker() -> None:
    """Refused connections are failures too."""
    async with scripted_engine() as scripted, asking(scripted, replace(BOUNDS, failures_max=2)) as engine:
        await scripted.down()
        causes = [(await engine.ask([question()]))[0].cause or "" for _ in range(3)]
        assert [True, True] == ["cannot be reached" in cause for cause in causes[:2]]
        assert "is not asked for a while" in causes[2]


async def test_questions_wait_for_a_place_no_longer_than_they_may() -> None:
    """Behind requests that hang they are unavailable in time, though they were never sent."""
    bounds = replace(BOUNDS, patience_seconds=1.0, concurrency=1)
    async with scripted_engine() as scripted, asking(scripted, bounds, batch_max=1) as engine:
        scripted.fault = silence
        answers = [engine.ask([question()]) for _ in range(3)]
        causes = [(await answer)[0].cause or "" for answer in answers]
        assert "did not answer within" in causes[0]
        assert ["other requests to the policy engine took all the time it had"] * 2 == causes[1:]
        assert 1 == len(scripted.requests)


async def test_who_gives_up_disturbs_nobody() -> None:
    """One under way and two that wait are dropped; the others of their requests are answered, nothing is left over."""
    async with scripted_engine() as scripted, asking(scripted, replace(BOUNDS, concurrency=1)) as engine:
        scripted.seconds = 0.05
        under_way = [engine.ask([question(name)]) for name in ("a", "b")]
        await assert_eventually([["a", "b"]], lambda: _requests(scripted), poll_seconds=0.001)
        waiting = [engine.ask([question(name)]) for name in ("c", "d", "e", "f")]
        for answer in (under_way[0], waiting[0], waiting[2]):
            answer.cancel()
        assert ["allow"] * 3 == await outcomes(under_way[1], waiting[1], waiting[3])
        assert [["a", "b"], ["d", "f"]] == scripted.requests


async def _requests(scripted: ScriptedEngine) -> list[list[str]]:
    return scripted.requests


async def test_closing_answers_what_is_asked() -> None:
    """What is under way, what waits and what comes later are unavailable; no connection stays."""
    async with scripted_engine() as scripted, asking(scripted, replace(BOUNDS, concurrency=1)) as engine:
        scripted.fault = silence
        answers = [engine.ask([question()])]
        await assert_eventually(1, lambda: _number(scripted), poll_seconds=0.001)
        answers.append(engine.ask([question()]))
        await engine.close()
        answers.append(engine.ask([question()]))
        assert ["the worker is stopping"] * 3 == [(await answer)[0].cause for answer in answers]


async def _number(scripted: ScriptedEngine) -> int:
    return len(scripted.requests)


async def test_inputs_that_are_no_json_are_that_questions_trouble() -> None:
    """It is unavailable, and the one beside it is judged."""
    odd = question_of(Guard(engine="remote", expression="odd"), {"workflow": object()})
    async with scripted_engine() as scripted, asking(scripted) as engine:
        found = await engine.ask([odd, question()])
        assert [["shop/open"], "unavailable", "allow"] == [*scripted.requests, *[each.outcome for each in found]]


async def test_a_large_input_goes_alone() -> None:
    """A request is bounded in bytes too, but for a single question's."""
    async with scripted_engine() as scripted, asking(scripted) as engine:
        large = "x" * 700_000
        assert ["allow"] * 3 == await outcomes(*[engine.ask([question(text=large)]) for _ in range(3)])
        assert [1, 1, 1] == [len(each) for each in scripted.requests]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"a": "x" * 2000}, {"a": "(2002 bytes, not shown)"}),
        ({"a": "nul \0"}, {"a": "(not shown)"}),
        ({"a\0": 1}, {"a\N{SYMBOL FOR NULL}": 1}),
        ({"a": 2**63}, {"a": "(not shown)"}),
        ({"a": [[[[[[[[[1]]]]]]]]]}, {"a": "(not shown)"}),
        ({"a": {"b": [1, None, "c"]}}, {"a": {"b": [1, None, "c"]}}),
        ({}, None),
        ({f"{number:02}": number for number in range(30)}, {f"{number:02}": number for number in range(20)}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_are_cut_to_what_a_reply_can_carry(told: Json, shown: Json | None) -> None:
    """An engine's values reach the store and the topics."""
    body = orjson.dumps({"verdicts": [{"allow": False, "values": told}]})
    (verdict,) = dialect("http://x").verdicts([Put("p", b"{}")], body)
    assert ("deny", shown) == (verdict.outcome, verdict.values)


@pytest.mark.parametrize("depth", [255, 1000])
def test_values_that_are_too_deep_to_be_written_cost_only_themselves(depth: int) -> None:
    """They can be read, and are told as not shown: the denial stands, and so does what else was asked."""
    body = b'{"verdicts":[{"allow":false,"values":{"deep":%s,"flat":1}},true]}' % (b"[" * depth + b"]" * depth)
    denied, allowed = dialect("http://x").verdicts([Put("p", b"{}")] * 2, body)
    assert ("deny", {"deep": "(not shown)", "flat": 1}) == (denied.outcome, denied.values)
    assert allowed.outcome == "allow"


@pytest.mark.parametrize(
    ("besides", "version"),
    [
        ({}, None),
        ({"decision_id": "7"}, "decision 7"),
        (
            {"provenance": {"version": "1.0", "bundles": {"b": {"revision": "r2"}, "a": {"revision": "r1"}}}},
            "a r1, b r2",
        ),
        ({"provenance": {"bundles": 1}, "decision_id": ["x"]}, None),
        ({"provenance": 7}, None),
    ],
)
@pytest.mark.parametrize("result", [{"result": True}, {"result": False}, {}])
def test_opa_says_what_it_judged_by(result: Json, besides: Json, version: str | None) -> None:
    """Its bundles' revisions, else the decision's id; and a rule without a result denies."""
    (verdict,) = dialect("http://x", "opa").verdicts([Put("p", b"{}")], orjson.dumps({**result, **besides}))
    assert ("allow" if result.get("result") else "deny", version) == (verdict.outcome, verdict.policy_version)


def test_the_documented_messages_are_the_contracts() -> None:
    """The examples of docs/predicates.md are what is sent and read."""
    text = (Path(__file__).parents[2] / "docs" / "predicates.md").read_text("utf-8")
    blocks = [orjson.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    seen, request, answer = blocks
    assert set(VARIABLES) == set(seen) == set(PolicyRequest.model_validate(request).questions[0].input)
    (verdict,) = PolicyAnswer.model_validate(answer).verdicts
    (read,) = dialect("http://x").verdicts([Put("shop/pay", b"{}")], orjson.dumps(answer))
    assert isinstance(verdict, PolicyVerdict)
    assert ("deny", verdict.reason, verdict.values, verdict.policy_version) == (
        read.outcome,
        read.cause,
        read.values,
        read.policy_version,
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["allow", "verdicts", "x"]), inner),
    max_leaves=5,
)


@given(verdicts=st.lists(JSON | st.booleans() | st.fixed_dictionaries({"allow": JSON | st.booleans()}), max_size=4))
def test_only_true_opens_whatever_is_said(verdicts: list[Any]) -> None:
    """An allow is given for exactly those places that hold one; nothing raises, and the contract reads the same."""
    questions = [Put("p", b"{}")] * 3
    body = orjson.dumps({"verdicts": verdicts})
    try:
        found = dialect("http://x").verdicts(questions, body)
    except Unreadable:
        found = []
    opens = [each is True or (isinstance(each, dict) and each.get("allow") is True) for each in verdicts]
    assert all(said for verdict, said in zip(found, opens, strict=len(found) == 3) if verdict.outcome == "allow")
    if len(verdicts) == 3 and any(opens):
        plain = [each if isinstance(each, bool) else {"allow": each["allow"]} for each in verdicts if _is_verdict(each)]
        assert len(plain) == len(PolicyAnswer.model_validate({"verdicts": plain}).verdicts)


def _is_verdict(said: object) -> bool:
    return isinstance(said, bool) or (isinstance(said, dict) and isinstance(said.get("allow"), bool))
