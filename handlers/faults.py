"""What can go wrong that is nobody's refusal: one tree, told apart by what to do next.

Fault
├── Transient            back off, claim again, read the records again
│   ├── Fenced           another owner took the partition, or our own turn was already applied
│   ├── Overlong         one statement took too long, or would bring too much: take less at once
│   └── OutcomeUnknown   the connection was lost while a turn was being applied
├── Poison               the store refuses these values: isolate the record by halving
└── Parted               the log and the store no longer belong together: halt the partition, alert
"""


class Fault(Exception):
    """A fault of the surroundings or of ours, as opposed to a refusal, which is a value."""


class Transient(Fault):
    """It may pass: the database or the broker is away, full or busy."""


class Fenced(Transient):
    """The partition's row is no longer as this owner left it; nothing was written."""


class Overlong(Transient):
    """A statement was ended because it took too long, or would bring too much; nothing was written."""


class OutcomeUnknown(Transient):
    """Whether the turn was applied is not known; only a new claim can tell."""


class Poison(Fault):
    """The store cannot hold a value of this turn."""


class Parted(Fault):
    """The log and the store disagree about what was already done."""

    def __init__(self, part: int, reason: str) -> None:
        super().__init__(f"partition {part}: {reason}")
        self.part = part
        self.reason = reason
