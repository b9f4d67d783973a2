"""Image and compose file, run: broker, database, set-up and worker in containers, commands from outside."""

import asyncio
import json
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from client.client import Client
from tests.deploy.containers import Composition, composition, engine_answers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture
def composed() -> Iterator[Composition]:
    """Give the compose file's services, to be started."""
    if not engine_answers():
        pytest.skip("no Docker engine")
    with composition() as given:
        yield given


def page(address: str, path: str) -> str:
    """Return a page of the worker."""
    with urlopen(f"{address}{path}", timeout=10) as answer:  # noqa: S310 - a container of this test
        return str(answer.read().decode())


async def test_the_compose_file_s_services_do_the_main_job(composed: Composition) -> None:
    """A command from outside is decided and its event published; a restarted worker goes on, SIGTERM ends it well."""
    servers = [composed.start("kafka"), composed.start("postgres")]
    for server in servers:
        await asyncio.to_thread(server.until_healthy)
    setup = composed.start("setup")
    assert 0 == await asyncio.to_thread(setup.ended), setup.log()
    worker = composed.start("worker")
    await asyncio.to_thread(worker.until_healthy)

    async with Client(f"localhost:{composed.broker_port}") as client:
        body = {"command_type": "create_workflow", "workflow_id": "boxed", "definition": "alims.workflow"}
        created = await client.send(body, timeout_seconds=60)
        metrics = page(worker.address, "/metrics")
        await asyncio.to_thread(worker.restart)
        await asyncio.to_thread(worker.until_healthy)
        body = {"command_type": "request_transition", "workflow_id": "boxed", "target_state": "ACTIVE"}
        moved = await client.send(body, timeout_seconds=60)
        events = client.subscribe(from_beginning=True)
        async with asyncio.timeout(60):
            seen = [await anext(events), await anext(events)]

    assert [("CREATED", 1), ("ACTIVE", 2)] == [(created.state, created.version), (moved.state, moved.version)]
    assert [("CREATED", 1), ("ACTIVE", 2)] == [(event.to_state, event.sequence) for event in seen]
    assert 'workflow_transition_total{entity_type="workflow",result="accepted"} 1.0' in metrics
    assert json.loads(page(worker.address, "/health/ready"))["ready"]
    assert "10001\n" == worker.run("id", "-u")
    assert 0 == await asyncio.to_thread(worker.stop)
    lines = [json.loads(line) for line in worker.log().splitlines()]
    assert "service.stopped" == lines[-1]["event"]
