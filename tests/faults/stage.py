"""What a fault acts on: servers, workers that can be struck, a client that keeps sending; and the verdict."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from service.app import Endpoints
from service.local.stack import LocalStack
from service.settings import Settings
from tests.e2e.load import commands
from tests.e2e.outside import Put, WorkerProcess, all_decided, environment, rows
from tests.eventually import PATIENCE_SECONDS, assert_eventually
from tests.faults.evidence import gather, judge
from tests.faults.history import Findings
from tests.faults.points import Action, Arm, Strike, armed, strikes, write_down
from tests.faults.sender import Sender, spoilt

WORKFLOWS = 40
"""How many there are from the start in a load of all sorts."""


class Hand(WorkerProcess):
    """One worker, started with arms; it may strike itself, or be struck from outside."""

    def __init__(self, settings: Settings, endpoints: Endpoints, folder: Path, name: str) -> None:
        super().__init__(settings, endpoints, folder / f"{name}.log")
        self.name = name
        self.struck = folder / "struck"
        self.mutant = "none"
        self.through = endpoints
        self._began = 0
        self.via: str | None = None
        self.surroundings: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The process; 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def owner(self) -> str:
        """The name under which it owns partitions."""
        return f"{socket.gethostname()}:{self.pid}"

    async def begin(self, *arms: Arm) -> None:
        """Start it with arms; it joins the group in its own time."""
        words = ["--struck", str(self.struck), "--mutant", self.mutant, *armed(*arms)]
        if self.via is not None:
            words += ["--via", self.via]
        with self._log.open("ab") as log:
            self._began = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.faults.worker", *words),
                env=environment(self._settings, self.through) | self.surroundings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def up(self) -> None:
        """Wait until it has started: before, it would not hear a signal to stop."""

        async def said() -> str:
            since = self._log.read_bytes()[self._began :]
            assert self._process is not None
            assert self._process.returncode is None, f"{self.name} has ended by itself: see {self._log}"
            return "started" if b"service.started" in since else "starting"

        await assert_eventually("started", said)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal from outside, and write that down as a strike."""
        action = {signal.SIGKILL: Action.KILL, signal.SIGSTOP: Action.STAND_STILL}.get(number)
        if action is not None:
            write_down(self.struck, Strike("anywhere", action, self.pid, time.time()))
        os.kill(self.pid, number)

    def reach(self, endpoints: Endpoints, via: str | None) -> None:
        """Take another way to the servers from its next start on."""
        self.through, self.via = endpoints, via

    @property
    def leads(self) -> bool:
        """Whether it took over the ticks since it was started."""
        return self.pid != 0 and b"ticks.leading" in self._log.read_bytes()[self._began :]

    async def trying(self) -> str:
        """Tell whether its relay has had to try again."""
        return "again" if "relay.retry" in self._log.read_text() else "once"

    async def gone(self) -> None:
        """Wait until it has ended, however that came."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._process.wait()


class Window(NamedTuple):
    """A stretch of a round on the client's clock, but for one partition if it is named."""

    began: float
    ended: float
    but_for: int | None = None


