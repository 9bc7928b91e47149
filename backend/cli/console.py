"""Output of commands: sentences and progress on stderr, results on stdout."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)


def say(sentence: str, style: str | None = None) -> None:
    """Print a sentence; brackets are no markup."""
    console.print(sentence, style=style, highlight=False, markup=False, soft_wrap=True)


def show(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; off a terminal, tab-separated lines."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(" ".join(str(value).split()) for value in row))
        return
    table = Table(*header, highlight=False)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    Console().print(table)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Progress bar, moved by (done, total, message); off a terminal, a line at the end."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, TextColumn("{task.fields[message]}", markup=False), console=console
    ) as progress:
        task = progress.add_task(title, total=None, message="")
        yield lambda done, total, message: progress.update(
            task, completed=done, total=total or None, message=message
        )
        progress.update(task, completed=1, total=1, message="")
