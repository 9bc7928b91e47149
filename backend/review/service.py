"""The rules of a review as a whole: who may see it, whether it is ready, and which of its decisions count.

Its suggestions are in listing.py and filtering.py, what is counted of them in counting.py, deciding in decisions.py.
"""

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, NotFound
from backend.core.models import DataSet, Review, Scoring, Suggestion, User
from backend.datasets import service as datasets
from backend.review.deciding import second_opinions

DECISIONS = ("remove", "keep", "relabel", "unsure")


def get(session: Session, user: User, review_id: int) -> Review:
    """The review, or NotFound; also where its data set is not for this person."""
    review = session.get(Review, review_id)
    if review is None:
        raise NotFound("There is no such review.")
    datasets.get(session, user, review.data_set_id)
    return review


def data_set_of(session: Session, user: User, review: Review) -> DataSet:
    """The review's data set, with the class names."""
    return datasets.get(session, user, review.data_set_id)


def check_ready(review: Review) -> None:
    """Conflict until the scoring has filled the queue."""
    if review.state != "ready":
        raise Conflict(
            "The suggestions are still being computed. The job's page shows how far it is."
        )


def doubt(session: Session, review: Review) -> str | None:
    """What the scoring's own report says against trusting the ranking, in its own sentences; None where it warns of nothing."""
    scoring = (
        session.get(Scoring, review.accuracy_scoring_id) if review.accuracy_scoring_id else None
    )
    if scoring is None or not scoring.typed_report.warns:
        return None
    return " ".join(scoring.typed_report.trust) or None


def in_effect(review: Review) -> list[ColumnElement[bool]]:
    """The SQL conditions of the suggestions that a cleansing removes or relabels: where two must agree, those on which two do."""
    found: list[ColumnElement[bool]] = [
        Suggestion.review_id == review.id,
        Suggestion.decision.in_(second_opinions.CHANGES),
    ]
    return [*found, second_opinions.agreed()] if review.second_opinion else found


def ask_for_second_opinions(session: Session, review: Review, asked: bool) -> None:
    """Whether two people must agree before an image is removed or relabelled; at any time, as every decision is kept."""
    review.second_opinion = asked
    session.flush()


def unsettled(session: Session, review: Review) -> int:
    """How many removals and new labels do not count, as nobody has agreed with them."""
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
