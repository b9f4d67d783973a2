"""How a promise stands and what time alone makes of it: records of SLAs, moved by instants and by what happens.

A record knows its next step (at risk, breached, each rung) and when that is due; `advance` takes every step whose
instant has come, whoever asks: a tick, or a command before it changes anything. So a step is taken once.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from domain.calendar import Calendar, always, due_at, worked
from domain.instants import read, written
from domain.sla_terms import SlaTerms
from domain.target import working_time
from domain.workflow import Workflow

Json = Mapping[str, Any]

AT_RISK, BREACHED, FIRST_RUNG = 0, 1, 2
_STATUS = {AT_RISK: "at_risk", BREACHED: "breached"}
_ACCOUNTS = {"waiting": "waiting", "person": "person"}
_WORKED = ("worked", "waiting", "person")
_FIRST = datetime.min.replace(tzinfo=UTC)  # a due date may be in year 1: that is how some write that there is none

# By name and version; without a version the newest.
Calendars = Mapping[tuple[str, int | None], Calendar]


class SlaRecord(NamedTuple):
    """How an SLA of a workflow stands, as `contracts.slas.SlaRecord`; instants as `domain.instants` writes them."""

    run: int
    status: str
    started_at: str
    since: str
    spent: Mapping[str, float]
    target_seconds: float | None = None
    extended_seconds: float = 0
    warning_seconds: float = 0
    calendar: str | None = None
    calendar_version: int | None = None
    due_at: str | None = None
    next_at: str | None = None
    step: int = AT_RISK
    doing: str = "worked"
    held: bool = False
    paused: bool = False
    breached_at: str | None = None
    breach_seconds: float | None = None
    stopped_at: str | None = None
    impact: str | None = None
    configured: str | None = None
    configured_version: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.stopped_at is None

    @property
    def runs(self) -> bool:
        """Whether its time runs, opening hours apart."""
        return self.stopped_at is None and not self.held and not self.paused


class Step(NamedTuple):
    """A step that was taken: which one, when it was due, and the record after it."""

    number: int
    due_at: str
    record: SlaRecord


class Followed(NamedTuple):
    """What came of one record: how it stands now, and the steps it took on the way, in order."""

    record: SlaRecord
    steps: tuple[Step, ...] = ()


_FIELDS = SlaRecord._fields
_DEFAULTS = tuple(SlaRecord._field_defaults.get(field, object()) for field in _FIELDS)


def parse_record(body: Json) -> SlaRecord:
    """Read what `dump_record` made."""
    return SlaRecord(**body)


def dump_record(record: SlaRecord) -> dict[str, Any]:
    """Return a record as plain JSON, fields at their default left out."""
    return {name: value for name, value, default in zip(_FIELDS, record, _DEFAULTS, strict=True) if value != default}


def open_records(workflow: Workflow | None) -> Iterator[tuple[str, SlaRecord]]:
    """Give a workflow's SLAs that have not ended."""
    for name, body in _open(workflow):
        yield name, parse_record(body)


def _open(workflow: Workflow | None) -> Iterator[tuple[str, Json]]:
    """Give the records as they are stored: to read one costs more than what is asked of most."""
    if workflow is not None and workflow.slas is not None:
        for name, body in workflow.slas.items():
            if body.get("stopped_at") is None:
                yield name, body


def calendar_keys(workflow: Workflow | None, terms: Mapping[str, SlaTerms]) -> set[tuple[str, int | None]]:
    """Return which calendars a change of a workflow may need: its open SLAs', the newest of those it may start."""
    found: set[tuple[str, int | None]] = {(each.calendar, None) for each in terms.values() if each.calendar is not None}
    for _, body in _open(workflow):
        if (name := body.get("calendar")) is not None:
            found.add((name, body.get("calendar_version")))
    return found


def calendar_of(record: SlaRecord, calendars: Calendars) -> Calendar:
    """Return the calendar a record was started under."""
    return always() if record.calendar is None else calendars[record.calendar, record.calendar_version]


