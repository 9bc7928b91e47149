"""Questions that an import stops at, with a preview of each answer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from backend.core.reports import Choice, Question
from worker.pipeline.imports.files import natural
from worker.pipeline.imports.folder_tree import Folder, Layout, Tree
from worker.pipeline.imports.split_names import splits_of

Answer = Literal["splits", "classes", "subfolders"]
SHOWN = 12  # classes in a preview
SHOWN_SPLITS = 50  # folders in a preview
NAMED = 8  # folders in a sentence
MOST_NOTES = 20  # of a kind


class NeedsAnswer(Exception):
    """An import that stops at a question. rows: (path, reason) of what cannot be used."""

    def __init__(self, question: Question, rows: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(question.sentence)
        self.question = question
        self.rows = list(rows)


def ask_layout(
    tree: Tree,
    sentence: str,
    splits: Layout | None,
    classes: Layout | None,
    subfolders: Layout | None,
) -> NeedsAnswer:
    layouts: tuple[tuple[Answer, Layout | None], ...] = (
        ("splits", splits),
        ("classes", classes),
        ("subfolders", subfolders),
    )
    return NeedsAnswer(
        Question(
            kind="layout",
            sentence=sentence,
            choices=[
                _choice(tree, answer, layout) for answer, layout in layouts if layout is not None
            ],
        )
    )


def _choice(tree: Tree, answer: Answer, layout: Layout) -> Choice:
    labels: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for folder, count in tree.direct.items():
        home = layout.home_of((*folder, ""))
        if home is None or len(folder) == len(home):
            continue
        labels[folder[len(home)].strip()] += count
        if layout.homes[home] is not None:
            splits["/".join(home[len(layout.top) :])] += count
    names = sorted(labels, key=natural)
    folders = {
        "/".join(home[len(layout.top) :]): split
        for home, split in layout.homes.items()
        if split is not None
    }
    return Choice(
        answer=answer,
        words=_WORDS[answer],
        splits=dict(list(folders.items())[:SHOWN_SPLITS]),
        split_images={name: splits[name] for name in list(folders)[:SHOWN_SPLITS]},
        class_count=len(names),
        class_images={name[:200]: labels[name] for name in names[:SHOWN]},
    )


_WORDS: dict[Answer, str] = {
    "splits": "They are splits",
    "classes": "They are classes",
    "subfolders": "The folders inside are the classes",
}


def say_splits(layout: Layout) -> str:
    names = ["/".join(home[len(layout.top) :]) for home in layout.homes]
    return f"These look like splits: {listed(names)}. Use them so?"


def say_no_class_folders(names: Iterable[str]) -> str:
    told = listed(sorted(splits_of(names), key=natural))
    return (
        f"The folders {told} have the names of splits, but there are no class folders to train "
        f"with inside. Are they classes? If not, delete this import, and put the images of each "
        f"class into a folder of that name."
    )


def say_levels(tree: Tree, top: Folder) -> str:
    names = sorted(tree.inside(top), key=natural)
    homes = [tree.home((*top, name)) for name in names]
    inside = sorted({label for home in homes for label in tree.inside(home)}, key=natural)
    same = len({frozenset(tree.inside(home)) for home in homes}) == 1
    what = "the same folders" if same else "further folders"
    return f"The folders {listed(names)} hold {what}: {listed(inside)}. Which are the classes?"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Join names to a phrase, the first few where there are many."""
    shown = [name[:100] for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def few(notes: list[str]) -> list[str]:
    """Keep the first notes of a kind."""
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], f"… and {more:,} more like this."] if more > 0 else notes
