"""Write the next revision from the models: `make migration MESSAGE="Add a table"`."""

import sys
import tempfile
from pathlib import Path

from alembic import command

from backend import migrations
from backend.core.db import make_engine


def revise(message: str) -> None:
    """Write backend/migrations/versions/<number>_<message>.py, to be read before its commit."""
    number = f"{len(list((migrations.FOLDER / 'versions').glob('0*.py'))) + 1:04d}"
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(f"sqlite:///{Path(folder) / 'scratch.db'}")
        with engine.begin() as connection:
            made = migrations.config()
            made.attributes["connection"] = connection
            command.upgrade(made, "head")
            made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            command.revision(made, message, autogenerate=True, rev_id=number)
        engine.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit('Say what changes: make migration MESSAGE="Add a table"')
    revise(sys.argv[1])