def begin(
    terms: SlaTerms, workflow: Workflow, calendars: Calendars, at: datetime, *, account: str, run: int
) -> Followed:
    """Start an SLA at an instant; raises ValueError where its times mean nothing under its calendar."""
    calendar = always() if terms.calendar is None else calendars[terms.calendar, None]
    target = terms.target_for(workflow.priority)
    record = SlaRecord(
        run=run,
        status="on_track",
        started_at=written(at),
        since=written(at),
        spent={},
        target_seconds=None if target is None else seconds(_time(target, calendar)),
        warning_seconds=seconds(_time(terms.warning, calendar)),
        calendar=terms.calendar,
        calendar_version=None if terms.calendar is None else calendar.version,
        due_at=workflow.due_at if target is None else None,
        doing=account,
        held=workflow.state in terms.holds,
        impact=terms.impact,
        configured=terms.configured,
        configured_version=terms.configured_version,
    )
    return advance(_armed(record, terms, calendar), terms, calendar, at)


def advance(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, until: datetime) -> Followed:
    """Take every step that is due up to an instant, that instant included."""
    steps: list[Step] = []
    while record.next_at is not None and read(record.next_at) <= until:
        record = _caught_up(record, terms, calendar, until)
        if record.next_at is not None and read(record.next_at) > until:
            break  # the repetitions were told anew by a migration
        number, due = record.step, record.next_at or written(until)
        record = record._replace(
            step=number + 1,
            status=_STATUS.get(number, record.status),
            breached_at=due if number == BREACHED else record.breached_at,
            next_at=_instant(record, terms, calendar, number + 1),
        )
        steps.append(Step(number, due, record))
    return Followed(record, tuple(steps))


def change(
    record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, at: datetime, changed: Mapping[str, Any]
) -> Followed:
    """Change the fields of a record whose due steps are taken, at an instant; take what is due by the change."""
    record = reckoned(record, calendar, at)._replace(**changed)
    record = _armed(_calmed(record, terms, calendar, at), terms, calendar)
    return advance(record, terms, calendar, at)


def end(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, at: datetime) -> Followed:
    """End an SLA at an instant: met, unless it is breached by then."""
    before = advance(record, terms, calendar, at)
    record = reckoned(before.record, calendar, at)
    met = record.breached_at is None
    ended = record._replace(
        status="met" if met else record.status,
        breach_seconds=None if met else seconds(overrun(record, calendar)),
        stopped_at=record.since,
        next_at=None,
    )
    return Followed(ended, before.steps)


def reckoned(record: SlaRecord, calendar: Calendar, at: datetime) -> SlaRecord:
    """Put the time up to an instant on its accounts; a record that has ended, or is later, stays as it is."""
    since = read(record.since)
    if at <= since or not record.is_open:
        return record
    spent = dict(record.spent)
    if record.runs:
        open_time = worked(calendar, since, at)
        _add(spent, record.doing, open_time)
        _add(spent, "closed", at - since - open_time)
    else:
        _add(spent, "held", at - since)
    return record._replace(since=written(at), spent=spent)


def used(record: SlaRecord) -> timedelta:
    """Return the working time that is on a record's accounts."""
    spent = record.spent
    return sum([timedelta(seconds=spent[name]) for name in _WORKED if name in spent], timedelta())


def overrun(record: SlaRecord, calendar: Calendar) -> timedelta:
    """Return the working time past the target, up to where a record is reckoned."""
    if record.target_seconds is not None:
        past = used(record) - timedelta(seconds=record.target_seconds + record.extended_seconds)
    elif record.due_at is not None:
        past = worked(calendar, read(record.due_at), read(record.since))
    else:
        past = timedelta()
    return max(past, timedelta())


def account_of(category: str | None) -> str:
    """Return the account that open time goes to in a state of such a category."""
    return _ACCOUNTS.get(category or "", "worked")


def seconds(span: timedelta) -> float:
    """Return a duration as it is written: whole where it is."""
    found = span.total_seconds()
    return int(found) if found.is_integer() else found


