"""The test images that the repeated training sees otherwise than before: all that a verdict keeps of them, some at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import SMALL_PIXELS, DataSet, Image
from backend.web.pagination import cut

# What became of the model's answer: it is right now, it is wrong now, or it was wrong and is wrong in another way.
Became = Literal["right", "wrong", "other"]
KINDS: tuple[Became, ...] = get_args(Became)


@dataclass(frozen=True)
class Changed:
    """A test image with its label, and what the model took it for before and takes it for now. `place` counts from 1 over the whole list."""

    place: int
    image_id: int
    path: str
    thumbnail: str
    full: str
    small: bool
    label: int
    label_name: str
    before: int
    before_name: str
    cleaned: int
    cleaned_name: str
    became: Became
    fresh_before: (
        int | None
    )  # in how many of the fresh starts it was right; None in verdicts that did not count that yet
    fresh_cleaned: int | None


def became(row: Mapping[str, Any]) -> Became:
    """What became of the answer on one image."""
    if row["cleaned"] == row["label"]:
        return "right"
    return "wrong" if row["before"] == row["label"] else "other"


def counts(verdict: Mapping[str, Any]) -> dict[str, int]:
    """How many of each kind there are."""
    right, wrong = verdict["became_right"], verdict["became_wrong"]
    return {"right": right, "wrong": wrong, "other": len(verdict["changed"]) - right - wrong}


def page(
    session: Session,
    data_set: DataSet,
    verdict: Mapping[str, Any],
    *,
    kind: Became | None = None,
    after: int = 0,
    limit: int = 60,
) -> tuple[list[Changed], int | None]:
    """Some of the images, those that became right first, and the place to go on after."""
    kept = enumerate(verdict.get("changes", []), start=1)
    rows = [
        (place, row)
        for place, row in kept
        if place > after and (kind is None or became(row) == kind)
    ]
    shown, more = cut(rows, limit)
    return _images(session, data_set, shown), shown[-1][0] if more else None


def _images(
    session: Session, data_set: DataSet, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[Changed]:
    wanted = select(Image.id, Image.content_hash, Image.path, Image.width, Image.height)
    found = {
        image.id: image
        for image in session.execute(
            wanted.where(Image.id.in_([row["image_id"] for _, row in rows]))
        )
    }
    names = data_set.class_names
    return [
        Changed(
            place=place,
            image_id=image.id,
            path=image.path,
            thumbnail=f"/images/{data_set.id}/thumbnails/{image.content_hash}.webp",
            full=f"/images/{data_set.id}/full/{image.content_hash}.webp",
            small=max(image.width, image.height) <= SMALL_PIXELS,
            **{key: row[key] for key in ("label", "before", "cleaned")},
            **{f"{key}_name": names[row[key]] for key in ("label", "before", "cleaned")},
            became=became(row),
            fresh_before=row.get("fresh_before"),
            fresh_cleaned=row.get("fresh_cleaned"),
        )
        for place, row in rows
        if (image := found.get(row["image_id"])) is not None
    ]
