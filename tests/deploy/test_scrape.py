"""The monitoring on a real worker: what it exports, and a real Prometheus with our configuration where there is one."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.client import Client
from service.app import Endpoints, running
from service.local.ports import choose_port
from service.settings import Settings
from tests.deploy.files import ROOT, expressions, metrics_of, rules
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack


async def ask(url: str) -> str:
    """Return a page of this machine."""

    def get() -> str:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - a page of this machine
            return str(answer.read().decode())

    return await asyncio.to_thread(get)


@contextmanager
def prometheus(program: str, folder: Path, worker: str) -> Iterator[str]:
    """Run Prometheus on our configuration as it is, with a file of targets; gives its address."""
    shutil.copytree(ROOT / "deploy/prometheus", folder / "configuration")
    (folder / "configuration/targets").mkdir()
    (folder / "configuration/targets/here.yml").write_text(
        json.dumps([{"targets": [urlsplit(worker).netloc]}]), "utf-8"
    )
    address = f"127.0.0.1:{choose_port(range(32000, 32700), None)}"
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'configuration/prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


async def told(address: str, path: str) -> Any:  # noqa: ANN401 - any answer
    """Return what Prometheus answers, None while it does not."""
    try:
        return json.loads(await ask(f"{address}/api/v1/{path}"))["data"]
    except OSError:
        return None


async def test_a_worker_is_watched(settings: Settings, endpoints: Endpoints, tmp_path: Path) -> None:
    """Each metric that an alert or a panel names is on the worker's page; Prometheus reads it and no alert rings."""
    async with (
        running(settings, endpoints) as service,
        Client(endpoints.bootstrap_servers, topics=settings.topics) as c,
    ):
        for command in (
            {"command_type": "create_workflow", "definition": "alims.workflow"},
            {"command_type": "request_transition", "target_state": "ACTIVE"},
        ):
            reply = await c.send(command | {"workflow_id": "watched"}, timeout_seconds=60)
            assert "accepted" == reply.outcome

        async def leading() -> bool:
            return "turnstile_ticks_leading 1.0" in await ask(f"{service.address}/metrics")

        await assert_eventually(expected=True, actual=leading)
        page = list(text_string_to_metric_families(await ask(f"{service.address}/metrics")))
        shown = {family.name for family in page} | {sample.name for family in page for sample in family.samples}
        named = {name for expression in expressions() for name in metrics_of(expression)} - {"up"}
        assert set() == {name for name in named if name not in shown and name.removesuffix("_total") not in shown}
        decided = [s for family in page for s in family.samples if s.name == "workflow_transition_total"]
        assert [("accepted", 2.0)] == [(sample.labels["result"], sample.value) for sample in decided]

        program = shutil.which("prometheus")
        if program is None:
            return  # what Prometheus would say of the configuration, promtool and the tests beside this one do
        with prometheus(program, tmp_path, service.address) as address:

            async def scraped() -> set[str]:
                targets = (await told(address, "targets") or {"activeTargets": []})["activeTargets"]
                return {target["health"] for target in targets}

            async def judged() -> set[tuple[str, str]]:
                groups = (await told(address, "rules?type=alert") or {"groups": []})["groups"]
                return {(rule["name"], rule["health"]) for group in groups for rule in group["rules"]}

            await assert_eventually({"up"}, scraped, poll_seconds=0.5)
            await assert_eventually({(rule["alert"], "ok") for rule in rules()}, judged, poll_seconds=0.5)
            for expression in expressions():
                assert "result" in await told(address, f"query?query={quote(expression)}")
            assert [] == [a for a in (await told(address, "alerts"))["alerts"] if a["state"] == "firing"]
            (up,) = (await told(address, "query?query=up"))["result"]
            assert ("turnstile", "1") == (up["metric"]["job"], up["value"][1])


async def test_a_partition_is_shown_by_its_owner_alone(settings: Settings, endpoints: Endpoints) -> None:
    """Where a second worker takes partitions over, the first shows no more of them."""

    async def parts(address: str) -> set[str]:
        families = text_string_to_metric_families(await ask(f"{address}/metrics"))
        samples = [sample for family in families for sample in family.samples]
        return {sample.labels["part"] for sample in samples if sample.name == "turnstile_outbox_depth"}

    async with running(settings, endpoints) as first:
        await assert_eventually({"0", "1", "2"}, lambda: parts(first.address))
        async with running(settings, endpoints) as second:

            async def shared() -> tuple[set[str], bool]:
                here, there = await parts(first.address), await parts(second.address)
                return here | there, bool(here) and bool(there) and not here & there

            await assert_eventually(({"0", "1", "2"}, True), shared)
