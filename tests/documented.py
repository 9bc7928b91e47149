"""Tables of the docs that come from the program; `make docs` writes them with cog."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer

from backend.cli import app
from backend.core.settings import Settings
from backend.main import create_app

GIB = 2**30


def settings_table() -> str:
    """List every setting with its default."""
    rows = [
        (f"`WINNOW_{name.upper()}`", _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "default", "what it does"), rows)


def commands_table() -> str:
    """List every command with the first sentence of its help."""
    rows = [(f"`{usage}`", sentence) for usage, sentence in commands()]
    return _table(("command", "what it does"), rows)


def routes_table() -> str:
    """List every route of the API, in the order of the journey."""
    rows = [
        (f"`{method.upper()}`", f"`{path}`", operation["summary"])
        for path, method, operation in routes()
    ]
    return _table(("method", "path", "what it does"), rows)


# By the document that shows it.
TABLES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("operations.md", settings_table),
    ("operations.md", commands_table),
    ("api.md", routes_table),
)


def commands() -> Iterator[tuple[str, str]]:
    """Yield (usage, help) of every command: its words, and its arguments."""
    yield from _commands(typer.main.get_command(app), "winnow")


def routes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (path, method, operation) of the OpenAPI document."""
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document that a running Winnow serves."""
    with tempfile.TemporaryDirectory() as home:
        made = create_app(Settings(home=Path(home)))
        made.state.database.close()
        return made.openapi()


def _commands(command: Any, words: str) -> Iterator[tuple[str, str]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, f"{words} {name}")
        return
    arguments = [
        parameter for parameter in command.params if parameter.param_type_name == "argument"
    ]
    usage = " ".join([words, *(_argument(argument) for argument in arguments)])
    yield usage, " ".join(command.help.split())


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]{}")
    return name if argument.required else f"[{name}]"


def _default(value: object) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, int) and value >= GIB and value % GIB == 0:
        return f"{value} ({value // GIB} GiB)"
    return f"{value}" if value != "" else "–"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '·') for cell in line)} |" for line in lines)