def target_of(terms: SlaTerms, record: SlaRecord, calendar: Calendar, priority: str | None) -> float | None:
    """Return the target of a priority in seconds; that of a breached record stays as it is."""
    text = terms.target_for(priority)
    if text is None or record.target_seconds is None or record.breached_at is not None:
        return record.target_seconds
    return seconds(_time(text, calendar))


def _calmed(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, at: datetime) -> SlaRecord:
    """Take a warning back that a later due instant makes untrue."""
    if record.step != BREACHED or not record.runs:
        return record
    warned = _instant(record, terms, calendar, AT_RISK)
    if warned is not None and warned <= written(at):
        return record
    return record._replace(step=AT_RISK, status="on_track")


def _armed(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar) -> SlaRecord:
    """Say when the next step is due, and the promise itself, if nothing happens before."""
    if not record.runs or terms is None:
        due = record.due_at if record.step > BREACHED or record.target_seconds is None else None
        return record._replace(due_at=due, next_at=None)
    if record.step <= BREACHED and record.target_seconds is not None:
        record = record._replace(due_at=_after(record, calendar, timedelta()))
    return record._replace(next_at=_instant(record, terms, calendar, record.step))


def _instant(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, step: int) -> str | None:
    """Return when a step is due; None where there is none, or not before 2100."""
    if terms is None or (step >= FIRST_RUNG and terms.rung(step - FIRST_RUNG) is None):
        return None
    if step == BREACHED:
        return record.due_at
    if record.target_seconds is None:
        return _from_due_date(record, terms, calendar, step)
    if step == AT_RISK:
        return _after(record, calendar, -timedelta(seconds=record.warning_seconds))
    return _after(record, calendar, _beyond(terms, step - FIRST_RUNG, calendar))


def _beyond(terms: SlaTerms, index: int, calendar: Calendar) -> timedelta:
    """Return how much working time past the due instant a rung is climbed, each repetition from the first: no drift."""
    last = len(terms.ladder) - 1
    rung = terms.ladder[min(index, last)]
    again = timedelta() if index <= last or rung.every is None else (index - last) * _time(rung.every, calendar)
    return _time(rung.after, calendar) + again


def _caught_up(record: SlaRecord, terms: SlaTerms | None, calendar: Calendar, until: datetime) -> SlaRecord:
    """Pass over repetitions that were missed but for the last: nobody needs a hundred reminders at once."""
    if terms is None or record.step < FIRST_RUNG + len(terms.ladder) or terms.rung(record.step - FIRST_RUNG) is None:
        return record
    past = overrun(reckoned(record, calendar, until), calendar) - _beyond(terms, len(terms.ladder) - 1, calendar)
    repeated = past // _time(terms.ladder[-1].every or "1s", calendar)
    step = max(record.step, FIRST_RUNG + len(terms.ladder) - 1 + repeated)
    return record._replace(step=step, next_at=_instant(record, terms, calendar, step))


def _from_due_date(record: SlaRecord, terms: SlaTerms, calendar: Calendar, step: int) -> str | None:
    if record.due_at is None:
        return None
    due = read(record.due_at)
    if step == AT_RISK:
        return written(due - min(timedelta(seconds=record.warning_seconds), due - _FIRST))
    found = due_at(calendar, due, _beyond(terms, step - FIRST_RUNG, calendar))
    return None if found is None else written(found)


def _after(record: SlaRecord, calendar: Calendar, beyond: timedelta) -> str | None:
    """Return when the target and so much beyond it will be used up, from where the record is reckoned."""
    target = timedelta(seconds=(record.target_seconds or 0) + record.extended_seconds)
    found = due_at(calendar, read(record.since), target + beyond - used(record))
    return None if found is None else written(found)


def _time(text: str, calendar: Calendar) -> timedelta:
    found = working_time(text, calendar.working_day)
    if isinstance(found, str):
        raise ValueError(f"under calendar {calendar.name} version {calendar.version}: {found}")  # noqa: TRY004 - a value
    return found


def _add(spent: dict[str, float], name: str, span: timedelta) -> None:
    if span:
        spent[name] = seconds(timedelta(seconds=spent.get(name, 0)) + span)
