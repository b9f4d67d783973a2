"""The first schema."""

from service.store.migrations.steps import run_step

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables and functions of version 0.1."""
    run_step("0001_first.sql")
