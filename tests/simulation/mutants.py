"""The protocol with one rule left out each, by other adapters and never in the product: the simulation must see it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from aiokafka.errors import KafkaError

from handlers.faults import Transient
from handlers.ports import JournalRow, Loaded, Ownership, Wanted
from service.broker.publishers import TransactionalPublisher
from tests.simulation.clients import Producer
from tests.simulation.database import Database
from tests.simulation.world import Maker, Parts


@dataclass(frozen=True, slots=True)
class Mutant:
    """What a world is built of, and the rules that break in it."""

    parts: Parts
    breaks: frozenset[str]


class Unfenced(Database):
    """Whoever writes may write: neither epoch nor turn nor offset is looked at."""

    def _fence(self, owned: Ownership) -> Ownership:
        return self.rows[owned.part]


class Forgetful(Database):
    """No decided command is remembered."""

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Load all but what was decided."""
        loaded = await super().load(owned, wanted)
        return Loaded(loaded.now, loaded.workflows, loaded.places, {}, loaded.latest)


class Hasty(Database):
    """Whoever finds log and store apart may halt, without a look at whether another owner went on."""

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Halt at once."""
        await super().note_halted(self.rows[owned.part], reason)


class CursorFirst(TransactionalPublisher):
    """Reads the cursor, and only then fences whoever may still move it."""

    async def start(self) -> int | None:
        """Start in the wrong order."""
        try:
            cursor = await self._read_cursor()
        except KafkaError as error:
            raise Transient(repr(error)) from error
        await super().start()
        return cursor


class OneForAll(TransactionalPublisher):
    """The worker's one transactional id serves every partition, so a successor fences nobody."""

    def __init__(self, part: int, maker: Maker) -> None:
        super().__init__(part, **maker.given)
        self._producer = Producer(transactional_id=maker.worker)


class Clinging:
    """A publisher that is used on after an error, and believes what it remembers."""

    def __init__(self, part: int, given: dict[str, Any]) -> None:
        self._inner = TransactionalPublisher(part, **given)
        self._cursor: int | None = None
        self._started = False

    async def start(self) -> int | None:
        """Start once; later, say how far it got by its own account."""
        if not self._started:
            self._cursor = await self._inner.start()
            self._started = True
        return self._cursor

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish, and after an error abort and go on with the same producer."""
        try:
            await self._inner.publish(rows)
        except Transient:
            with suppress(KafkaError):
                await self._inner._producer.abort_transaction()  # noqa: SLF001 - nobody else should have it
            raise
        self._cursor = rows[-1][0] + 1

    async def close(self) -> None:
        """Keep it."""


def _clinging(part: int, maker: Maker) -> Clinging:
    kept: dict[int, Clinging] = maker.kept
    if part not in kept:
        kept[part] = Clinging(part, maker.given)
    return kept[part]


def _unawaited() -> AbstractContextManager[object]:
    async def leave(_: object) -> None:
        """Let the sends fail as they like."""

    return patch("service.broker.publishers._all", leave)


MUTANTS = {
    "no fence": Mutant(Parts(database=Unfenced), frozenset({"one owner", "one outcome", "gapless journal"})),
    "dedup forgotten": Mutant(Parts(database=Forgetful), frozenset({"audit"})),
    "cursor before epoch": Mutant(
        Parts(publisher=lambda part, maker: CursorFirst(part, **maker.given)), frozenset({"published once"})
    ),
    "one producer for all": Mutant(
        Parts(publisher=OneForAll), frozenset({"published once", "published in order", "live"})
    ),
    "unawaited sends": Mutant(Parts(during=_unawaited), frozenset({"published in order", "live"})),
    "halt not confirmed": Mutant(Parts(database=Hasty), frozenset({"no fault of ours"})),
    "publisher kept": Mutant(Parts(publisher=_clinging), frozenset({"published once", "live"})),
}
