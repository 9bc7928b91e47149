"""Rules of a whole review."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, exists, func, select
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, NotFound
from backend.core.models import DataSet, Review, Run, Scoring, Suggestion, User
from backend.core.unjudged import describe
from backend.datasets import service as datasets
from backend.review.deciding import second_opinions

DECISIONS = ("remove", "keep", "relabel", "unsure")

# Every request of a review asks these: built once.
_WITH_DATA_SET = (
    select(Review, DataSet)
    .join(DataSet, DataSet.id == Review.data_set_id)
    .where(Review.id == bindparam("review"))
)
_UNJUDGED = select(Scoring.__table__.c.id, Scoring.__table__.c.report["unjudged"].as_json()).where(
    Scoring.__table__.c.id.in_(bindparam("scorings", expanding=True))
)


def get(session: Session, user: User, review_id: int) -> Review:
    """Return the review. Raises NotFound, also if its data set is hidden from the user."""
    found = session.execute(_WITH_DATA_SET, {"review": review_id}).first()
    if found is None:
        raise NotFound("There is no such review.")
    review, data_set = found
    datasets.get(session, user, data_set.id)
    return review


def find_work(session: Session) -> Review | None:
    """Return the newest review of a current version with undecided images, or None."""
    undecided = exists().where(Suggestion.review_id == Review.id, Suggestion.decision.is_(None))
    return session.scalar(
        select(Review)
        .join(DataSet, DataSet.current_version_id == Review.version_id)
        .where(Review.state == "ready", undecided)
        .order_by(Review.id.desc())
        .limit(1)
    )


def data_set_of(session: Session, user: User, review: Review) -> DataSet:
    return datasets.get(session, user, review.data_set_id)


def check_ready(review: Review) -> None:
    """Raise Conflict until the scoring has filled the queue."""
    if review.state != "ready":
        raise Conflict(
            "The suggestions are still being computed. The job's page shows how far it is."
        )


@dataclass(frozen=True)
class Unjudged:
    """Classes that each ranking of a review cannot judge: class number → reason."""

    accuracy: dict[int, str]
    label: dict[int, str]


def read_unjudged(session: Session, review: Review) -> Unjudged:
    """Read the classes that the rankings cannot judge, in one query."""
    scorings = [review.accuracy_scoring_id, review.label_scoring_id]
    rows = session.execute(_UNJUDGED, {"scorings": scorings})
    found = {
        scoring_id: {int(label): reason for label, reason in (unjudged or {}).items()}
        for scoring_id, unjudged in rows
    }
    return Unjudged(
        found.get(review.accuracy_scoring_id, {}), found.get(review.label_scoring_id, {})
    )


def get_run_doubt(session: Session, review: Review) -> str | None:
    """Return the warning that the run's model has not learned, or None."""
    return session.get_one(Run, review.run_id).typed_report.doubt


def list_doubts(session: Session, review: Review, class_names: list[str]) -> list[str]:
    """List what a reviewer must know first: of the model, the ranking, its classes."""
    doubts = [get_run_doubt(session, review)]
    scoring = (
        session.get(Scoring, review.accuracy_scoring_id) if review.accuracy_scoring_id else None
    )
    if scoring is not None and scoring.typed_report.warns:
        doubts.append(" ".join(scoring.typed_report.trust))
    unjudged = read_unjudged(session, review)
    doubts += describe(unjudged.accuracy, class_names)
    if review.label_scoring_id != review.accuracy_scoring_id:
        doubts += describe(unjudged.label, class_names)
    return [doubt for doubt in doubts if doubt]


def count_surely_harmful(session: Session, review: Review) -> int | None:
    """Count the images that hurt beyond luck; None where the ranking has no errors."""
    if review.accuracy_scoring_id is None:
        return None
    scoring = session.get(Scoring, review.accuracy_scoring_id)
    return None if scoring is None else scoring.typed_report.surely_harmful


def in_effect(review: Review) -> list[ColumnElement[bool]]:
    """Match suggestions that a cleansing applies, with the required agreement."""
    found: list[ColumnElement[bool]] = [
        Suggestion.review_id == review.id,
        Suggestion.decision.in_(second_opinions.CHANGES),
    ]
    return [*found, second_opinions.agreed()] if review.second_opinion else found


def ask_for_second_opinions(session: Session, review: Review, asked: bool) -> None:
    review.second_opinion = asked
    session.flush()


def unsettled(session: Session, review: Review) -> int:
    """Count removals and new labels without the required agreement."""
    if not review.second_opinion:
        return 0
    return (
        session.scalar(
            select(func.count())
            .select_from(Suggestion)
            .where(
                Suggestion.review_id == review.id,
                Suggestion.decision.in_(second_opinions.CHANGES),
                ~second_opinions.agreed(),
            )
        )
        or 0
    )
