"""The steps, in Alembic's form."""
