"""History of a data set: versions, changed images, and who decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Row, Select, Subquery, and_, case, func, select, union
from sqlalchemy.orm import Session, aliased

from backend.core.errors import NotFound
from backend.core.models import (
    SMALL_PIXELS,
    Cleansing,
    DataSet,
    Decision,
    Image,
    User,
    Version,
    VersionChange,
)
from backend.core.verdict_words import headline
from backend.web.pagination import paginate

# Returned: in this version again after the parent left it out.
Kind = Literal["removed", "relabelled", "returned"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Label of an image that is out.
OUT = -1
# Extracted in SQL: verdicts may be long.
_JUDGEMENT = Cleansing.verdict["judgement"].as_string()
_ACCURACY = Cleansing.verdict[("fresh_seeds", "accuracy", "judgement")].as_string()
_CONFIDENCE = Cleansing.verdict[("fresh_seeds", "loss", "judgement")].as_string()


@dataclass(frozen=True)
class Step:
    """A version in the history. `changes` counts changes since its parent by kind.

    headline: its verdict in words, or None where it was not measured.
    """

    version: Version
    parent_number: int | None
    changes: dict[str, int]
    by: str | None
    review_id: int | None
    cleansing_id: int | None
    judgement: str | None
    headline: str | None


@dataclass(frozen=True)
class Change:
    """An image that differs from the parent version; a label is None where it is out."""

    image_id: int
    path: str
    thumbnail: str
    full: str
    small: bool
    split: str
    kind: Kind
    label: int | None
    label_name: str | None
    new_label: int | None
    new_label_name: str | None
    by: str | None
    at: datetime | None


def history(session: Session, data_set: DataSet, number: int | None = None) -> list[Step]:
    """List all versions, newest first, or only the numbered version."""
    parent = aliased(Version)
    columns: list[Any] = [Version, parent.number, User.name, Cleansing.review_id, Cleansing.id]
    chosen = (
        select(*columns, _JUDGEMENT, _ACCURACY, _CONFIDENCE)
        .outerjoin(parent, parent.id == Version.parent_id)
        .outerjoin(User, User.id == Version.created_by)
        .outerjoin(Cleansing, Cleansing.version_id == Version.id)
        .where(Version.data_set_id == data_set.id)
        .order_by(Version.number.desc())
    )
    rows: Sequence[Any] = session.execute(
        chosen if number is None else chosen.where(Version.number == number)
    ).all()
    counted = _counts(session, data_set, number)
    return [
        Step(
            version,
            before,
            dict.fromkeys(KINDS, 0) | counted.get(version.id, {}),
            by,
            review_id,
            cleansing_id,
            judgement,
            headline(accuracy, confidence) if accuracy and confidence else None,
        )
        for (
            version,
            before,
            by,
            review_id,
            cleansing_id,
            judgement,
            accuracy,
            confidence,
        ) in rows
    ]


def step(session: Session, data_set: DataSet, number: int) -> Step:
    """Return the numbered version in the history. Raises NotFound."""
    found = history(session, data_set, number)
    if not found:
        raise NotFound(f"{data_set.name} has no version {number}.")
    return found[0]


def changes(
    session: Session,
    data_set: DataSet,
    of: Step,
    *,
    kind: Kind | None = None,
    after: int | None = None,
    limit: int = 60,
) -> tuple[list[Change], int | None]:
    """List images that differ from the parent, by id, and the id to continue after."""
    query = _differences(data_set, of.version.number)
    if kind is not None:
        query = query.where(_kind_of == kind)
    rows, following = paginate(session, query, Image.id, after=after, limit=limit)
    deciders = _deciders(session, of, [row.image_id for row in rows])
    return [_change(data_set, row, deciders) for row in rows], following


_child, _before = aliased(VersionChange), aliased(VersionChange)
# Labels in parent and version: changed, else imported.
_label = case((_before.image_id.is_(None), Image.label), else_=func.coalesce(_before.label, OUT))
_new_label = case((_child.image_id.is_(None), Image.label), else_=func.coalesce(_child.label, OUT))
_kind_of = case((_new_label == OUT, "removed"), (_label == OUT, "returned"), else_="relabelled")


def _touched(data_set: DataSet, number: int | None) -> Subquery:
    """Select (version, parent, image) for images that either of them changed."""
    here = [Version.data_set_id == data_set.id, Version.parent_id.is_not(None)] + (
        [] if number is None else [Version.number == number]
    )
    columns = (Version.id.label("version_id"), Version.parent_id, VersionChange.image_id)
    own = select(*columns).join(VersionChange, VersionChange.version_id == Version.id).where(*here)
    parents = (
        select(*columns)
        .join(VersionChange, VersionChange.version_id == Version.parent_id)
        .where(*here)
    )
    return union(own, parents).subquery()


def _differences(data_set: DataSet, number: int | None) -> Select[Any]:
    """Select a row per version and image that differs from the parent."""
    touched = _touched(data_set, number)
    return (
        select(
            Image.id.label("image_id"),
            touched.c.version_id,
            Image.path,
            Image.content_hash,
            Image.width,
            Image.height,
            Image.split,
            _label.label("label"),
            _new_label.label("new_label"),
            _kind_of.label("kind"),
        )
        .join(Image, Image.id == touched.c.image_id)
        .outerjoin(
            _child, and_(_child.version_id == touched.c.version_id, _child.image_id == Image.id)
        )
        .outerjoin(
            _before, and_(_before.version_id == touched.c.parent_id, _before.image_id == Image.id)
        )
        .where(_label != _new_label)
    )


def _counts(session: Session, data_set: DataSet, number: int | None) -> dict[int, dict[str, int]]:
    """Count images by version id and kind."""
    found = _differences(data_set, number).subquery()
    rows = session.execute(
        select(found.c.version_id, found.c.kind, func.count()).group_by(
            found.c.version_id, found.c.kind
        )
    )
    counted: dict[int, dict[str, int]] = {}
    for version_id, kind, count in rows:
        counted.setdefault(version_id, {})[kind] = count
    return counted


def _deciders(
    session: Session, of: Step, image_ids: Sequence[int]
) -> dict[int, tuple[str | None, datetime]]:
    """Map image ids to their last decision before the version: who and when."""
    if of.review_id is None or not image_ids:
        return {}
    by_then = (
        Decision.review_id == of.review_id,
        Decision.image_id.in_(image_ids),
        Decision.created_at <= of.version.created_at,
    )
    last = select(func.max(Decision.id)).where(*by_then).group_by(Decision.image_id)
    decided = select(Decision.image_id, User.name, Decision.created_at).outerjoin(
        User, User.id == Decision.user_id
    )
    return {
        image_id: (name, at)
        for image_id, name, at in session.execute(decided.where(Decision.id.in_(last)))
    }


def _change(
    data_set: DataSet, row: Row[Any], deciders: dict[int, tuple[str | None, datetime]]
) -> Change:
    by, at = deciders.get(row.image_id, (None, None))
    label, new_label = (
        None if value == OUT else int(value) for value in (row.label, row.new_label)
    )
    return Change(
        image_id=row.image_id,
        path=row.path,
        thumbnail=f"/images/{data_set.id}/thumbnails/{row.content_hash}.webp",
        full=f"/images/{data_set.id}/full/{row.content_hash}.webp",
        small=max(row.width, row.height) <= SMALL_PIXELS,
        split=row.split,
        kind=row.kind,
        label=label,
        label_name=None if label is None else data_set.class_names[label],
        new_label=new_label,
        new_label_name=None if new_label is None else data_set.class_names[new_label],
        by=by,
        at=at,
    )
