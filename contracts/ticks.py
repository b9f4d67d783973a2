"""The scheduler topic's message: a wake-up with the database's clock."""

from contracts.envelope import Contract, Instant


class Tick(Contract):
    """`time` was read from the database before `commands_end_offset` was read from the broker."""

    partition: int
    time: Instant
    commands_end_offset: int
    emitter: str
