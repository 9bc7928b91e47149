"""Read splits and classes from folders, or raise the question that only a person can answer."""

from collections import Counter
from collections.abc import Mapping, Sequence

from worker.jobs import JobFailed
from worker.pipeline.imports.files import natural
from worker.pipeline.imports.folder_tree import Folder, Layout, Tree
from worker.pipeline.imports.questions import (
    NAMED,
    ask_layout,
    few,
    listed,
    say_levels,
    say_no_class_folders,
    say_splits,
)
from worker.pipeline.imports.split_names import in_order, is_exact, splits_of


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
        raise ask_layout(tree, say_splits(as_splits), as_splits, classes, subfolders)
    if len(set(splits_of(names).values())) > 1:
        raise ask_layout(tree, say_no_class_folders(names), None, classes, subfolders)
    if subfolders is not None and _may_be_classes(tree, top):
        raise ask_layout(tree, say_levels(tree, top), None, classes, subfolders)
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
    labelled = in_order((name for name in told if name not in unlabelled), told)
    left = sorted(names - set(told), key=natural)
    flat = {name for name in left if _is_flat(tree, (*top, name), trained)}
    layout = Layout(
        top,
        {homes[name]: told[name] for name in labelled},
        words=[f"Splits found as folders: {_pairs(labelled, told)}."],
        unlabelled=[
            *(((*top, name), told[name]) for name in in_order(unlabelled, told)),
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
    words = f"Each class has folders for its splits: {_pairs(in_order(inner, told), told)}."
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


# ── answers ──


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


def _pairs(names: Sequence[str], told: Mapping[str, str]) -> str:
    """Name each folder and its split, unless they are the same."""
    pairs = [name if name.lower() == told[name] else f"{name} is {told[name]}" for name in names]
    return ", ".join(pairs[:NAMED]) + (f" and {len(pairs) - NAMED} more" if pairs[NAMED:] else "")
