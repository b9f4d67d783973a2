"""SLAs that are promised by configuration, beside those of definitions: which are promised to a workflow.

A run goes on under the version that promised it, whatever is configured later; only what starts takes the newest.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Self

from contracts.slas import ConfiguredSlaDocument
from domain.definition import Definition
from domain.findings import Finding
from domain.sla import SlaRecord, open_records, parse_record
from domain.sla_terms import SlaTerms, check_clause, compile_terms
from domain.workflow import Workflow

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class SlaConfig:
    """One version of a configured SLA; its terms lack what each definition adds: where it begins and ends."""

    name: str
    version: int
    definition: str | None
    kind: str | None
    retired: bool
    terms: SlaTerms

    def is_for(self, definition: Definition) -> bool:
        """Whether it is about workflows of a definition."""
        return definition.name == self.definition or definition.kind == self.kind

    def terms_in(self, definition: Definition) -> SlaTerms:
        """Return its terms as a definition completes them."""
        return _completed(self, definition.initial, definition.terminal)


@lru_cache(1024)
def _completed(config: SlaConfig, initial: str, terminal: frozenset[str]) -> SlaTerms:
    terms = config.terms
    return replace(terms, starts=terms.starts or frozenset((initial,)), stops=terms.stops | terminal)


class Configured(NamedTuple):
    """All that is configured: the newest of each name, and every version that a run may be under."""

    newest: tuple[SlaConfig, ...] = ()
    versions: Mapping[tuple[str, int], SlaConfig] = {}

    @classmethod
    def of(cls, configs: Iterable[SlaConfig]) -> Self:
        """Take every version."""
        versions = {(each.name, each.version): each for each in configs}
        newest: dict[str, SlaConfig] = {}
        for each in sorted(versions.values(), key=lambda each: each.version):
            newest[each.name] = each
        return cls(tuple(newest[name] for name in sorted(newest)), versions)

    def as_of(self, event: Json) -> Self:
        """Return it as it was when an event started runs: what promised them was the newest then."""
        records = map(parse_record, event.get("slas", {}).values())
        then = {(each.configured, each.configured_version) for each in records if each.configured is not None}
        return self._replace(newest=tuple(each for key, each in self.versions.items() if key in then))


NOTHING = Configured()


def compile_config(document: ConfiguredSlaDocument) -> SlaConfig:
    """Compile a document without errors."""
    terms = compile_terms(document.sla, initial="", terminal=frozenset())
    return SlaConfig(
        document.name,
        document.version,
        document.definition,
        document.kind,
        document.retired,
        replace(
            terms,
            starts=frozenset(document.sla.starts),
            configured=document.name,
            configured_version=document.version,
        ),
    )


def check_config(document: ConfiguredSlaDocument) -> tuple[Finding, ...]:
    """Return every finding on what a document says by itself."""
    return tuple(check_clause(document.sla, ("sla",)))


def unknown_in(config: SlaConfig, definition: Definition) -> Iterator[str]:
    """Name the states and transitions that it speaks of and its definition does not have."""
    terms = config.terms
    yield from (
        f"state {each}" for each in sorted((terms.starts | terms.holds | terms.stops) - definition.states.keys())
    )
    named = {rung.transition for rung in terms.ladder if rung.transition is not None}
    yield from (f"transition {each}" for each in sorted(named - {each.name for each in definition.transitions}))


def promised(definition: Definition, configured: Configured, workflow: Workflow) -> Mapping[str, SlaTerms]:
    """Return the terms of every SLA that a workflow has open, or that may start for it, also by configuration."""
    if not configured.newest and workflow.slas is None:
        return definition.slas
    started = any("configured" in body for body in (workflow.slas or {}).values())
    if not started and not any(each.is_for(definition) for each in configured.newest):
        return definition.slas
    terms = dict(definition.slas)
    for each in configured.newest:
        if not each.retired and each.is_for(definition) and each.terms.promised_to(workflow):
            terms[each.terms.name] = each.terms_in(definition)
    for name, record in open_records(workflow):
        if record.configured is not None:
            terms[name] = _pinned(name, record, definition, configured)
        elif name in definition.slas:
            terms[name] = definition.slas[name]
        else:
            terms.pop(name, None)  # a definition's, which this one does not promise: it is held
    return terms


def _pinned(name: str, record: SlaRecord, definition: Definition, configured: Configured) -> SlaTerms:
    """Return the terms that an open run is under; where they are not known it goes on with what its record has."""
    under = configured.versions.get((record.configured or "", record.configured_version or 0))
    if under is None:
        return SlaTerms(name, frozenset(), definition.terminal)
    terms = under.terms_in(definition)
    retired = any(each.name == under.name and each.retired for each in configured.newest)
    return replace(terms, ladder=()) if retired else terms
