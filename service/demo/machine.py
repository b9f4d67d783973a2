"""What alims.workflow allows, written down a second time: the demo judges the service from outside, not by its file."""

from collections.abc import Mapping
from types import MappingProxyType

DEFINITION = "alims.workflow"
BOUNDED = "demo.bounded"
MOVES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CREATED": ("ACTIVE",),
        "ACTIVE": ("PAUSED", "COMPLETED", "FAILED", "CANCELLED"),
        "PAUSED": ("ACTIVE", "CANCELLED"),
        "FAILED": ("ACTIVE", "CANCELLED"),
        "COMPLETED": (),
        "CANCELLED": (),
    }
)
STATES = tuple(MOVES)
TERMINAL = frozenset(state for state, targets in MOVES.items() if not targets)
WAYS_TO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CREATED": (),
        "ACTIVE": ("ACTIVE",),
        "PAUSED": ("ACTIVE", "PAUSED"),
        "FAILED": ("ACTIVE", "FAILED"),
        "COMPLETED": ("ACTIVE", "COMPLETED"),
        "CANCELLED": ("ACTIVE", "CANCELLED"),
    }
)
"""The states a new workflow passes to arrive at each."""

WAY_OUT: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        (DEFINITION, "CREATED"): ("ACTIVE", "CANCELLED"),
        (DEFINITION, "ACTIVE"): ("CANCELLED",),
        (DEFINITION, "PAUSED"): ("CANCELLED",),
        (DEFINITION, "FAILED"): ("CANCELLED",),
        (BOUNDED, "open"): ("closed",),
    }
)
"""How a workflow that a scenario leaves open is closed."""
