"""Parked commands."""

from service.store.migrations.steps import run_step

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create what version 0.2 adds; the functions of version 0.1 stay for its workers."""
    run_step("0002_parked.sql")
