"""The tables in docs/ that come from the program. `make docs` writes them, tests/test_architecture.py compares them."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer

from backend.cli import app
from backend.core.settings import Settings
from backend.main import create_app

DOCS = Path(__file__).parents[1] / "docs"


def settings_table() -> str:
    """Every setting with its default."""
    rows = [
        (f"`WINNOW_{name.upper()}`", _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "default", "what it does"), rows)


def commands_table() -> str:
    """Every command with the first sentence of its help."""
    return _table(
        ("command", "what it does"), [(f"`{usage}`", help_) for usage, help_ in commands()]
    )


def routes_table() -> str:
    """Every route of the API, in the order of the journey."""
    rows = [
        (f"`{method.upper()}`", f"`{path}`", operation["summary"])
        for path, method, operation in routes()
    ]
    return _table(("method", "path", "what it does"), rows)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("operations.md", "settings"): settings_table,
    ("operations.md", "commands"): commands_table,
    ("api.md", "routes"): routes_table,
}


def commands() -> Iterator[tuple[str, str]]:
    """(usage, help) of every command: its words, and its arguments."""
    yield from _commands(typer.main.get_command(app), "winnow")


def routes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) of the OpenAPI document."""
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document that a running Winnow serves."""
    with tempfile.TemporaryDirectory() as home:
        made = create_app(Settings(home=Path(home)))
        made.state.database.close()
        return made.openapi()


def written(file: str, mark: str) -> str:
    """What stands between the marks in a file of docs/."""
    found = re.search(_marked(mark), (DOCS / file).read_text(), re.DOTALL)
    assert found is not None, f"docs/{file} has no <!-- {mark} --> … <!-- end -->"
    return found[2].strip()


def write() -> None:
    """Write every table into its place."""
    for (file, mark), table in TABLES.items():
        path, text = DOCS / file, table()
        path.write_text(
            re.sub(
                _marked(mark),
                lambda found, text=text: f"{found[1]}\n{text}\n\n{found[3]}",
                path.read_text(),
                flags=re.DOTALL,
            )
        )


def _marked(mark: str) -> str:
    return rf"(<!-- {mark} -->\n)(.*?)(<!-- end -->)"


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
    if isinstance(value, int) and value >= 2**30 and value % 2**30 == 0:
        return f"{value} ({value // 2**30} GiB)"
    return f"{value}" if value != "" else "–"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '·') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    write()
