"""All tables. Relationships never load silently: there are none; services join what they need."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    case,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.dml import ReturningUpdate


def now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets zones, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    # Named constraints: Alembic can change them on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this class attribute
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[int]: JSON,
    }


# Row numbers: 64 bits on PostgreSQL; SQLite gives ids by itself to INTEGER keys only.
BigId = BigInteger().with_variant(Integer, "sqlite")


# ── accounts ────────────────────────────────────────────────────────────────────────────────────────────────────────


class User(Base):
    """A person. Role "owner" may do everything, "reviewer" may look and decide."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Credential(Base):
    """A secret that signs a user in: kind "login_link" (once), "session" (cookie) or "api_token". Only its SHA-256 is kept."""

    __tablename__ = "credentials"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(100), default="")
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Job(Base):
    """Queued work with progress. This row is the truth; a message only carries its id.

    State: queued → running → done | failed | cancelled. `claim` names the attempt that owns the running row: machine, process, random part.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "heartbeat_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    title: Mapped[str] = mapped_column(String(300))
    # The one row that this job works for: a data set (import), run (train, member), review (score, explain, map), cleansing (cleanse).
    subject_id: Mapped[int] = mapped_column(Integer)
    data_set_id: Mapped[int | None] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"), index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress_done: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_total: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_message: Mapped[str] = mapped_column(String(300), default="")
    attempts: Mapped[int] = mapped_column(default=0)
    seconds_left: Mapped[float | None]  # as the worker estimates it from its own pace
    claim: Mapped[str | None] = mapped_column(String(120))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobLogLine(Base):
    """A line that a person can read."""

    __tablename__ = "job_log_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(default=now)
    message: Mapped[str] = mapped_column(Text)


# ── datasets ────────────────────────────────────────────────────────────────────────────────────────────────────────


class DataSet(Base):
    """Imported images of one classification task. Pixels lie in files/datasets/<id>/pixels.npy, row by row."""

    __tablename__ = "data_sets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what to import, as asked: kind, path, options
    state: Mapped[str] = mapped_column(String(20), default="importing")  # importing | ready | failed
    seed: Mapped[int] = mapped_column(default=0)
    class_names: Mapped[list[str]] = mapped_column(default=list)
    height: Mapped[int] = mapped_column(default=0)  # of the pixel array
    width: Mapped[int] = mapped_column(default=0)
    channels: Mapped[int] = mapped_column(default=0)
    image_count: Mapped[int] = mapped_column(default=0)
    refused_count: Mapped[int] = mapped_column(default=0)
    duplicate_count: Mapped[int] = mapped_column(default=0)
    planted_count: Mapped[int] = mapped_column(default=0)
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)  # seconds, split seed, notes for people
    current_version_id: Mapped[int | None] = mapped_column(Integer)  # the accepted version; no foreign key: versions point here
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


# Originals up to this many pixels a side are enlarged without blur.
SMALL_PIXELS = 64


class Image(Base):
    """One image as imported; immutable. `true_label` is set where an error was planted on purpose."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("data_set_id", "row"),
        Index(None, "data_set_id", "split", "label"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"))
    row: Mapped[int] = mapped_column(Integer)  # row of the pixel array
    path: Mapped[str] = mapped_column(Text)  # name in the import, for people
    content_hash: Mapped[str] = mapped_column(String(64))  # of the decoded pixels; names thumbnail and full image
    split: Mapped[str] = mapped_column(String(10))  # train | validation | test
    label: Mapped[int] = mapped_column(Integer)
    true_label: Mapped[int | None] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)  # of the original
    height: Mapped[int] = mapped_column(Integer)


