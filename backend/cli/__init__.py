"""The command `winnow`. A user's mistake gets a sentence and a nonzero status."""

from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from typer.core import TyperGroup

from backend.cli import data, demo, jobs, people, scoring, serving
from backend.cli.console import say
from backend.core.errors import AppError

ABOUT = (
    "Find the training images that hurt an image classifier. "
    "Settings are environment variables: docs/operations.md."
)


class Sentences(TyperGroup):
    """Prints errors that users can fix as a sentence on standard error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AppError as error:
            sentence = error.message
        except ValidationError as error:
            sentence = "\n".join(
                f"WINNOW_{'_'.join(map(str, e['loc'])).upper()}: "
                f"{e['msg'].removeprefix('Value error, ')}"
                for e in error.errors()
            )
        except OperationalError as error:
            sentence = f"The database cannot be used: {error.orig}"
        except DBAPIError as error:  # such as a right that the database's user lacks
            sentence = f"The database refused: {error.orig}"
        except ArgumentError as error:
            sentence = f"WINNOW_DATABASE_URL names no database that Winnow can use: {error}"
        except OSError as error:
            # May be a closed pipe, which typer ends quietly.
            if error.filename is None:
                raise
            sentence = (
                f"{error.filename} cannot be used: {error.strerror}. "
                "Fix that, or choose another folder (WINNOW_HOME)."
            )
        say(sentence, "bold red")
        raise typer.Exit(1)


app = typer.Typer(cls=Sentences, no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)
COMMANDS: tuple[Callable[..., None], ...] = (
    demo.demo,
    serving.up,
    serving.serve,
    serving.worker,
    serving.migrate,
    serving.health,
    people.login_link,
    data.import_,
    data.answer,
    scoring.backbones,
    scoring.methods,
    scoring.score,
    data.scores,
    data.export_version,
)
for command in COMMANDS:
    app.command(command.__name__.strip("_").replace("_", "-"))(command)
app.add_typer(jobs.app, name="jobs")
app.add_typer(people.users, name="user")
app.add_typer(people.tokens, name="token")
