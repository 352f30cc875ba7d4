"""How the schema came to be, by Alembic; `database.Database.migrate` runs it at every start."""
