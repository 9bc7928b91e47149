"""Classes that are too small: asked about, left out, or kept in train only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from backend.core.reports import Choice, Question
from worker.jobs import JobFailed
from worker.pipeline.imports.files import Entry, Found
from worker.pipeline.imports.questions import SHOWN, NeedsAnswer, listed
from worker.pipeline.imports.splits import Small, TooSmall, assign, say_small, why_small

Decision = Literal["leave-out", "train-only"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
FEWEST = 2  # classes that must remain to be told apart


class LeaveOut(Exception):
    """Classes to leave out, with reasons; the import goes on without their images."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(f"{len(reasons)} classes to leave out")
        self.reasons = reasons


@dataclass
class Assigned:
    """Splits of the entries, their origin, and a note on classes in train only."""

    splits: list[str]
    words: str
    notes: list[str] = field(default_factory=list)


def assign_entries(
    entries: Sequence[Entry],
    names: list[str],
    found: Found,
    seed: int,
    decision: str | None,
    pictures: Sequence[str] | None = None,
) -> Assigned:
    """Choose each entry's split; small classes go by the decision.

    Raises JobFailed, LeaveOut, or NeedsAnswer without a decision.
    """
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[entry.label] for entry in entries]
    given = [entry.split for entry in entries]
    try:
        return Assigned(*assign(labels, given, found.given, names, seed, pictures))
    except TooSmall as error:
        small = error.classes
    untrained = any(not one.images for one in small)
    if len(names) - len(small) < FEWEST:
        raise JobFailed(f"{say_small(small, names)} {_remedy(len(small), untrained)}")
    if decision is None:
        raise _question(small, names, entries, untrained)
    if decision == "leave-out" or untrained:
        raise LeaveOut({names[one.label]: f"its class {why_small(one)}" for one in small})
    kept = {one.label for one in small}
    chosen = [names[label] for label in sorted(kept)]
    splits, words = assign(labels, given, found.given, names, seed, pictures, kept)
    many = "1 class is" if len(chosen) == 1 else f"{len(chosen):,} classes are"
    return Assigned(
        splits, words, [f"{many} in train only, being too small: {listed(chosen, 50)}."]
    )


def leave_out(found: Found, reasons: dict[str, str]) -> None:
    """Take classes out of the import, with a refusal for each image and a note."""
    for entry in found.entries:
        if entry.label in reasons:
            found.refusals.add(entry.path, reasons[entry.label])
    found.entries = [entry for entry in found.entries if entry.label not in reasons]
    found.class_names = tuple(name for name in found.class_names if name not in reasons)
    names = list(reasons)
    many = "1 class was" if len(names) == 1 else f"{len(names):,} classes were"
    found.notes.append(f"{many} left out, having too few images: {listed(names, 50)}.")


def _question(
    small: Sequence[Small], names: list[str], entries: Sequence[Entry], untrained: bool
) -> NeedsAnswer:
    out = {names[one.label] for one in small}
    counts: dict[str, int] = dict.fromkeys(names, 0)
    for entry in entries:
        counts[entry.label] += 1
    shown = dict(list(counts.items())[:SHOWN])
    kept = {name: count for name, count in counts.items() if name not in out}
    without = Choice(
        answer="leave-out",
        words="Go on without them",
        class_count=len(kept),
        class_images=dict(list(kept.items())[:SHOWN]),
    )
    in_train = Choice(
        answer="train-only",
        words="Keep them, in train only",
        class_count=len(names),
        class_images=shown,
    )
    asks = (
        "Go on without them?"
        if untrained
        else "Go on without them, or keep them in train only, where they are not measured?"
    )
    return NeedsAnswer(
        Question(
            kind="small_classes",
            sentence=f"{say_small(small, names)} {asks}",
            choices=[without] if untrained else [without, in_train],
        ),
        [(names[one.label], f"this class {why_small(one)}") for one in small],
    )


def _remedy(count: int, untrained: bool) -> str:
    it, them = ("it", "the class") if count == 1 else ("them", "the classes")
    if untrained:
        return f"Add some to train, or take {them} out."
    return f"Add images to {it}, or take {them} out, then import again."
