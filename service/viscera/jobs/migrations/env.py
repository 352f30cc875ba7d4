"""Alembic's entry: runs on the connection that `Database.migrate` holds."""

from alembic import context

from viscera.jobs.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
