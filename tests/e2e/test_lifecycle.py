"""The main job: a command goes in, its outcome and its event come out, exactly once."""

from uuid import uuid4

import pytest

from client.client import Client
from service.app import Endpoints, running
from service.settings import Settings

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
async def test_a_workflow_is_created_and_moved(settings: Settings, endpoints: Endpoints, delivery: str) -> None:
    """Both delivery modes answer each command and publish each change."""
    chosen = settings.model_copy(update={"delivery": delivery})
    workflow_id = f"w-{uuid4()}"
    async with running(chosen, endpoints), Client(endpoints.bootstrap_servers, topics=chosen.topics) as client:
        created = await client.send(
            {"command_type": "create_workflow", "workflow_id": workflow_id, "definition": "alims.workflow"}
        )
        moved = await client.send(
            {"command_type": "request_transition", "workflow_id": workflow_id, "target_state": "ACTIVE"}
        )
    assert (("accepted", "CREATED", 1), ("accepted", "ACTIVE", 2)) == (
        (created.outcome, created.state, created.version),
        (moved.outcome, moved.state, moved.version),
    )
