"""SLAs and timers."""

from service.store.migrations.steps import run_step

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create their tables, and functions of turns that write them; those of the version before refuse what has some."""
    run_step("0004_slas.sql")
