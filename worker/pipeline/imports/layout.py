"""Read splits and classes from folders, or raise the question that only a person can answer."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from backend.core.reports import Choice, Question
from worker.jobs import JobFailed
from worker.pipeline.imports.files import SPLIT_NAMES, natural

Folder = tuple[str, ...]
Answer = Literal["splits", "classes", "subfolders"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
SPLIT_WORDS = SPLIT_NAMES | {
    "trn": "train",
    "trainval": "train",
    "validate": "validation",
    "tst": "test",
    "holdout": "test",
    "eval": "eval",
    "evaluation": "eval",
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
NOUN = re.compile(r"(?<=.)(sets?|data|split|images?|imgs?|folder|files?)$")
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


@dataclass(frozen=True)
class Layout:
    """Places of class folders.

    homes: a folder of class folders → its split, or None. inner: split folders inside of classes.
    """

    top: Folder
    homes: Mapping[Folder, str | None]
    inner: Mapping[str, str] = field(default_factory=dict)
    words: Sequence[str] = ()
    unlabelled: Sequence[tuple[Folder, str | None]] = ()  # folder and split without class folders
    left_out: Sequence[Folder] = ()

    @property
    def has_splits(self) -> bool:
        return bool(self.inner) or any(split is not None for split in self.homes.values())

    def home_of(self, parts: Folder) -> Folder | None:
        """Return the innermost home above a file, or None."""
        return next(
            (
                parts[:depth]
                for depth in range(len(parts) - 1, -1, -1)
                if parts[:depth] in self.homes
            ),
            None,
        )


class Tree:
    """Folders that hold images, directly or further down."""

    def __init__(self, folders: Iterable[Folder]) -> None:
        self.direct = Counter(folders)
        self.children: dict[Folder, set[str]] = defaultdict(set)
        for folder in self.direct:
            for depth in range(len(folder)):
                self.children[folder[:depth]].add(folder[depth])
        self.children.default_factory = None

    def inside(self, folder: Folder) -> set[str]:
        return self.children.get(folder, set())

    def common_top(self) -> Folder:
        """Return the path of the single folder above all class folders."""
        top: Folder = ()
        while len(self.inside(top)) == 1:
            (child,) = self.inside(top)
            if not self.inside((*top, child)):
                break  # a class, as it has images
            top = (*top, child)
        return top

    def home(self, folder: Folder) -> Folder:
        """Pass over folders that hold a single folder of folders, as archives nest them."""
        while len(self.inside(folder)) == 1 and not self.direct[folder]:
            (child,) = self.inside(folder)
            if not self.inside((*folder, child)):
                break
            folder = (*folder, child)
        return folder

    def counts(self, folders: Iterable[Folder]) -> Counter[Folder]:
        """Count the images in each of the folders and below it."""
        wanted, found = set(folders), Counter[Folder]()
        for place, images in self.direct.items():
            for depth in range(len(place) + 1):
                if place[:depth] in wanted:
                    found[place[:depth]] += images
        return found


def split_of(name: str) -> str | None:
    """Return the split that a folder's name tells: train, validation, test, eval or None."""
    exact = SPLIT_NAMES.get(name.strip().lower())
    if exact:
        return exact
    joined = re.sub(r"hold[-_ ]?out", "holdout", name, flags=re.IGNORECASE)
    words = {word.lower() for word in WORD.findall(joined)}
    found = {SPLIT_WORDS.get(word) or SPLIT_WORDS.get(NOUN.sub("", word)) for word in words}
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Map the names that tell a split; “eval” is the test, or validation where there is a test."""
    told = {name: split for name in names if (split := split_of(name)) is not None}
    other = "validation" if "test" in told.values() else "test"
    return {name: other if split == "eval" else split for name, split in told.items()}


def is_exact(name: str) -> bool:
    return name.strip().lower() in SPLIT_NAMES


def understand(tree: Tree, wanted: str | None) -> Layout:
    """Read the layout, or use the wanted answer. Raises NeedsAnswer where several are likely."""
    top = tree.common_top()
    as_splits, sure = _splits(tree, top)
    if wanted is not None:
        return _wanted(tree, top, wanted, as_splits)
    if as_splits is not None and sure:
        return as_splits
    names = tree.inside(top)
    classes = _classes(tree, top)
    subfolders = _subfolders(tree, top)
    if as_splits is not None:
        raise _ask(tree, _look_like_splits(as_splits), as_splits, classes, subfolders)
    if len(set(splits_of(names).values())) > 1:
        raise _ask(tree, _no_class_folders(names), None, classes, subfolders)
    if subfolders is not None and _may_be_classes(tree, top):
        raise _ask(tree, _which_level(tree, top), None, classes, subfolders)
    return classes


# ── splits ──


def _splits(tree: Tree, top: Folder) -> tuple[Layout | None, bool]:
    """Return the layout by splits, if any, and whether it leaves no doubt."""
    found, sure = _split_folders(tree, top)
    if found is not None:
        return found, sure
    found, sure = _inside_classes(tree, top)
    if found is not None:
        return found, sure
    deeper = [
        folder
        for folder in tree.children
        if len(folder) > len(top) and "train" in (told := splits_of(tree.inside(folder))).values()
        if len(set(told.values())) > 1
    ]
    if not deeper:
        return None, False
    parts = [_split_folders(tree, folder) for folder in deeper]
    layouts = [layout for layout, _ in parts if layout is not None]
    if not layouts:
        return None, False
    used = {layout.top[: len(top) + 1] for layout in layouts}
    left = [folder for n in tree.inside(top) if (folder := (*top, n)) not in used]
    merged = Layout(
        top,
        {home: split for layout in layouts for home, split in layout.homes.items()},
        words=few([word for layout in layouts for word in layout.words]),
        unlabelled=[pair for layout in layouts for pair in layout.unlabelled],
        left_out=[*sorted(left), *(folder for layout in layouts for folder in layout.left_out)],
    )
    simple = not any(tree.inside(folder) for folder in left)
    return merged, len(layouts) == 1 and parts[0][1] and simple


def _split_folders(tree: Tree, top: Folder) -> tuple[Layout | None, bool]:
    """Read folders named as splits, with class folders inside of them."""
    names = tree.inside(top)
    told = splits_of(names)
    exact = len(told) > 0 and all(is_exact(name) for name in told)
    has_train = "train" in told.values() and len(set(told.values())) > 1
    if not has_train and not (exact and len(told) == len(names)):
        return None, False
    homes = {name: tree.home((*top, name)) for name in told}
    inside = {name: tree.inside(home) for name, home in homes.items()}
    trained = {label for name in told if told[name] == "train" for label in inside[name]}
    if not any(inside.values()) or ("train" in told.values() and not trained):
        return None, False
    unlabelled = {name for name in told if _is_flat(tree, (*top, name), trained)}
    labelled = _in_order((name for name in told if name not in unlabelled), told)
    left = sorted(names - set(told), key=natural)
    flat = {name for name in left if _is_flat(tree, (*top, name), trained)}
    layout = Layout(
        top,
        {homes[name]: told[name] for name in labelled},
        words=[f"Splits found as folders: {_pairs(labelled, told)}."],
        unlabelled=[
            *(((*top, name), told[name]) for name in _in_order(unlabelled, told)),
            *(((*top, name), None) for name in left if name in flat),
        ],
        left_out=[(*top, name) for name in left if name not in flat],
    )
    if exact:
        return layout, True
    same = all(2 * len(inside[name] & trained) >= len(inside[name]) for name in labelled)
    like = any(tree.inside(tree.home((*top, name))) & trained for name in left)
    return layout, same and len(trained) > 1 and not like


def _is_flat(tree: Tree, folder: Folder, trained: set[str]) -> bool:
    """Tell whether a folder's images have no labels, by the classes of train."""
    inside = tree.inside(tree.home(folder))
    return not inside or bool(trained and len(inside) == 1 and not inside & trained)


