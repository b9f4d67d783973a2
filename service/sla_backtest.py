"""Recorded SLAs judged again under another calendar or target: from the journal alone, changing nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.calendar import Calendar
from domain.definition import Definition
from domain.sla_backtest import Figures, Past, Terms, compare
from domain.sla_config import Configured
from domain.sla_terms import SlaTerms
from domain.target import working_time
from handlers.ticks import Clock
from service.store.calendars import calendars_of, newest_calendar
from service.store.load import load_definition
from service.store.pool import Connection
from service.store.reads import clocks
from service.store.recorded import chosen, histories
from service.store.sla_config import load_configured

Report = Callable[[int, int], None]
History = Sequence[dict[str, Any]]


class UnusableTermsError(Exception):
    """What is asked of the candidate cannot be promised: an SLA or calendar that is not there, a time that is none."""


@dataclass(slots=True)
class SlaComparison:
    """What a backtest of SLAs came to; `workflows` counts those that had been promised something."""

    workflows: int = 0
    figures: dict[str, Figures] = field(default_factory=dict)


@dataclass(slots=True)
class SlaBacktest:
    """The backtest of one definition's SLAs; what it reads more than once it keeps."""

    connection: Connection
    clock: Clock
    name: str
    terms: Terms
    definitions: dict[int, Definition] = field(default_factory=dict)
    calendars: dict[tuple[str, int | None], Calendar] = field(default_factory=dict)
    configured: Configured = field(default_factory=Configured)
    found: SlaComparison = field(default_factory=SlaComparison)

    @property
    def promised(self) -> set[str]:
        """The names of all SLAs that the workflows may have."""
        return {name for definition in self.definitions.values() for name in self._terms(definition)}

    def _terms(self, definition: Definition) -> dict[str, SlaTerms]:
        configs = [each for each in self.configured.versions.values() if each.is_for(definition)]
        return {**definition.slas, **{each.terms.name: each.terms_in(definition) for each in configs}}

    async def run(self, *, since: datetime | None, limit: int, report: Report) -> SlaComparison:
        """Judge the SLAs of the newest workflows again; raises UnusableTermsError."""
        workflows = await chosen(self.connection, self.name, since=since, limit=limit)
        self.configured = await load_configured(self.connection)
        total, done = sum(map(len, workflows.values())), 0
        report(0, total)
        for part, ids in sorted(workflows.items()):
            now = self.clock.now(*await clocks(self.connection, part))
            async for some in histories(self.connection, part, ids):
                for history in some:
                    await self._take(history, now)
                done += len(some)
                report(done, total)
        return self.found

    async def _take(self, history: History, now: datetime) -> None:
        versions = {event["definition_version"] for event in history}
        for version in versions - self.definitions.keys():
            await self._know(version)
        await self._know_calendars(history)
        definitions = {version: self.definitions[version] for version in versions}
        if any("slas" in event for event in history):
            self.found.workflows += 1
        compare(Past(history, definitions, self.calendars, self.configured), self.terms, self.found.figures, now)

    async def _know(self, version: int) -> None:
        """Read a version of the definition and the calendars that it may start SLAs under."""
        definition = await load_definition(self.connection, self.name, version)
        if definition is None:
            raise LookupError(f"there is no definition {self.name} version {version}")
        self.definitions[version] = definition
        if self.terms.calendar is not None:
            await self._load(*self.terms.calendar)
        for each in self.terms.applied_to(self._terms(definition)).values():
            calendar = None
            if each.calendar is not None:
                calendar = await self._newest(each.calendar)
            day = None if calendar is None else calendar.working_day
            for text in each.times if calendar is not None else ():
                if isinstance(unclear := working_time(text, day), str):
                    raise UnusableTermsError(f"SLA {each.name} under calendar {each.calendar}: {unclear}")

    async def _newest(self, name: str) -> Calendar:
        """Return the calendar that counts as the newest of its name: the candidate's, where it is that one."""
        if (name, None) not in self.calendars:
            asked = self.terms.calendar
            version = asked[1] if asked is not None and asked[0] == name else None
            version = version or await newest_calendar(self.connection, name)
            if version is None:
                raise UnusableTermsError(f"there is no calendar {name}")
            self.calendars[name, None] = await self._load(name, version)
        return self.calendars[name, None]

    async def _load(self, name: str, version: int) -> Calendar:
        if (name, version) not in self.calendars:
            try:
                self.calendars |= await calendars_of(self.connection, [(name, version)])
            except LookupError as error:
                raise UnusableTermsError(str(error)) from error
        return self.calendars[name, version]

    async def _know_calendars(self, history: History) -> None:
        bodies = [body for event in history for body in event.get("slas", {}).values()]
        for name, version in {(body.get("calendar"), body.get("calendar_version")) for body in bodies}:
            if name is not None and version is not None:
                await self._load(name, version)
