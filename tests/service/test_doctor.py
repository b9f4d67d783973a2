"""`doctor` by itself: what it says without servers, and of a policy engine that is well or ill."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.cli.exits import Exit
from service.cli.verbs.doctor import hidden
from service.settings import Settings
from tests.policies.engine import ScriptedEngine, say, scripted_engine
from tests.service.command_line import CommandLine, Said

Doctor = Callable[..., Said]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, turnstile: CommandLine) -> Doctor:
    """Give the verb where no broker and no database runs, with settings of the environment."""

    def ask(*words: str, **variables: str) -> Said:
        for name, text in variables.items():
            monkeypatch.setenv(f"TURNSTILE_PREDICATE_{name.upper()}", text)
        return turnstile("doctor", *words)

    return ask


def of_policies(said: Said) -> list[str]:
    """Return what is wrong with the policy engine, in words."""
    return [line for line in orjson.loads(said.out)["problems"] if "policy engine" in line]


def test_without_servers_it_is_ill(doctor: Doctor) -> None:
    """Every setting is listed, and both servers are missed; a policy engine that nobody named is not."""
    said = doctor("--json")
    told = orjson.loads(said.out)
    assert (Exit.SURROUNDINGS, False) == (said.code, told["healthy"])
    assert [f"TURNSTILE_{name.upper()}" for name in Settings.model_fields] == [
        each["variable"] for each in told["settings"]
    ]
    assert (2, None) == (len(told["problems"]), told["policy_engine"])
    assert {"TURNSTILE_DATA_DIR"} == {each["variable"] for each in told["settings"] if each["from"] == "environment"}


def test_a_misspelt_setting_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be passed over in silence; what merely begins alike is somebody else's."""
    for name in ("PARTITONS", "CACHE_DIR", "EVENT_LOGS", "JAVA", "PORT", "SERVICE_HOST", "PORT_9464_TCP_ADDR"):
        monkeypatch.setenv(f"TURNSTILE_{name}", "9")
    problem = "TURNSTILE_PARTITONS is no setting and counts for nothing: write TURNSTILE_PARTITIONS or remove it"
    assert [problem] == [each for each in orjson.loads(doctor("--json").out)["problems"] if "is no setting" in each]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:s3cr:et@db/x", "postgresql://ann:***@db/x"),
        ("https://ann:half@other@opa:8181/v1", "https://ann:***@opa:8181/v1"),
        (
            "postgresql://db/x?user=ann&password=s3cret&sslmode=require",
            "postgresql://db/x?user=ann&password=***&sslmode=require",
        ),
        ("postgresql://db/x?sslPassword=s@cret", "postgresql://db/x?sslPassword=***"),
        ("postgresql://db/x?passfile=/etc/pg", "postgresql://db/x?passfile=***"),
        ("https://opa/v1?a=b&access_token=s3cret", "https://opa/v1?a=b&access_token=***"),
        ("postgresql://db/x", "postgresql://db/x"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("postgresql://:pw@db", "postgresql://:***@db"),
    ],
)
def test_a_password_is_hidden(address: str, shown: str) -> None:
    """What doctor shows people has no password in it."""
    assert shown == hidden(address)


@pytest.mark.parametrize(
    ("dialect", "batch"), [("json", None), ("opa", None), ("opa", "turnstile/verdicts")], ids=["json", "opa", "batch"]
)
@pytest.mark.parametrize("verdict", [True, False])
async def test_a_policy_engine_that_judges_is_well(
    doctor: Doctor, dialect: str, batch: str | None, *, verdict: bool
) -> None:
    """Whatever it answers to a policy that need not be there; it is asked one question, and its time is told."""
    given = {"dialect": dialect} | ({} if batch is None else {"opa_batch": batch})
    async with scripted_engine(lambda _, __: verdict) as scripted:
        scripted.seconds = 0.05
        said = await asyncio.to_thread(doctor, "--json", url=scripted.url, **given)
    found = orjson.loads(said.out)["policy_engine"]
    assert ([], [["turnstile/doctor"]]) == (of_policies(said), scripted.requests)
    assert (scripted.url, True) == (found["address"], found["answers"])
    assert 0.05 <= found["seconds"] < 1


def broken(*said: Any) -> Callable[..., bool]:  # noqa: ANN401 - any answer
    """Return a fault that says something."""
    return lambda _, __, writer: say(writer, *said)


