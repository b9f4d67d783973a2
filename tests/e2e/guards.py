"""The guard port wrapped: those of one partition hang until they are healed."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from contracts.predicates import Verdict
from domain.guards import Question
from handlers.placement import partition_of
from handlers.ports import Guards, verdicts
from service.adapters import Adapters, adapters
from service.settings import Settings
from service.store.pool import Pool


class HangingGuards:
    """Asks the engine behind it, but of `part` nothing comes back while they hang; `struck` counts those."""

    def __init__(self, part: int, partitions: int) -> None:
        self.part = part
        self.partitions = partitions
        self.struck = 0
        self._healthy = asyncio.Event()
        self._healthy.set()
        self._inner: Guards | None = None

    def hang(self) -> None:
        """Answer nothing of the partition from now on."""
        self._healthy.clear()

    def heal(self) -> None:
        """Answer everything, also what was asked while they hung."""
        self._healthy.set()

    def choose(self, settings: Settings, bootstrap_servers: str, pool: Pool) -> Adapters:
        """Return the real adapters with these guards around the real ones, for `service.app.running`."""
        chosen = adapters(settings, bootstrap_servers, pool)
        self._inner = chosen.guards
        return replace(chosen, guards=self)

    def ask(self, questions: Sequence[Question]) -> list[Verdict] | Awaitable[Sequence[Verdict]]:
        """Answer each question in its place, now or after healing."""
        assert self._inner is not None
        hangs = any(self._of_part(question) for question in questions) and not self._healthy.is_set()
        return self._later(questions) if hangs else self._inner.ask(questions)

    async def _later(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        self.struck += len(questions)
        await self._healthy.wait()
        assert self._inner is not None
        return await verdicts(self._inner, questions)

    def _of_part(self, question: Question) -> bool:
        return partition_of(question.inputs.workflow.root_id, self.partitions) == self.part
