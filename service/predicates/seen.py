"""What a denial shows: the values that the paths of its clause held, the same for every engine in this process."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import orjson

SHOWN_BYTES_MAX = 1024
PATHS_MAX = 20
ABSENT = object()


def values_seen(paths: Iterable[tuple[str, ...]], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the first paths hold, by dotted path; absent ones are left out, large values told by their size."""
    found = ((path, held(path, inputs)) for path in islice(paths, PATHS_MAX))
    return {".".join(path): _shown(value) for path, value in found if value is not ABSENT}


def held(path: tuple[str, ...], inputs: Mapping[str, Any]) -> object:
    """Return what a path holds, or ABSENT."""
    value: Any = inputs
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step, ABSENT)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return ABSENT
    return value


def _shown(value: object) -> object:
    size = len(orjson.dumps(value))
    return value if size <= SHOWN_BYTES_MAX else f"({size} bytes, not shown)"
