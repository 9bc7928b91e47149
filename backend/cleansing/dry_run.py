"""Plan of a cleansing, class by class."""

import math
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Image, Review, Suggestion, images_of
from backend.review import service as reviews

# Share of its training images that a class keeps by default, and the least number.
FLOOR_SHARE = 0.10
LEAST = 2


@dataclass(frozen=True)
class Change:
    """One decided image: removed (new_label None) or relabelled."""

    image_id: int
    position: int
    label: int
    new_label: int | None
    path: str
    content_hash: str


@dataclass(frozen=True)
class ClassCount:
    """A class's training images before and after; held_back: kept for the floor."""

    label: int
    name: str
    before: int
    removed: int
    relabelled_away: int
    relabelled_here: int
    floor: int
    held_back: int

    @property
    def after(self) -> int:
        return self.before - self.removed - self.relabelled_away + self.relabelled_here


@dataclass(frozen=True)
class DryRun:
    """The whole plan.

    refusal: sentence why it cannot start, or None. unsettled: removals and new labels that lack a
    second person's agreement.
    """

    classes: list[ClassCount]
    changes: list[Change]
    held_back: list[Change]
    refusal: str | None
    unsettled: int = 0

    @property
    def removed(self) -> int:
        return sum(change.new_label is None for change in self.changes)

    @property
    def relabelled(self) -> int:
        return len(self.changes) - self.removed

    @property
    def before(self) -> int:
        return sum(row.before for row in self.classes)

    @property
    def after(self) -> int:
        return sum(row.after for row in self.classes)


def default_floor(count: int) -> int:
    """Return a tenth of the class, rounded up, at least two."""
    return max(LEAST, math.ceil(FLOOR_SHARE * count))


def plan(session: Session, review: Review, data_set: DataSet, floor: int | None) -> DryRun:
    """Plan a cleansing by a review's decisions. floor: per class; None means `default_floor`.

    Where a class would fall below its floor, the first images of the queue leave and the others
    stay. Images relabelled into a class do not count towards its floor.
    """
    before = _counts(session, review.version_id, len(data_set.class_names))
    floors = [default_floor(count) if floor is None else floor for count in before]
    room = [max(0, count - least) for count, least in zip(before, floors, strict=True)]
    changes: list[Change] = []
    held_back: list[Change] = []
    for change in _decided(session, review):
        if room[change.label] > 0:
            room[change.label] -= 1
            changes.append(change)
        else:
            held_back.append(change)
    classes = [
        _class_count(label, name, before[label], floors[label], changes, held_back)
        for label, name in enumerate(data_set.class_names)
    ]
    unsettled = reviews.unsettled(session, review)
    return DryRun(
        classes, changes, held_back, _refusal(classes, changes, held_back, unsettled), unsettled
    )


def _counts(session: Session, version_id: int, classes: int) -> list[int]:
    """Count a version's training images by class."""
    images = images_of(version_id).order_by(None).subquery()
    rows = session.execute(
        select(images.c.label, func.count())
        .where(images.c.split == "train")
        .group_by(images.c.label)
    ).all()
    found = {int(label): int(count) for label, count in rows}
    return [found.get(label, 0) for label in range(classes)]


def _decided(session: Session, review: Review) -> list[Change]:
    """List decided removals and new labels in queue order, without their old labels."""
    rows = session.execute(
        select(
            Suggestion.image_id,
            Suggestion.position,
            Suggestion.label,
            Suggestion.decision,
            Suggestion.decision_label,
            Suggestion.path,
            Suggestion.content_hash,
        )
        .join(Image, Image.id == Suggestion.image_id)
        .where(*reviews.in_effect(review), Image.split == "train")
        .order_by(Suggestion.position)
    ).all()
    changes = [
        Change(
            row.image_id,
            row.position,
            row.label,
            row.decision_label if row.decision == "relabel" else None,
            row.path,
            row.content_hash,
        )
        for row in rows
    ]
    return [change for change in changes if change.new_label != change.label]


def _class_count(
    label: int, name: str, before: int, floor: int, changes: list[Change], held_back: list[Change]
) -> ClassCount:
    leaving = [change for change in changes if change.label == label]
    removed = sum(change.new_label is None for change in leaving)
    return ClassCount(
        label=label,
        name=name,
        before=before,
        removed=removed,
        relabelled_away=len(leaving) - removed,
        relabelled_here=sum(change.new_label == label for change in changes),
        floor=floor,
        held_back=sum(change.label == label for change in held_back),
    )


def _refusal(
    classes: list[ClassCount], changes: list[Change], held_back: list[Change], unsettled: int
) -> str | None:
    if not changes and not held_back and unsettled:
        if unsettled == 1:
            return (
                "The change has no second approval yet. Let someone else look at it in the review."
            )
        return (
            f"None of the {unsettled:,} changes has a second approval yet. Let someone else look "
            "at them in the review."
        )
    if not changes and not held_back:
        return (
            "Nothing is decided yet: remove or relabel at least one image in the review, then come "
            "back."
        )
    emptied = [row.name for row in classes if row.before > 0 and row.after < 1]
    if emptied:
        names = ", ".join(f"“{name}”" for name in emptied)
        return (
            f"This would leave no training image of {names}. Choose a floor of at least 1, or keep "
            "some of these images in the review."
        )
    if not changes:
        return (
            "The floor keeps every image that you decided on. Choose a lower floor, or decide on "
            "images of larger classes."
        )
    return None
