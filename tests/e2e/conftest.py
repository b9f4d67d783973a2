"""What the tests of a whole service share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from service.app import Endpoints
from service.settings import Settings
from tests.e2e.outside import environment
from tests.e2e.terminal import Terminal


@pytest.fixture
def terminal(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """Give a shell in a folder of its own; the service beside it says nothing but errors."""
    for name, text in environment(settings, endpoints).items():
        if name.startswith("TURNSTILE_"):
            monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield Terminal(tmp_path)
    structlog.reset_defaults()
