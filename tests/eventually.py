"""Waiting without sleeping for a guess: ask again until it holds or a deadline passes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def assert_eventually(
    expected: T, actual: Callable[[], Awaitable[T]], *, deadline_seconds: float = 20, poll_seconds: float = 0.05
) -> None:
    """Assert that `actual()` comes to equal `expected` before the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_seconds
    found = await actual()
    while found != expected and loop.time() < deadline:
        await asyncio.sleep(poll_seconds)
        found = await actual()
    assert expected == found
