"""Waiting without sleeping for a guess: ask again until it holds or a deadline passes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 90.0
"""For a machine that is busy with other things: no test measures a time by its deadline."""


async def assert_eventually(
    expected: T,
    actual: Callable[[], Awaitable[T]],
    *,
    deadline_seconds: float = PATIENCE_SECONDS,
    poll_seconds: float = 0.05,
) -> None:
    """Assert that `actual()` comes to equal `expected` before the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_seconds
    found = await actual()
    while found != expected and loop.time() < deadline:
        await asyncio.sleep(poll_seconds)
        found = await actual()
    assert expected == found
