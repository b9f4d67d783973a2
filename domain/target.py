"""What a target means: a duration of working time, in the words of people.

`1d` is a working day of the calendar, never 24 hours of its working time; where its days differ in length that is
unclear, and refused until the calendar says what it means.
"""

import re
from datetime import timedelta
from functools import lru_cache

_PARTS = re.compile(r"([0-9]{1,6})([dhms])")
_WHOLE = re.compile(r"[0-9]{1,6}[dhms](?: ?[0-9]{1,6}[hms])*")
_UNITS = "dhms"
_LENGTHS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


@lru_cache(1024)
def working_time(text: str, working_day: timedelta | None) -> timedelta | str:
    """Return the working time that a target like `4h`, `1h 30m` or `2d` means, or why it means none."""
    parts = [(int(number), unit) for number, unit in _PARTS.findall(text)]
    units = [_UNITS.index(unit) for _, unit in parts]
    if not _WHOLE.fullmatch(text) or units != sorted(set(units)):
        return f"{text!r} is no target: write days, hours, minutes and seconds in this order, as in 2d, 4h or 1h 30m"
    if units[0] == 0 and working_day is None:
        return (
            f"{text!r} is unclear, since the calendar's days differ in length: write hours, "
            "or add working_day (8h, for one) to the calendar"
        )
    lengths = _LENGTHS | {"d": working_day or timedelta()}
    return sum((number * lengths[unit] for number, unit in parts), timedelta())
