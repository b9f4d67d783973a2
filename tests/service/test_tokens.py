"""Transactions are spent a few at a time, and none of them for ever in the others' way."""

import asyncio

import pytest

from service import tokens
from service.tokens import TokenBucket


async def test_so_many_at_once_and_the_rest_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is free again when its transaction ends; who came first goes first."""
    monkeypatch.setattr(tokens, "HELD_SECONDS_MAX", 60)
    bucket = TokenBucket(1_000_000, 1_000, at_once=2)
    begun: list[int] = []
    ends = [asyncio.Event() for _ in range(4)]

    async def spend(number: int) -> None:
        async with bucket.spend():
            begun.append(number)
            await ends[number].wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(spend(number))
        await _settle()
        assert [0, 1] == begun
        ends[1].set()
        await _settle()
        assert [0, 1, 2] == begun
        for end in ends:
            end.set()
    assert [0, 1, 2, 3] == begun


async def test_a_transaction_that_hangs_gives_its_place_to_others_once() -> None:
    """Many hang, all others begin; when the hanging ones end at last there are no more places than before."""
    bucket = TokenBucket(1_000_000, 1_000, at_once=2)
    healed = asyncio.Event()
    running = most = 0

    async def hang() -> None:
        async with bucket.spend():
            await healed.wait()

    async def spend() -> None:
        nonlocal running, most
        async with bucket.spend():
            running += 1
            most = max(most, running)
            await _settle()
            running -= 1

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(hang())
        await _settle()
        await spend()
        healed.set()
        for _ in range(20):
            group.create_task(spend())
    assert 2 == most


async def test_whoever_gives_up_waiting_takes_no_place() -> None:
    """A relay that is cancelled while it waits leaves the others theirs."""
    bucket = TokenBucket(1, 1, at_once=1)
    async with bucket.spend():
        waiting = asyncio.create_task(_spend(bucket))
        await _settle()
        waiting.cancel()
    sleeping = asyncio.create_task(_spend(bucket))  # no token is left for a second
    await _settle()
    sleeping.cancel()
    await asyncio.gather(waiting, sleeping, return_exceptions=True)
    async with asyncio.timeout(10):
        await _spend(bucket)


async def _spend(bucket: TokenBucket) -> None:
    async with bucket.spend():
        pass


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
