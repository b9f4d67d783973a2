"""The published shape of a calendar document: when work is done, as data.

Its JSON Schema serves editors; what the shape cannot say (hours that overlap, zones and countries that exist) is
checked in `domain.calendar_rules` and `service.calendars`.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StrictInt, StringConstraints, Tag

from contracts.clauses import Clause, DefinitionName, Prose, TargetText

# Half-open, by the clock on the wall: "22:00-06:00" ends on the next date, 24:00 is the date's end.
Interval = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"),
]
DateText = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
ZoneName = Annotated[
    str, StringConstraints(strict=True, max_length=60, pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")
]
Country = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Z]{2}$")]
Region = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=40)]
Kind = Annotated[str, StringConstraints(strict=True, max_length=40, pattern=r"^[a-z][a-z_]*$")]
Note = Annotated[str, StringConstraints(strict=True, max_length=200)]


def _kind_of_hours(value: Any) -> Literal["one", "list"]:  # noqa: ANN401 - whatever the document holds
    return "list" if isinstance(value, list | tuple) else "one"


Hours = Annotated[
    Annotated[Interval, Tag("one")] | Annotated[tuple[Interval, ...], Field(max_length=24), Tag("list")],
    Discriminator(_kind_of_hours),
]


class WeekDocument(Clause):
    """The hours of each weekday; one that is not named is closed."""

    monday: Hours = ()
    tuesday: Hours = ()
    wednesday: Hours = ()
    thursday: Hours = ()
    friday: Hours = ()
    saturday: Hours = ()
    sunday: Hours = ()


class HolidaysDocument(Clause):
    """A country's public holidays, or a region's; `kinds` are those that the library of holidays knows there."""

    country: Country
    region: Region | None = None
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1, max_length=10)] = ("public",)


class ExceptionDocument(Clause):
    """What one date has instead of its weekday's hours, holiday or not; no hours close it."""

    hours: Hours
    note: Note | None = None


class CalendarDocument(Clause):
    """A calendar as its author writes it; `working_day` is what a target's `1d` means where days differ."""

    model_config = ConfigDict(title="Turnstile calendar")

    name: DefinitionName
    version: Annotated[StrictInt, Field(ge=1, lt=2**31)]
    description: Prose | None = None
    time_zone: ZoneName
    week: WeekDocument
    working_day: TargetText | None = None
    holidays: Annotated[tuple[HolidaysDocument, ...], Field(max_length=10)] = ()
    exceptions: Annotated[dict[DateText, ExceptionDocument], Field(max_length=4000)] = Field(default_factory=dict)
