"""What is wrong with a guard before it is asked, and where in it."""

from typing import NamedTuple

Path = tuple[str | int, ...]


class Flaw(NamedTuple):
    """A sentence, and the path to the part of the guard that it is about; empty where that is the whole."""

    message: str
    path: Path = ()