@dataclass
class Stage:
    """One round: its workers share one group, one prefix and one database of their own."""

    settings: Settings
    endpoints: Endpoints
    folder: Path
    sender: Sender
    hands: list[Hand]
    chance: random.Random
    stack: LocalStack | None = None
    stops: list[float] = field(default_factory=list)
    windows: dict[str, Window] = field(default_factory=dict)

    @property
    def struck(self) -> list[Strike]:
        """Every strike so far."""
        return strikes(self.folder / "struck")

    async def keep_still(self, seconds: float) -> None:
        """Let the load run without a fault, to compare with."""
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        self.windows["calm"] = Window(began, asyncio.get_running_loop().time())

    def latencies(self, window: Window) -> list[float]:
        """Return the seconds from sending to seeing the reply of what was sent in a window, in rising order."""
        part = None if window.but_for is None else f"{window.but_for}/"
        return sorted(
            self.sender.answers[sent.place] - sent.sent_at
            for sent in self.sender.log
            if window.began <= sent.sent_at < window.ended
            and sent.place in self.sender.answers
            and not (part and sent.place.startswith(part))
        )

    async def until_struck(self, number: int, hand: Hand) -> None:
        """Wait until so many strikes were written down by a worker's process."""
        pid = hand.pid

        async def found() -> int:
            return min(number, sum(strike.pid == pid for strike in self.struck))

        await assert_eventually(number, found)

    async def until_moving(self) -> None:
        """Wait until turns are taken on every partition again."""
        before: dict[int, int] = {}

        async def standing() -> list[int]:
            turns = await self._turns()
            if not before:
                before.update(turns)
            return [part for part, turn in turns.items() if turn <= before.get(part, 0)] or [-1] * (not turns)

        nothing: list[int] = []
        await assert_eventually(nothing, standing, poll_seconds=0.2)

    async def until_owned_without(self, *hands: Hand) -> None:
        """Wait until every partition belongs to a worker that lives and is none of these."""
        owners = {hand.owner for hand in self.hands if hand not in hands and hand.pid}

        async def others() -> int:
            found = await rows(self.endpoints, "select owner from partition")
            return sum(row["owner"] in owners for row in found)

        await assert_eventually(self.settings.partitions, others, poll_seconds=0.2)

    async def until_well(self) -> None:
        """Wait until every worker has started, every partition belongs to one of them, and all of them move."""
        for hand in self.hands:
            await hand.up()
        await self.until_owned_without()
        await self.until_moving()

    async def until_shared(self) -> None:
        """Wait until each worker that lives owns partitions, and all of them move."""
        owners = {hand.owner for hand in self.hands if hand.pid}

        async def seen() -> set[str]:
            return {row["owner"] for row in await rows(self.endpoints, "select owner from partition")}

        await assert_eventually(owners, seen, poll_seconds=0.2)
        await self.until_moving()

    async def join(self, *arms: Arm, mutant: str = "none") -> Hand:
        """Let one more worker come."""
        hand = Hand(self.settings, self.endpoints, self.folder, f"worker-{len(self.hands)}")
        hand.mutant = mutant
        self.hands.append(hand)
        await hand.begin(*arms)
        return hand

    async def stop(self, hand: Hand) -> None:
        """Stop a worker as an operator would, and note when."""
        await hand.up()
        self.stops.append(time.time())
        assert 0 == await hand.stop(), hand.name

    async def leave(self) -> None:
        """See to it that no worker is left, also of those that stand still."""
        await asyncio.gather(*(hand.end() for hand in self.hands))

    async def verdict(self) -> Findings:
        """Send no more, wait until all is decided and published, stop everything and judge what is left."""
        await self.sender.settle()
        with suppress(AssertionError):  # what is left undone is among the findings
            await all_decided(self.settings, self.endpoints)
        for hand in self.hands:
            if hand.pid:
                await hand.up()
            assert 0 == await hand.stop(), hand.name
        evidence = self.folder / "evidence"
        await gather(self.settings, self.endpoints, self.sender, evidence)
        repeats = self.settings.delivery == "at-least-once" and bool(self.struck)
        with heeding_ctrl_c():
            return await judge(evidence, repeats=repeats)

    async def _turns(self) -> dict[int, int]:
        return {row["part"]: row["turn"] for row in await rows(self.endpoints, "select part, turn from partition")}


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end what computes for long at once: asyncio's way would be to end it when it next waits."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who acts: `hands` workers, armed and mutated one by one as far as given; how fast the client sends, and what.

    Unless a `stream` is given it sends all sorts of commands, some of them spoilt.
    """

    seed: int
    hands: int = 3
    per_second: int = 120
    arms: Sequence[Sequence[Arm]] = ()
    mutants: Sequence[str] = ()
    stream: Iterator[Put] | None = None


@asynccontextmanager
async def staged(
    settings: Settings, endpoints: Endpoints, folder: Path, cast: Cast, *, stack: LocalStack | None = None
) -> AsyncIterator[Stage]:
    """Start a round; its workers and its client are gone after the block."""
    crew = [Hand(settings, endpoints, folder, f"worker-{number}") for number in range(cast.hands)]
    for hand, mutant in zip(crew, cast.mutants, strict=False):
        hand.mutant = mutant
    stream = cast.stream or spoilt(
        commands(seed=cast.seed, workflows=WORKFLOWS), seed=cast.seed, partitions=settings.partitions
    )
    sender = Sender(settings, endpoints, stream, per_second=cast.per_second)
    stage = Stage(settings, endpoints, folder, sender, crew, random.Random(cast.seed), stack)
    async with AsyncExitStack() as leaving:
        leaving.push_async_callback(stage.leave)
        for number, hand in enumerate(crew):
            await hand.begin(*(cast.arms[number] if number < len(cast.arms) else ()))
        await leaving.enter_async_context(sender.running())
        yield stage
