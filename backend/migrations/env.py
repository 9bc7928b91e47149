"""Alembic's entry point: the caller's connection, or the database of the environment."""

from alembic import context
from sqlalchemy import Connection

from backend.core.db import make_engine
from backend.core.models import Base
from backend.core.settings import Settings


def run(connection: Connection) -> None:
    """Migrate on this connection; its caller commits."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite alters a table by copying it
        compare_type=True,
        user_module_prefix="models.",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with make_engine(Settings().database).begin() as own:
        run(own)
