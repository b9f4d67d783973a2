"""What opened before: an expression that is put the same values again need not be judged again.

Only what opens is remembered, and each time an expression is put the values that it looks at and no others. So the
answer follows from what is remembered; who is denied is told why of the inputs as they are.
"""

import marshal
from collections import OrderedDict
from typing import Any

from contracts.predicates import Verdict

REMEMBERED_MAX = 4096
BYTES_MAX = 512  # of an expression's values: what is larger is hardly met again

_EXACT = 2  # marshal's form in which values of equal types are equal bytes, whoever else refers to them

Key = tuple[str, bytes]


def key(expression: str, values: dict[str, Any]) -> Key | None:
    """Return what an expression and its values are known by, None for those that are not remembered.

    1, 1.0 and true have different bytes, as has the same object in another order.
    """
    try:
        written = marshal.dumps(values, _EXACT)
    except ValueError:  # no plain values: the engine says so
        return None
    return (expression, written) if len(written) <= BYTES_MAX else None


class Opened:
    """The verdicts of the last keys that opened, some 4 MB at most."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Key, Verdict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verdicts)

    def before(self, key: Key) -> Verdict | None:
        """Return the verdict that a key is known to come to, if so."""
        found = self._verdicts.get(key)
        if found is not None:
            self._verdicts.move_to_end(key)
        return found

    def remember(self, key: Key, verdict: Verdict) -> None:
        """Keep a key that opened, and let go of the one that was not met for longest."""
        self._verdicts[key] = verdict
        if len(self._verdicts) > REMEMBERED_MAX:
            self._verdicts.popitem(last=False)
