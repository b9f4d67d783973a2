"""What every document that people write is made of: strict clauses, names and working times."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

DefinitionName = Annotated[
    str, StringConstraints(strict=True, max_length=200, pattern=r"^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*$")
]
# A state or transition is often named by people ("Take in charge ticket"): any printable text without outer blanks.
Label = Annotated[
    str,
    StringConstraints(
        strict=True, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"
    ),
]
Prose = Annotated[str, StringConstraints(strict=True, max_length=4000)]
# Working time: "4h", "1h 30m", "2d"; how long a day is says the calendar.
TargetText = Annotated[
    str, StringConstraints(strict=True, max_length=40, pattern=r"^[0-9]{1,6}[dhms]( ?[0-9]{1,6}[hms])*$")
]


class Clause(BaseModel):
    """A part of the document; a key it does not know is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        model_title_generator=lambda model: model.__name__.removesuffix("Document"),
    )
