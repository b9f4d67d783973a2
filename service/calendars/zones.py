"""Time zones from the database that this build comes with, never the machine's: every worker of a build agrees."""

from bisect import bisect_right
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from domain.zone import END, Zone

_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
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
            if changed < _LAST:
                since.append(changed)
                offsets.append(_offset(info, changed))
    return Zone(name, tuple(second * _SECOND for second in since), tuple(offset // _MICROSECOND for offset in offsets))


def _change(info: ZoneInfo, before: int, after: int, offset: timedelta) -> int:
    """Return the first second from which the offset is another one."""
    return before + bisect_right(range(before, after), 0, key=lambda second: int(_offset(info, second) != offset))


def _offset(info: ZoneInfo, second: int) -> timedelta:
    return datetime.fromtimestamp(second, info).utcoffset() or timedelta()
