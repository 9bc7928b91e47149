"""Test images that the repeated training predicts differently, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import SMALL_PIXELS, DataSet, Image
from backend.core.reports import ChangedImage, Verdict
from backend.web.pagination import cut

# The new answer is right, is wrong, or was wrong already and is another wrong class.
Became = Literal["right", "wrong", "other"]
KINDS: tuple[Became, ...] = get_args(Became)


@dataclass(frozen=True)
class Changed:
    """A changed test image with its three classes. `place` counts from 1 over the whole list."""

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
    fresh_before: int | None  # right fresh starts; None in old verdicts
    fresh_cleaned: int | None


def classify(row: ChangedImage) -> Became:
    """Classify how the answer on an image changed."""
    if row.cleaned == row.label:
        return "right"
    return "wrong" if row.before == row.label else "other"


def count_kinds(verdict: Verdict) -> dict[str, int]:
    """Count changed images by kind."""
    right, wrong = verdict.became_right, verdict.became_wrong
    return {"right": right, "wrong": wrong, "other": len(verdict.changed) - right - wrong}


def page(
    session: Session,
    data_set: DataSet,
    verdict: Verdict,
    *,
    kind: Became | None = None,
    after: int = 0,
    limit: int = 60,
) -> tuple[list[Changed], int | None]:
    """List images, newly right first, and the place to continue after."""
    rows = [
        (place, row)
        for place, row in enumerate(verdict.changes, start=1)
        if place > after and (kind is None or classify(row) == kind)
    ]
    shown, more = cut(rows, limit)
    return _images(session, data_set, shown), shown[-1][0] if more else None


def _images(
    session: Session, data_set: DataSet, rows: Sequence[tuple[int, ChangedImage]]
) -> list[Changed]:
    wanted = select(Image.id, Image.content_hash, Image.path, Image.width, Image.height)
    found = {
        image.id: image
        for image in session.execute(wanted.where(Image.id.in_([row.image_id for _, row in rows])))
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
            label=row.label,
            label_name=names[row.label],
            before=row.before,
            before_name=names[row.before],
            cleaned=row.cleaned,
            cleaned_name=names[row.cleaned],
            became=classify(row),
            fresh_before=row.fresh_before,
            fresh_cleaned=row.fresh_cleaned,
        )
        for place, row in rows
        if (image := found.get(row.image_id)) is not None
    ]
