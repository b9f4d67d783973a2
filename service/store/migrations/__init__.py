"""The schema's history: one SQL file per step, run in order by Alembic."""