def _in_order(names: Iterable[str], told: Mapping[str, str]) -> list[str]:
    order = ("train", "validation", "test")
    return sorted(names, key=lambda name: (order.index(told[name]), natural(name)))


def _inside_classes(tree: Tree, top: Folder) -> tuple[Layout | None, bool]:
    """Read classes that each hold folders named as splits."""
    names = tree.inside(top)
    inner = {child for name in names for child in tree.inside((*top, name))}
    told = splits_of(inner)
    fits = (
        len(names) > 1
        and len(told) == len(inner)
        and "train" in told.values()
        and len(set(told.values())) > 1
        and all(tree.inside((*top, name)) and not tree.direct[(*top, name)] for name in names)
        and not any(tree.inside((*top, name, child)) for name in names for child in inner)
    )
    if not fits:
        return None, False
    words = f"Each class has folders for its splits: {_pairs(_in_order(inner, told), told)}."
    return Layout(top, {top: None}, told, [words]), True


# ── classes ──


def _classes(tree: Tree, top: Folder) -> Layout:
    names = sorted(tree.inside(top), key=natural)
    words = [f"Each of the folders {listed(names)} is a class."] if len(names) > 1 else []
    if any(tree.inside((*top, name)) for name in names):
        words.append("Folders inside a class folder belong to its class.")
    return Layout(top, {top: None}, words=words)


