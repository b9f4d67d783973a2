"""Runs one SQL file of this package within Alembic's transaction."""

from importlib.resources import files

from alembic import op


def run_step(name: str) -> None:
    """Execute a file of several statements on the driver's own connection."""
    sql = (files(__package__) / name).read_text("utf-8")
    connection = op.get_bind().connection.dbapi_connection
    connection.run_async(lambda driver: driver.execute(sql))  # type: ignore[union-attr]
