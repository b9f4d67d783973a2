"""Light traffic for someone who watches: a few workflows at a time, each to its end, and now and then a denial."""

import asyncio
from itertools import count, cycle

from service.demo.scene import Scene, together

WALKERS = 3
PAUSE_SECONDS = 0.7
KEPT_WORKFLOWS_MAX = 50
WALKS = (
    ("ACTIVE", "COMPLETED"),
    ("ACTIVE", "PAUSED", "ACTIVE", "COMPLETED"),
    ("ACTIVE", "FAILED", "ACTIVE", "COMPLETED"),
    ("ACTIVE", "PAUSED", "CANCELLED"),
    ("ACTIVE", "FAILED", "CANCELLED"),
)
DENIED_EVERY = 4


async def go_on(scene: Scene) -> None:
    """Send commands and show what comes of them until cancelled; then close what is open."""
    numbers, walks = count(1), cycle(WALKS)

    async def walk_on() -> None:
        while True:
            number = next(numbers)
            await _walk(scene, number, next(walks))
            if number % KEPT_WORKFLOWS_MAX == 0:
                scene.events.forget()
                scene.replies.clear()

    scene.events.listener = scene.screen.event
    try:
        await together(walk_on() for _ in range(WALKERS))
    finally:
        scene.events.listener = None


async def _walk(scene: Scene, number: int, walk: tuple[str, ...]) -> None:
    await scene.create(number)
    for target in walk:
        await asyncio.sleep(PAUSE_SECONDS)
        if target == walk[-1] and number % DENIED_EVERY == 0:
            scene.screen.came_back(await scene.move(number, target, context={"hold": True}), None)
            await asyncio.sleep(PAUSE_SECONDS)
        await scene.move(number, target)
