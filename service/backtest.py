"""Recorded commands judged again: the journal says what was decided, the topic what was asked; nothing is changed."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from domain.backtest import Comparison
from handlers.backtest import Candidate, Recorded, judge_again
from handlers.ports import Record
from service.broker.positions import Reader
from service.store.pool import Connection
from service.store.recorded import Answered, answered, chosen

AT_ONCE = 50

Report = Callable[[int, int], None]


async def backtest(
    connection: Connection,
    reader: Reader,
    candidate: Candidate,
    definition: str,
    *,
    since: datetime | None,
    limit: int,
    report: Report = lambda _done, _total: None,
) -> Comparison:
    """Judge the commands of a definition's newest workflows again; `report` hears how many are done, of how many.

    One partition at a time, so that no more than the records of its chosen workflows are in memory. Some workflows side
    by side, since an engine may take its time to answer.
    """
    comparison = Comparison()
    workflows = await chosen(connection, definition, since=since, limit=limit)
    total = sum(map(len, workflows.values()))
    report(0, total)
    for part, ids in sorted(workflows.items()):
        decided: dict[str, list[Answered]] = {}
        async for some in answered(connection, part, ids):
            decided |= some
        offsets = {each.record_offset for rows in decided.values() for each in rows}
        records: dict[int, Record] = {record.offset: record async for record in reader.commands(part, offsets)}
        recorded = [
            (
                name,
                [
                    Recorded(records.get(row.record_offset), row.reply, row.event, row.digest, row.decided_at)
                    for row in rows
                ],
            )
            for name, rows in decided.items()
        ]
        for start in range(0, len(recorded), AT_ONCE):
            together = recorded[start : start + AT_ONCE]
            await asyncio.gather(*(judge_again(name, kept, candidate, comparison) for name, kept in together))
            report(comparison.workflows, total)
    return comparison
