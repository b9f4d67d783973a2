"""SLAs by configuration."""

from service.store.migrations.steps import run_step

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the configured SLAs' table; nothing that is there changes."""
    run_step("0005_sla_config.sql")
