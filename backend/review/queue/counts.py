"""Counts of a review."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from backend.core.models import Review, Suggestion, User
from backend.review.queue.filters import Filters, conditions
from backend.review.service import DECISIONS

Counts = dict[str | None, int]

# Decisions that stop advice counts, the fewest it needs, and those it remembers.
ADVICE_WINDOW = 50
ADVICE_LEAST = 20
ADVICE_MEMORY = 200
# Shares of removals and new labels.
STOP_BELOW, RESUME_FROM = 0.1, 0.2

# Every decision asks these: built once, on the table.
_columns = Suggestion.__table__.c
_IN_REVIEW = _columns.review_id == bindparam("review")
# Without filters, an index holds decided rows by decision.
_BY_DECISION = (
    select(
        _columns.decision,
        func.count().label("images"),
        select(func.count())
        .where(_IN_REVIEW, _columns.decided_by == bindparam("user"))
        .correlate(None)
        .scalar_subquery()
        .label("mine"),
    )
    .where(_IN_REVIEW, _columns.decision.is_not(None))
    .group_by(_columns.decision)
)
_LATEST = (
    select(_columns.decision)
    .where(_IN_REVIEW, _columns.change > 0, _columns.decision.is_not(None))
    .order_by(_columns.change.desc())
    .limit(ADVICE_MEMORY)
)


@dataclass(frozen=True)
class Progress:
    """Progress of a review, by everybody and by one user."""

    total: int
    remove: int
    keep: int
    relabel: int
    unsure: int
    mine: int

    @property
    def decided(self) -> int:
        return self.remove + self.keep + self.relabel + self.unsure

    @property
    def undecided(self) -> int:
        return self.total - self.decided


@dataclass(frozen=True)
class Advice:
    """Stop advice: `confirmed` of the latest `window` decisions were removals or new labels."""

    window: int
    confirmed: int
    stop: bool
    sentence: str


def by_decision(session: Session, review: Review, filters: Filters) -> Counts:
    """Count a view's suggestions by decision (None: undecided)."""
    # Grouped, SQLite would walk the whole queue whatever the filters.
    kinds = (None, *DECISIONS)
    columns = [
        func.count().filter(
            Suggestion.decision.is_(None) if kind is None else Suggestion.decision == kind
        )
        for kind in kinds
    ]
    where = conditions(review, filters, alone=filters.ranged)
    return dict(zip(kinds, session.execute(select(*columns).where(*where)).one(), strict=True))


def progress(session: Session, review: Review, user: User) -> Progress:
    rows = session.execute(_BY_DECISION, {"review": review.id, "user": user.id}).all()
    decided = {row.decision: row.images for row in rows}
    return Progress(
        total=review.suggestion_count,
        mine=rows[0].mine if rows else 0,
        **{name: decided.get(name, 0) for name in DECISIONS},
    )


def confusion(session: Session, review: Review) -> list[tuple[int, int, int, int]]:
    """List (given class, predicted class, images, decided), most frequent pairs first."""
    rows = session.execute(
        select(
            Suggestion.label, Suggestion.predicted, func.count(), func.count(Suggestion.decision)
        )
        .where(Suggestion.review_id == review.id)
        .group_by(Suggestion.label, Suggestion.predicted)
    ).all()
    pairs = [(label, predicted, count, decided) for label, predicted, count, decided in rows]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def advice(session: Session, review: Review) -> Advice:
    """Advise when to stop, from the latest decisions in force."""
    latest = session.execute(_LATEST, {"review": review.id}).scalars().all()
    return advise([decision in ("remove", "relabel") for decision in reversed(latest)])


def advise(confirmed: Sequence[bool]) -> Advice:
    """Advise by the latest decisions, oldest first: True for a removal or new label."""
    window = min(len(confirmed), ADVICE_WINDOW)
    found = sum(confirmed[len(confirmed) - window :])
    if window < ADVICE_LEAST:
        left = ADVICE_LEAST - window
        more = f"{left} more {'decision' if left == 1 else 'decisions'}"
        sentence = f"After {more}, we’ll tell you if it’s worth continuing."
        return Advice(window, found, stop=False, sentence=sentence)
    # Other people's decisions count too.
    counted = f"Of the last {window} decisions, {found} removed or relabelled an image."
    if _stops(confirmed):
        return Advice(window, found, True, f"{counted} Continuing is unlikely to pay.")
    if found < window * 3 / 10:
        return Advice(window, found, False, f"{counted} Continuing still pays a little.")
    return Advice(window, found, False, f"{counted} Continuing is worth it.")


def _stops(confirmed: Sequence[bool]) -> bool:
    """Replay the advice with two thresholds, so that it does not flip at a single decision."""
    stops = False
    until = [0, *accumulate(confirmed)]  # how many were confirmed before each place
    for end in range(ADVICE_LEAST, len(confirmed) + 1):
        start = max(0, end - ADVICE_WINDOW)
        share = (until[end] - until[start]) / (end - start)
        if share < STOP_BELOW:
            stops = True
        elif share >= RESUME_FROM:
            stops = False
    return stops
