"""The definition that a log implies: a case's state is its last activity, and what was seen to follow may follow."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from service.event_logs.event import LoggedEvent, in_order

INITIAL = "new"

_SLUG_LENGTH_MAX = 60
# Names that mean something to the core.
_RESERVED = frozenset({"recover"})


def discover(events: Iterable[LoggedEvent], name: str, *, version: int = 1) -> dict[str, Any]:
    """Return a definition document that accepts every event of the log, in the order in which they happened.

    Cases start in `new`. All transitions into one activity bear its name, with every source seen, itself included:
    unique per source. There is no terminal state and no guard; an activity that is called `new` is the initial state.
    """
    sources: dict[str, dict[str, None]] = {}
    states: dict[str, str] = {}
    for event in in_order(list(events)):
        sources.setdefault(event.activity, {})[states.get(event.case, INITIAL)] = None
        states[event.case] = event.activity
    names = transition_names(sources)
    seen: dict[str, dict[str, bool]] = {INITIAL: {"initial": True}}
    return {
        "name": name,
        "version": version,
        "kind": "workflow",
        "states": seen | {activity: {} for activity in sources if activity != INITIAL},
        "transitions": [
            {"name": names[activity], "from": list(reached_from), "to": activity}
            for activity, reached_from in sources.items()
        ],
    }


def transition_names(activities: Iterable[str]) -> dict[str, str]:
    """Name the transition into each activity: lower case, unique, the same in whatever order they come."""
    slugs = {activity: _slug(activity) for activity in activities}
    times = Counter(slugs.values())
    return {
        activity: slug if times[slug] == 1 and slug not in _RESERVED else f"{slug}_{_digest(activity)}"
        for activity, slug in slugs.items()
    }


def definition_name(log: str) -> str:
    """Return the name of the definition discovered from a log: import.helpdesk."""
    return f"import.{_slug(log)}"


def to_yaml(document: dict[str, Any]) -> str:
    """Write a definition document as the YAML that a person would keep."""
    yaml = YAML()
    yaml.width = 120
    yaml.allow_unicode = True
    text = StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not slug:
        return f"activity_{_digest(text)}"
    if not slug[0].isalpha():
        slug = f"to_{slug}"
    return slug if len(slug) <= _SLUG_LENGTH_MAX else f"{slug[:_SLUG_LENGTH_MAX]}_{_digest(text)}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
