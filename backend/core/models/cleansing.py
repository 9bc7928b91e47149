"""Cleansings: a review's decisions, carried out and measured."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base, now
from backend.core.reports import Verdict


class Cleansing(Base):
    """Decisions → new version → retraining → verdict → accepted or rolled back."""

    __tablename__ = "cleansings"
    id: Mapped[int] = mapped_column(primary_key=True)
    data_set_id: Mapped[int] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(Integer)  # runs point here with a foreign key
    parent_version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(
        String(20), default="queued"
    )  # queued | measured | accepted | rolled_back
    fresh_seeds: Mapped[list[int]] = mapped_column(default=list)
    verdict: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def typed_verdict(self) -> Verdict | None:
        """Return the typed verdict, if any."""
        return Verdict.model_validate(self.verdict) if self.verdict else None