AS_IT_WANTS = "see whether TURNSTILE_PREDICATE_URL, _DIALECT and _OPA_BATCH are as it wants them"
UNWANTED = "it does not take the token of TURNSTILE_PREDICATE_TOKEN_FILE, or wants one and that is not set"
FAULTS = {
    "500": (broken({}, "500 Oh"), "it answered with status 500; its own log says why"),
    "401": (broken({}, "401 Who"), f"it answered with status 401; {UNWANTED}"),
    "403": (broken({}, "403 No"), f"it answered with status 403; {UNWANTED}"),
    "404": (broken({}, "404 Where"), f"it answered with status 404; {AS_IT_WANTS}"),
    "garbage": (broken(b"<html>"), f"its answer is not JSON; {AS_IT_WANTS}"),
    "another shape": (broken({"verdicts": [True]}), f"its answer has no result; {AS_IT_WANTS}"),
    "no verdict": (broken({"result": "yes"}), f"its verdict is of type str; {AS_IT_WANTS}"),
    "SSH": (
        lambda _, __, writer: writer.write(b"SSH-2.0\r\n"),
        f"it does not speak HTTP: ClientResponseError; {AS_IT_WANTS}",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_policy_engine_that_fails_is_told_with_what_to_do(doctor: Doctor, fault: str) -> None:
    """In one line, after one request: a worker would try again, but whoever asks the doctor wants to see it."""
    async with scripted_engine() as scripted:
        scripted.fault, problem = FAULTS[fault]
        said = await asyncio.to_thread(doctor, "--json", url=scripted.url)
        assert 1 == len(scripted.requests)
    assert [f"the policy engine at {scripted.url}: {problem}"] == of_policies(said)
    assert (Exit.SURROUNDINGS, False) == (said.code, orjson.loads(said.out)["policy_engine"]["answers"])


async def test_a_policy_engine_that_is_late_is_told(doctor: Doctor) -> None:
    """It has the time that one try has."""

    async def silence(*_: object) -> None:
        await asyncio.sleep(60)

    async with scripted_engine() as scripted:
        scripted.fault = silence
        said = await asyncio.to_thread(doctor, "--json", url=scripted.url, seconds="0.2")
    more = "look at its load, or give it more time by TURNSTILE_PREDICATE_SECONDS"
    assert [f"the policy engine at {scripted.url}: it did not answer within 0.2 s; {more}"] == of_policies(said)


async def test_a_policy_engine_that_is_down_is_told(doctor: Doctor) -> None:
    """As one that refuses connections."""
    url = ScriptedEngine().url
    (problem,) = of_policies(await asyncio.to_thread(doctor, "--json", url=url))
    assert problem.startswith(f"the policy engine at {url}: it cannot be reached: ")
    assert problem.endswith("; start it, or say by TURNSTILE_PREDICATE_URL where it is")


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
async def test_no_credentials_are_shown(doctor: Doctor, tmp_path: Path, words: list[str]) -> None:
    """A token is sent and not said, nor is a password in the address; a token's file that is away is named."""
    token = tmp_path / "token"
    token.write_text("t0ken\n", "utf-8")
    async with scripted_engine() as scripted:
        said = await asyncio.to_thread(doctor, *words, url=scripted.url, token_file=str(token))
        assert ["Bearer t0ken"] == [each["authorization"] for each in scripted.headers]
        port = scripted.port
    away = await asyncio.to_thread(doctor, *words, url=f"http://ann:s3cret@127.0.0.1:{port}")
    token.write_bytes(b"\xff\xfet0ken")
    strange = await asyncio.to_thread(doctor, *words, url=scripted.url)
    assert (
        "TURNSTILE_PREDICATE_TOKEN_FILE cannot be read: UnicodeDecodeError; name another" in strange.out + strange.err
    )
    token.unlink()
    lost = await asyncio.to_thread(doctor, *words, url=scripted.url)
    assert "TURNSTILE_PREDICATE_TOKEN_FILE cannot be read: No such file or directory; name another" in (
        lost.out + lost.err
    )
    for each in (said, away, strange, lost):
        assert [] == [word for word in ("t0ken", "s3cret") if word in each.out + each.err]
    assert f"http://ann:***@127.0.0.1:{port}" in away.out


async def test_people_read_one_line(doctor: Doctor) -> None:
    """Of one that answers with its time, of none a dash."""
    async with scripted_engine() as scripted:
        said = await asyncio.to_thread(doctor, url=scripted.url)
    (line,) = [line for line in said.out.splitlines() if line.startswith("policy_engine")]
    assert f'policy_engine       {{"address":"{scripted.url}","answers":true,"seconds":0.' in line