def _subfolders(tree: Tree, top: Folder) -> Layout | None:
    homes = {
        home: None
        for name in sorted(tree.inside(top), key=natural)
        if tree.inside(home := tree.home((*top, name)))
    }
    if not homes:
        return None
    labels = sorted({label for home in homes for label in tree.inside(home)}, key=natural)
    if len(set(splits_of(labels).values())) > 1:
        return None
    words = f"The classes are the inner folders: {listed(labels)}."
    flat = (folder for n in tree.inside(top) if not tree.inside(tree.home(folder := (*top, n))))
    left = [(folder, None) for folder in flat]
    return Layout(top, homes, words=[words], unlabelled=sorted(left))


def _may_be_classes(tree: Tree, top: Folder) -> bool:
    """Tell whether the folders inside of the top folders may be the classes."""
    names = tree.inside(top)
    inside = [frozenset(tree.inside(tree.home((*top, name)))) for name in names]
    repeated = [folders for folders, count in Counter(inside).items() if count > 1]
    if any(len(folders) > 1 for folders in repeated):
        return True
    deep = all(tree.inside((*top, name)) and not tree.direct[(*top, name)] for name in names)
    return deep and len(frozenset().union(*inside)) > 1


# ── answers and questions ──


def _wanted(tree: Tree, top: Folder, wanted: str, as_splits: Layout | None) -> Layout:
    if wanted == "classes":
        return _classes(tree, top)
    layout = as_splits if wanted == "splits" else _subfolders(tree, top)
    if layout is not None:
        return layout
    names = listed(sorted(tree.inside(top), key=natural))
    if wanted == "splits":
        raise JobFailed(
            f"The folders {names} cannot be used as splits: their names do not say which of them "
            f"train and test. Name them train, validation and test, then import again."
        )
    raise JobFailed(
        f"The folders {names} hold no further folders, so these cannot be the classes. "
        f"Import again without saying so."
    )


def _ask(
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


def _look_like_splits(layout: Layout) -> str:
    names = ["/".join(home[len(layout.top) :]) for home in layout.homes]
    return f"These look like splits: {listed(names)}. Use them so?"


def _no_class_folders(names: Iterable[str]) -> str:
    told = listed(sorted(splits_of(names), key=natural))
    return (
        f"The folders {told} have the names of splits, but there are no class folders to train "
        f"with inside. Are they classes? If not, delete this import, and put the images of each "
        f"class into a folder of that name."
    )


def _which_level(tree: Tree, top: Folder) -> str:
    names = sorted(tree.inside(top), key=natural)
    homes = [tree.home((*top, name)) for name in names]
    inside = sorted({label for home in homes for label in tree.inside(home)}, key=natural)
    same = len({frozenset(tree.inside(home)) for home in homes}) == 1
    what = "the same folders" if same else "further folders"
    return f"The folders {listed(names)} hold {what}: {listed(inside)}. Which are the classes?"


def _pairs(names: Sequence[str], told: Mapping[str, str]) -> str:
    """Name each folder and its split, unless they are the same."""
    pairs = [name if name.lower() == told[name] else f"{name} is {told[name]}" for name in names]
    return ", ".join(pairs[:NAMED]) + (f" and {len(pairs) - NAMED} more" if pairs[NAMED:] else "")


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
