"""A review's queue, what people decided on it, and what its pages show beside an image."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base, BigId, now


class Review(Base):
    """The queue made from one run's scorings: the chosen method's ranking and the label ranking, in turn; where they are one, that one."""

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
    # An owner may ask that two people agree before an image is removed or relabelled.
    second_opinion: Mapped[bool] = mapped_column(default=False, server_default=false())
    last_change: Mapped[int] = mapped_column(
        default=0
    )  # counts decisions up; browsers ask for what came after theirs
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReviewPart(Base):
    """Somebody who takes a part of the queue: those of a review share it out among them, image by image."""

    __tablename__ = "review_parts"
    review_id: Mapped[int] = mapped_column(
        ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    taken_at: Mapped[datetime] = mapped_column(default=now)


# What filters look at.
VIEWED = ("accuracy_rank", "label_rank", "label", "predicted", "decision", "decided_by")


class Suggestion(Base):
    """An image in a review's rankings, with all that a card shows, so that a page is one index range and no join.

    Ranks count from 1. `position` is the default queue's. `decision` is the latest one: remove | keep | relabel | unsure | null.
    """

    __tablename__ = "suggestions"
    __table_args__ = (
        UniqueConstraint("review_id", "position"),
        UniqueConstraint("review_id", "accuracy_rank"),
        UniqueConstraint("review_id", "label_rank"),
        # With the decision, what is undecided in a class is found, and counted, without looking at the rows.
        Index(None, "review_id", "label", "position", "decision"),
        Index(None, "review_id", "predicted", "position", "decision"),
        Index(None, "review_id", "decision", "position"),
        Index(None, "review_id", "change"),
        Index(
            None, "review_id", "label", "predicted", "decision"
        ),  # the confusion counts are read from this index alone
        Index(None, "review_id", "decided_by", "decision"),
        # All that a filter looks at: views by several of them, and their counts, are read from this index alone.
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
    accuracy_value: Mapped[
        float
    ]  # the review's method's; an influence where that speaks of harm: negative means harmful
    label_value: Mapped[float]  # margin: negative means that the label looks wrong
    label: Mapped[int] = mapped_column(Integer)  # given, in the review's version
    predicted: Mapped[int] = mapped_column(Integer)
    confidence: Mapped[float]  # of the predicted class, fraction
    label_confidence: Mapped[float]  # of the given class, fraction
    content_hash: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    row: Mapped[int] = mapped_column(Integer)
    decision: Mapped[str | None] = mapped_column(String(10))
    decision_label: Mapped[int | None] = mapped_column(Integer)
    decision_id: Mapped[int | None] = mapped_column(
        BigInteger
    )  # the row of `decisions` that is in force; null = undecided
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    decided_at: Mapped[datetime | None]
    change: Mapped[int] = mapped_column(default=0)  # the review's last_change when this was decided


class Decision(Base):
    """One act of one person; never changed. `action` is remove | keep | relabel | unsure | clear (an undo back to undecided)."""

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
    client_key: Mapped[str] = mapped_column(
        String(36)
    )  # made by the browser: a repeated request is the same decision
    action: Mapped[str] = mapped_column(String(10))
    label: Mapped[int | None] = mapped_column(Integer)
    batch: Mapped[str | None] = mapped_column(
        String(36)
    )  # the client's key of an act on many images: undone as one
    previous_id: Mapped[int | None] = mapped_column(
        BigInteger
    )  # the decision that was in force before; an undo restores it
    undoes_id: Mapped[int | None] = mapped_column(
        BigInteger, index=True
    )  # the decision that this one takes back
    redoes_id: Mapped[int | None] = mapped_column(
        BigInteger, index=True
    )  # the undo that this one does again
    created_at: Mapped[datetime] = mapped_column(default=now)


class Explanation(Base):
    """The validation images that an image of a review makes worse, and better, the most first: ids. State: asked | done."""

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
    looked: Mapped[int] = mapped_column(
        default=0
    )  # validation images among which they are the most affected
    worse: Mapped[list[int]] = mapped_column(default=list)
    better: Mapped[list[int]] = mapped_column(default=list)


class MapPoint(Base):
    """Where an image of a review stands among the others, by what the model's last layer sees of it.

    x, y: on the map that is there at once; near_x, near_y: on the one that keeps neighbours together, once somebody asked for it. in_group: which of
    the groups of like images. like_given, like_predicted: ids of its nearest neighbours among those with its label, and with the predicted class.
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
    """Images of a review that somebody picked out on the map, so that an address can name them."""

    __tablename__ = "selections"
    id: Mapped[int] = mapped_column(primary_key=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class SelectionImage(Base):
    """An image of a selection."""

    __tablename__ = "selection_images"
    selection_id: Mapped[int] = mapped_column(
        ForeignKey("selections.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