class Refusal(Base):
    """A file that was not imported, and why."""

    __tablename__ = "refusals"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"), index=True)
    path: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class Version(Base):
    """An immutable state of a data set. Its changes are all those since the import, so no chain is ever walked."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("data_set_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    number: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(20), default="accepted")  # proposed | accepted | rolled_back
    note: Mapped[str] = mapped_column(String(500), default="")
    removed_count: Mapped[int] = mapped_column(default=0)
    relabelled_count: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class VersionChange(Base):
    """An image that this version leaves out (label is null) or holds under another label."""

    __tablename__ = "version_changes"
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)
    label: Mapped[int | None] = mapped_column(Integer)


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Run(Base):
    """One training on one version. Trajectory in files/runs/<id>. A cleansing's trainings carry its id, protocol and arm."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | done (the job says the rest)
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)  # as asked; the worker fills in the whole recipe
    seed: Mapped[int] = mapped_column(default=0)
    params_hash: Mapped[str | None] = mapped_column(String(64))
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)  # seconds, bytes, parameters, environment
    # use_alter: runs and cleansings point at each other, so PostgreSQL gets this key once both tables are there.
    cleansing_id: Mapped[int | None] = mapped_column(ForeignKey("cleansings.id", ondelete="CASCADE", use_alter=True), index=True)
    protocol: Mapped[str | None] = mapped_column(String(20))  # same_seed | fresh_seeds
    arm: Mapped[str | None] = mapped_column(String(20))  # before | cleaned | random
    # The run whose recipe this one repeats with another seed, to be averaged with it. Runs go with their data set, all at once: no key.
    repeats_run_id: Mapped[int | None] = mapped_column(Integer, index=True)
    test_accuracy: Mapped[float | None]  # fraction; only a cleansing's trainings touch the test split
    test_loss: Mapped[float | None]
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class RunEpoch(Base):
    """What one epoch reported; the live chart reads these."""

    __tablename__ = "run_epochs"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    train_loss: Mapped[float]
    train_accuracy: Mapped[float]
    validation_loss: Mapped[float | None]
    validation_accuracy: Mapped[float | None]
    learning_rate: Mapped[float]
    seconds: Mapped[float]
    params_hash: Mapped[str] = mapped_column(String(64))


