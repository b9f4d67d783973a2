"""Calendars."""

from service.store.migrations.steps import run_step

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the calendars' table; nothing that is there changes."""
    run_step("0003_calendars.sql")
