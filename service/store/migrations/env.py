"""Alembic's entry: runs the steps on the connection that `service.store.schema` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="turnstile",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
