"""Time zones from the database that this build comes with, never the machine's: every worker of a build agrees."""

from bisect import bisect_right
from datetime import timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from domain.zone import END, Zone, instant_of

_SECOND = 1_000_000
_STEP = 86_400  # no zone has changed its offset and back within a day
_LAST = END // _SECOND


@cache
def zone_names() -> frozenset[str]:
    """Return every name that a calendar may use."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


@cache
def load_zone(name: str) -> Zone | None:
    """Return a zone from 1970 to 2099, or None where there is none of the name; about 0.1 s, once a process."""
    if name not in zone_names():
        return None
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        info = ZoneInfo.from_file(file, key=name)
    since, offsets = [0], [_offset(info, 0)]
    for second in range(_STEP, _LAST + _STEP, _STEP):
        if _offset(info, second) != offsets[-1]:
            changed = _change(info, second - _STEP, second, offsets[-1])
            since.append(changed)
            offsets.append(_offset(info, changed))
    kept = [place for place, second in enumerate(since) if second < _LAST]
    return Zone(name, tuple(since[at] * _SECOND for at in kept), tuple(offsets[at] * _SECOND for at in kept))


def _change(info: ZoneInfo, before: int, after: int, offset: int) -> int:
    """Return the first second from which the offset is another one."""
    return bisect_right(range(before, after), 0, key=lambda second: int(_offset(info, second) != offset)) + before


def _offset(info: ZoneInfo, second: int) -> int:
    offset = instant_of(second * _SECOND).astimezone(info).utcoffset() or timedelta()
    return int(offset.total_seconds())
