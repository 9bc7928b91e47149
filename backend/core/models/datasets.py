"""Data sets, their images and versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    Index,
    Integer,
    Select,
    String,
    Text,
    UniqueConstraint,
    and_,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from backend.core.models.base import Base, BigId, now
from backend.core.reports import ImportReport


class DataSet(Base):
    __tablename__ = "data_sets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[dict[str, Any]] = mapped_column(default=dict)  # kind, path, options
    state: Mapped[str] = mapped_column(
        String(20), default="importing"
    )  # importing | ready | failed
    seed: Mapped[int] = mapped_column(default=0)
    class_names: Mapped[list[str]] = mapped_column(default=list)
    height: Mapped[int] = mapped_column(default=0)  # of the pixel array
    width: Mapped[int] = mapped_column(default=0)
    channels: Mapped[int] = mapped_column(default=0)
    image_count: Mapped[int] = mapped_column(default=0)
    refused_count: Mapped[int] = mapped_column(default=0)
    duplicate_count: Mapped[int] = mapped_column(default=0)
    planted_count: Mapped[int] = mapped_column(default=0)
    report: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # seconds, split seed, notes for people
    current_version_id: Mapped[int | None] = mapped_column(
        Integer
    )  # no foreign key: versions point here
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def typed_report(self) -> ImportReport:
        return ImportReport.model_validate(self.report)


# Smaller originals are enlarged without blur.
SMALL_PIXELS = 64


class Image(Base):
    """An image as imported, immutable. `true_label` is set for a planted error."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("data_set_id", "row"),
        Index(None, "data_set_id", "split", "label"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"))
    row: Mapped[int] = mapped_column(Integer)  # of the pixel array
    path: Mapped[str] = mapped_column(Text)  # in the import
    content_hash: Mapped[str] = mapped_column(String(64))  # of the decoded pixels; names the files
    split: Mapped[str] = mapped_column(String(10))  # train | validation | test
    label: Mapped[int] = mapped_column(Integer)
    true_label: Mapped[int | None] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)  # of the original
    height: Mapped[int] = mapped_column(Integer)


class Refusal(Base):
    """A file that was not imported, and the reason."""

    __tablename__ = "refusals"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    data_set_id: Mapped[int] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    path: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class Version(Base):
    """An immutable state of a data set, with all changes since the import."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("data_set_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    number: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(
        String(20), default="accepted"
    )  # proposed | accepted | rolled_back
    note: Mapped[str] = mapped_column(String(500), default="")
    removed_count: Mapped[int] = mapped_column(default=0)
    relabelled_count: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class VersionChange(Base):
    """An image that a version leaves out (null) or relabels."""

    __tablename__ = "version_changes"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    label: Mapped[int | None] = mapped_column(Integer)


def images_of(version_id: int) -> Select[int, int, str, int]:
    """Select (id, row, split, label) of a version's images, in order of id."""
    return (
        select(
            Image.id,
            Image.row,
            Image.split,
            func.coalesce(VersionChange.label, Image.label).label("label"),
        )
        .join(Version, Version.data_set_id == Image.data_set_id)
        .outerjoin(
            VersionChange,
            and_(VersionChange.version_id == Version.id, VersionChange.image_id == Image.id),
        )
        .where(
            Version.id == version_id,
            or_(VersionChange.image_id.is_(None), VersionChange.label.is_not(None)),
        )
        .order_by(Image.id)
    )


def are_photographs(session: Session, data_set_id: int) -> bool:
    """True where most originals are larger than 64 pixels: a backbone knows such pictures."""
    large = or_(Image.width > SMALL_PIXELS, Image.height > SMALL_PIXELS)
    count, of_large = session.execute(
        select(func.count(), func.count().filter(large)).where(Image.data_set_id == data_set_id)
    ).one()
    return 2 * of_large > count
