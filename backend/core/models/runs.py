"""Trainings and their scorings."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base, now
from backend.core.reports import RunReport, ScoringReport


class Run(Base):
    """A training on a version; a cleansing's trainings carry its id, protocol and arm."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(
        String(20), default="queued"
    )  # queued | done (the job has the rest)
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)  # the worker completes it
    seed: Mapped[int] = mapped_column(default=0)
    params_hash: Mapped[str | None] = mapped_column(String(64))
    report: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # seconds, bytes, parameters, environment
    # use_alter: runs and cleansings point at each other.
    cleansing_id: Mapped[int | None] = mapped_column(
        ForeignKey("cleansings.id", ondelete="CASCADE", use_alter=True), index=True
    )
    protocol: Mapped[str | None] = mapped_column(String(20))  # same_seed | fresh_seeds
    arm: Mapped[str | None] = mapped_column(String(20))  # before | cleaned | random
    # With another seed. No key: runs go with their data set.
    repeats_run_id: Mapped[int | None] = mapped_column(Integer, index=True)
    test_accuracy: Mapped[float | None]  # fraction, in a cleansing only
    test_loss: Mapped[float | None]
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def typed_report(self) -> RunReport:
        return RunReport.model_validate(self.report)


class RunEpoch(Base):
    """Figures of an epoch, for the live chart."""

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
    """A method applied to a run, or averaged over several; `scores` has the values."""

    __tablename__ = "scorings"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="SET NULL"), index=True
    )
    method: Mapped[str] = mapped_column(String(40))
    review_id: Mapped[int | None] = mapped_column(
        Integer, index=True
    )  # the review whose average includes this
    options: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # span, damping; the runs of an average
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued | done
    exact: Mapped[bool] = mapped_column(default=True)
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def typed_report(self) -> ScoringReport:
        return ScoringReport.model_validate(self.report)


class Score(Base):
    """An image's value in a scoring. Rank counts from 1, low first."""

    __tablename__ = "scores"
    __table_args__ = (Index(None, "scoring_id", "rank"),)
    scoring_id: Mapped[int] = mapped_column(
        ForeignKey("scorings.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    value: Mapped[float]
    rank: Mapped[int] = mapped_column(Integer)