class Scoring(Base):
    """One method applied to one run, or to several and averaged. The values lie in `scores`."""

    __tablename__ = "scorings"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    method: Mapped[str] = mapped_column(String(40))
    review_id: Mapped[int | None] = mapped_column(Integer, index=True)  # the review for whose average this is one part
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)  # span, damping; runs, where it is an average
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | done
    exact: Mapped[bool] = mapped_column(default=True)
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Score(Base):
    """The value of one image in one scoring: low means look at it first. Rank counts from 1."""

    __tablename__ = "scores"
    __table_args__ = (Index(None, "scoring_id", "rank"),)
    scoring_id: Mapped[int] = mapped_column(ForeignKey("scorings.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)
    value: Mapped[float]
    rank: Mapped[int] = mapped_column(Integer)


# ── review ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Review(Base):
    """The queue made from one run's scorings: the chosen method's ranking and the label ranking, in turn; where they are one, that one."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | ready
    method: Mapped[str] = mapped_column(String(40), default="sgd_influence", server_default="sgd_influence")  # of the first ranking
    accuracy_scoring_id: Mapped[int | None] = mapped_column(ForeignKey("scorings.id", ondelete="SET NULL"))
    label_scoring_id: Mapped[int | None] = mapped_column(ForeignKey("scorings.id", ondelete="SET NULL"))
    suggestion_count: Mapped[int] = mapped_column(default=0)
    # An owner may ask that two people agree before an image is removed or relabelled.
    second_opinion: Mapped[bool] = mapped_column(default=False, server_default=false())
    last_change: Mapped[int] = mapped_column(default=0)  # counts decisions up; browsers ask for what came after theirs
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReviewPart(Base):
    """Somebody who takes a part of the queue: those of a review share it out among them, image by image."""

    __tablename__ = "review_parts"
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
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
        Index(None, "review_id", "label", "predicted", "decision"),  # the confusion counts are read from this index alone
        Index(None, "review_id", "decided_by", "decision"),
        # All that a filter looks at: views by several of them, and their counts, are read from this index alone.
        Index("ix_suggestions_view", "review_id", "position", *VIEWED, "image_id"),
    )
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(Integer)
    brought_by: Mapped[str] = mapped_column(String(10))  # accuracy | label | both
    accuracy_rank: Mapped[int] = mapped_column(Integer)
    label_rank: Mapped[int] = mapped_column(Integer)
    accuracy_value: Mapped[float]  # the review's method's; an influence where that speaks of harm: negative means harmful
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
    decision_id: Mapped[int | None] = mapped_column(BigInteger)  # the row of `decisions` that is in force; null = undecided
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
    client_key: Mapped[str] = mapped_column(String(36))  # made by the browser: a repeated request is the same decision
    action: Mapped[str] = mapped_column(String(10))
    label: Mapped[int | None] = mapped_column(Integer)
    batch: Mapped[str | None] = mapped_column(String(36))  # the client's key of an act on many images: undone as one
    previous_id: Mapped[int | None] = mapped_column(BigInteger)  # the decision that was in force before; an undo restores it
    undoes_id: Mapped[int | None] = mapped_column(BigInteger, index=True)  # the decision that this one takes back
    redoes_id: Mapped[int | None] = mapped_column(BigInteger, index=True)  # the undo that this one does again
    created_at: Mapped[datetime] = mapped_column(default=now)


class Explanation(Base):
    """The validation images that an image of a review makes worse, and better, the most first: ids. State: asked | done."""

    __tablename__ = "explanations"
    __table_args__ = (Index(None, "review_id", "state"),)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(10))
    asked_at: Mapped[datetime] = mapped_column(default=now)
    looked: Mapped[int] = mapped_column(default=0)  # validation images among which they are the most affected
    worse: Mapped[list[int]] = mapped_column(default=list)
    better: Mapped[list[int]] = mapped_column(default=list)


class MapPoint(Base):
    """Where an image of a review stands among the others, by what the model's last layer sees of it.

    x, y: on the map that is there at once; near_x, near_y: on the one that keeps neighbours together, once somebody asked for it. in_group: which of
    the groups of like images. like_given, like_predicted: ids of its nearest neighbours among those with its label, and with the predicted class.
    """

    __tablename__ = "map_points"
    __table_args__ = (Index(None, "review_id", "in_group", "image_id"),)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)
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
    selection_id: Mapped[int] = mapped_column(ForeignKey("selections.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True)


# ── cleansing ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Cleansing(Base):
    """Decisions → new version → retraining → verdict → accepted or rolled back."""

    __tablename__ = "cleansings"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(ForeignKey("data_sets.id", ondelete="CASCADE"), index=True)
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(Integer)  # the run whose seed "same seed" repeats; runs point here with a foreign key
    parent_version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | measured | accepted | rolled_back
    fresh_seeds: Mapped[list[int]] = mapped_column(default=list)
    verdict: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)


# SQLite gives the number of a deleted row to the next one unless told not to. Numbers stand in addresses, in folder names and in what
# browsers have yet to send, so none may ever come to mean something else.
for _table in Base.metadata.tables.values():
    if "id" in _table.primary_key.columns:
        _table.dialect_options["sqlite"]["autoincrement"] = True


def images_of(version_id: int) -> Select[int, int, str, int]:
    """The images of a version as rows (id, row, split, label in this version), removed ones left out, in order of id."""
    return (
        select(Image.id, Image.row, Image.split, func.coalesce(VersionChange.label, Image.label).label("label"))
        .join(Version, Version.data_set_id == Image.data_set_id)
        .outerjoin(VersionChange, and_(VersionChange.version_id == Version.id, VersionChange.image_id == Image.id))
        .where(Version.id == version_id, or_(VersionChange.image_id.is_(None), VersionChange.label.is_not(None)))
        .order_by(Image.id)
    )


def release_jobs(*where: ColumnElement[bool]) -> ReturningUpdate[int, str, str]:
    """Take running jobs from their worker: back into the queue, or cancelled where somebody asked for that. Returns (id, kind, state)."""
    stopped = Job.cancel_requested.is_(True)
    return (
        update(Job)
        .where(Job.state == "running", *where)
        .values(
            state=case((stopped, "cancelled"), else_="queued"),
            finished_at=case((stopped, now())),
            claim=None,
            heartbeat_at=None,
            seconds_left=None,
        )
        .returning(Job.id, Job.kind, Job.state)
    )
