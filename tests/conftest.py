"""The servers that tests share: one embedded broker and database a session, or those the settings name."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings

from service.app import Endpoints
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Settings
from service.store.pool import fresh_database

# A run finds the same cases as the last one; the long form looks at many more.
hypothesis_settings.register_profile("default", derandomize=True, deadline=None, database=None)
hypothesis_settings.register_profile("slow", derandomize=True, deadline=None, database=None, max_examples=3_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Endpoints]:
    """Give one broker and one database server for the whole session."""
    given = Settings()
    if given.bootstrap_servers is not None and given.database_url is not None:
        yield Endpoints(given.bootstrap_servers, given.database_url)
        return
    folder = Path(tempfile.mkdtemp(prefix="turnstile-tests-"))
    with asyncio.Runner() as runner:
        stack = LocalStack(folder)
        local = runner.run(stack.start())
        try:
            yield Endpoints(local.bootstrap_servers, local.database_url)
        finally:
            runner.run(stack.stop())
            runner.run(erase(folder))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Give settings under which a test is alone on the shared servers: a prefix and a group of its own."""
    for name in [name for name in os.environ if name.startswith("TURNSTILE_") and name != "TURNSTILE_EVENT_LOGS"]:
        monkeypatch.delenv(name)
    name = f"t{uuid4().hex[:12]}"
    return Settings(prefix=name, group_id=name, http_port=0, partitions=3, log_level="error")


@pytest.fixture
async def endpoints(servers: Endpoints, settings: Settings) -> AsyncIterator[Endpoints]:
    """Give a prepared broker and a database of the test's own."""
    async with fresh_database(servers.database_url, settings.prefix) as database_url:
        given = Endpoints(servers.bootstrap_servers, database_url)
        await prepare(settings, given)
        yield given
