"""The topics, named once. Partition n of every topic but the webhooks' belongs to commands partition n."""

from contracts.envelope import Contract


class Topics(Contract):
    """Topic names under one prefix."""

    prefix: str = "turnstile"

    @property
    def commands(self) -> str:
        """Commands from producers, keyed by root id; LogAppendTime."""
        return f"{self.prefix}.commands"

    @property
    def events(self) -> str:
        """State-change events, keyed by root id."""
        return f"{self.prefix}.events"

    @property
    def replies(self) -> str:
        """One reply per command record, keyed by root id."""
        return f"{self.prefix}.replies"

    @property
    def scheduler(self) -> str:
        """Ticks; partition n wakes commands partition n."""
        return f"{self.prefix}.scheduler"

    @property
    def alerts(self) -> str:
        """Alerts for the notification service."""
        return f"{self.prefix}.alerts"

    @property
    def webhook_deliveries(self) -> str:
        """Webhook deliveries, keyed by destination."""
        return f"{self.prefix}.webhook-deliveries"

    @property
    def dead_letters(self) -> str:
        """What could not be read, under its original key."""
        return f"{self.prefix}.dead-letters"

    def all(self) -> tuple[str, ...]:
        """Every topic the service needs."""
        return (
            self.commands,
            self.events,
            self.replies,
            self.scheduler,
            self.alerts,
            self.webhook_deliveries,
            self.dead_letters,
        )
