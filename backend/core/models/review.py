"""Reviews: the queue, decisions, explanations, maps and selections."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base, BigId, now


class Review(Base):
    """A queue of a run's images: method and label rankings in turn."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | ready
    method: Mapped[str] = mapped_column(
        String(40), default="sgd_influence", server_default="sgd_influence"
    )  # of the first ranking
    accuracy_scoring_id: Mapped[int | None] = mapped_column(
        ForeignKey("scorings.id", ondelete="SET NULL")
    )
    label_scoring_id: Mapped[int | None] = mapped_column(
        ForeignKey("scorings.id", ondelete="SET NULL")
    )
    suggestion_count: Mapped[int] = mapped_column(default=0)
    # Removals and relabellings take two users.
    second_opinion: Mapped[bool] = mapped_column(default=False, server_default=false())
    last_change: Mapped[int] = mapped_column(
        default=0
    )  # counts decisions, for browsers to catch up
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReviewPart(Base):
    """A user's part of the queue, shared image by image."""

    __tablename__ = "review_parts"
    review_id: Mapped[int] = mapped_column(
        ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    taken_at: Mapped[datetime] = mapped_column(default=now)


# Columns of filters.
VIEWED = ("accuracy_rank", "label_rank", "label", "predicted", "decision", "decided_by")


class Suggestion(Base):
    """An image in a review's rankings, with a card's data: a page needs no join.

    Ranks count from 1. decision: remove | keep | relabel | unsure | null.
    """

    __tablename__ = "suggestions"
    __table_args__ = (
        UniqueConstraint("review_id", "position"),
        UniqueConstraint("review_id", "accuracy_rank"),
        UniqueConstraint("review_id", "label_rank"),
        # Counts a class's undecided images by index alone.
        Index(None, "review_id", "label", "position", "decision"),
        Index(None, "review_id", "predicted", "position", "decision"),
        Index(None, "review_id", "decision", "position"),
        Index(None, "review_id", "change"),
        Index(
            None, "review_id", "label", "predicted", "decision"
        ),  # confusion counts read this index alone
        Index(None, "review_id", "decided_by", "decision"),
        Index("ix_suggestions_view", "review_id", "position", *VIEWED, "image_id"),
    )
    review_id: Mapped[int] = mapped_column(
        ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    position: Mapped[int] = mapped_column(Integer)
    brought_by: Mapped[str] = mapped_column(String(10))  # accuracy | label | both
    accuracy_rank: Mapped[int] = mapped_column(Integer)
    label_rank: Mapped[int] = mapped_column(Integer)
    accuracy_value: Mapped[float]  # negative means harmful where the method measures harm
    accuracy_error: Mapped[float | None]  # standard error over validation images, where known
    label_value: Mapped[float]  # margin: negative looks wrong
    better_label: Mapped[int | None] = mapped_column(Integer)  # would help more than removal
    label: Mapped[int] = mapped_column(Integer)  # in the review's version
    predicted: Mapped[int] = mapped_column(Integer)
    confidence: Mapped[float]  # fraction
    label_confidence: Mapped[float]  # of the given class, fraction
    content_hash: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    row: Mapped[int] = mapped_column(Integer)
    decision: Mapped[str | None] = mapped_column(String(10))
    decision_label: Mapped[int | None] = mapped_column(Integer)
    decision_id: Mapped[int | None] = mapped_column(
        BigInteger
    )  # id in `decisions`; null = undecided
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    decided_at: Mapped[datetime | None]
    change: Mapped[int] = mapped_column(default=0)  # last_change at this decision


class Decision(Base):
    """A user's act, never changed. action: remove | keep | relabel | unsure | clear."""

    __tablename__ = "decisions"
    __table_args__ = (
        UniqueConstraint("review_id", "client_key"),
        Index(None, "review_id", "image_id"),
        Index(None, "review_id", "user_id", "id"),
        Index(None, "review_id", "batch"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    client_key: Mapped[str] = mapped_column(String(36))  # the browser's: detects repeated requests
    action: Mapped[str] = mapped_column(String(10))
    label: Mapped[int | None] = mapped_column(Integer)
    batch: Mapped[str | None] = mapped_column(
        String(36)
    )  # the client's, of an act on many images: undone together
    previous_id: Mapped[int | None] = mapped_column(BigInteger)  # for an undo to restore
    undoes_id: Mapped[int | None] = mapped_column(BigInteger, index=True)  # taken back by this undo
    redoes_id: Mapped[int | None] = mapped_column(
        BigInteger, index=True
    )  # undo that this act reverses
    created_at: Mapped[datetime] = mapped_column(default=now)


class Explanation(Base):
    """Ids of the validation images that an image makes worse and better, most first.

    state: asked | done.
    """

    __tablename__ = "explanations"
    __table_args__ = (Index(None, "review_id", "state"),)
    review_id: Mapped[int] = mapped_column(
        ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    state: Mapped[str] = mapped_column(String(10))
    asked_at: Mapped[datetime] = mapped_column(default=now)
    looked: Mapped[int] = mapped_column(default=0)  # compared images
    worse: Mapped[list[int]] = mapped_column(default=list)
    better: Mapped[list[int]] = mapped_column(default=list)


class MapPoint(Base):
    """Place of an image among the others, by last-layer features.

    x, y: on the first map. near_x, near_y: on the map of neighbours.
    like_given, like_predicted: nearest neighbours with its label, and with the predicted class.
    """

    __tablename__ = "map_points"
    __table_args__ = (Index(None, "review_id", "in_group", "image_id"),)
    review_id: Mapped[int] = mapped_column(
        ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    x: Mapped[float]
    y: Mapped[float]
    near_x: Mapped[float | None]
    near_y: Mapped[float | None]
    in_group: Mapped[int] = mapped_column(Integer)
    like_given: Mapped[list[int]] = mapped_column(default=list)
    like_predicted: Mapped[list[int]] = mapped_column(default=list)


class Selection(Base):
    """Images selected on the map, for an address."""

    __tablename__ = "selections"
    id: Mapped[int] = mapped_column(primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class SelectionImage(Base):
    __tablename__ = "selection_images"
    selection_id: Mapped[int] = mapped_column(
        ForeignKey("selections.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
