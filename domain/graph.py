"""A definition as a picture: Mermaid stateDiagram-v2 text, the same for the same definition."""

import re
from itertools import chain

from domain.definition import Definition, Transition

_PLAIN = re.compile(r"(?!state|end|note|direction|class|style|default|as$)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
# Mermaid's own marks inside free text, written as its entity codes.
_ENTITIES = str.maketrans(
    {"#": "#35;", ";": "#59;", ":": "#58;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "{": "#123;", "}": "#125;"}
)


def mermaid(definition: Definition) -> str:
    """Draw states and transitions in the document's order; a guarded transition is marked `[guard]`."""
    ids = {name: _id(name, number) for number, name in enumerate(definition.states, start=1)}
    lines = chain(
        ("stateDiagram-v2",),
        (f'state "{_text(name)}" as {alias}' for name, alias in ids.items() if alias != name),
        (f"[*] --> {ids[definition.initial]}",),
        (
            f"{ids[transition.source]} --> {ids[transition.target]} : {_label(transition)}"
            for transition in definition.transitions
        ),
        (f"{ids[name]} --> [*]" for name in definition.states if name in definition.terminal),
    )
    return "\n    ".join(lines) + "\n"


def _id(name: str, number: int) -> str:
    return name if _PLAIN.fullmatch(name) else f"state_{number}"


def _label(transition: Transition) -> str:
    mark = "" if transition.guard is None else " [guard]"
    return f"{_text(transition.name)}{mark}"


def _text(name: str) -> str:
    return name.translate(_ENTITIES)
