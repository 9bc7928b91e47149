"""Which suggestions of a review to show: what filters may say, and what they are in SQL."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from backend.core.errors import Invalid
from backend.core.models import (
    Decision,
    MapPoint,
    Review,
    Selection,
    SelectionImage,
    Suggestion,
    User,
)
from backend.review import service
from backend.review.deciding import second_opinions
from backend.review.queue import orderings, shares

DECISION_FILTERS = ("undecided", "decided", *service.DECISIONS, *second_opinions.FILTERS)
MOST_PEOPLE = 500
GRAIN = 1e-6


@dataclass(frozen=True)
class Filters:
    """Which suggestions to show; the names are those of the address and of the API.

    label, predicted: numbers of classes. decision: one of DECISION_FILTERS. by: whose decision is in force, a person's number.
    not_by: the decision in force is another person's; with `decision=waiting`, the images on which this person's opinion is wanted.
    accuracy_min and so on bound the length of a card's bars, in percent: of how many of the other images it hurts more, or looks more wrong.
    group: of like images. selection: of images that somebody picked out on the map.
    part: whose part of a queue that is shared out (backend/review/queue/shares.py).
    """

    label: int | None = None
    predicted: int | None = None
    decision: str | None = None
    by: int | None = None
    accuracy_min: float | None = None
    accuracy_max: float | None = None
    label_min: float | None = None
    label_max: float | None = None
    group: int | None = None
    selection: int | None = None
    part: int | None = None
    not_by: int | None = None

    def __bool__(self) -> bool:
        return bool(self.address())

    @property
    def ranged(self) -> bool:
        """Whether there is a filter that no index of one column answers: a bound, or a set of images."""
        bounds = (self.accuracy_min, self.accuracy_max, self.label_min, self.label_max)
        return any(bound is not None for bound in (*bounds, self.group, self.selection))

    @property
    def decided(self) -> bool:
        """Whether the filters themselves say which decisions to show; where they do not, an act on the whole view leaves the decided alone."""
        return any(value is not None for value in (self.decision, self.by, self.not_by))

    def address(self) -> dict[str, int | float | str]:
        """The filters in use, as they stand in the address."""
        return {name: _plain(value) for name, value in vars(self).items() if value is not None}


def _plain(value: int | float | str) -> int | float | str:
    """90 rather than 90.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Known:
    """What filters and orders may name in a review.

    people: id → name of everybody. deciders: the ones who decided something here. methods: see `orders.scored`. selections: those
    that are kept. sharers: who takes a part.
    """

    class_names: Sequence[str]
    people: Mapping[int, str]
    deciders: Sequence[int]
    methods: Mapping[str, int]
    selections: Sequence[int] = ()
    sharers: Sequence[int] = ()


def known(session: Session, user: User, review: Review) -> Known:
    """What the filters and orders of this review can name."""
    decided = (
        select(Decision.id)
        .where(Decision.review_id == review.id, Decision.user_id == User.id)
        .exists()
    )
    people = session.execute(
        select(User.id, User.name, decided).order_by(User.name).limit(MOST_PEOPLE)
    ).all()
    return Known(
        class_names=service.data_set_of(session, user, review).class_names,
        people={user_id: name for user_id, name, _ in people},
        deciders=[user_id for user_id, _, decides in people if decides],
        methods=orderings.scored(session, review),
        selections=session.scalars(
            select(Selection.id).where(Selection.review_id == review.id)
        ).all(),
        sharers=[one.user_id for one in shares.of_review(session, review)],
    )


def check(filters: Filters, known: Known) -> None:
    """Invalid when a filter names a class, a decision or a person that does not exist, or bounds that nothing can lie between."""
    for label in (filters.label, filters.predicted):
        if label is not None and not 0 <= label < len(known.class_names):
            raise Invalid(f"This data set has no class number {label}.")
    if filters.decision is not None and filters.decision not in DECISION_FILTERS:
        raise Invalid(
            f"“{filters.decision}” is no decision; it may be {', '.join(DECISION_FILTERS)}."
        )
    for person in (filters.by, filters.not_by, filters.part):
        if person is not None and person not in known.people:
            raise Invalid(f"There is no person number {person}.")
    if filters.group is not None and filters.group < 1:
        raise Invalid("Groups are numbered from 1.")
    if filters.selection is not None and filters.selection not in known.selections:
        raise Invalid("That selection is not kept any more. Pick the images out on the map again.")
    for name, least, most in (
        ("accuracy", filters.accuracy_min, filters.accuracy_max),
        ("label", filters.label_min, filters.label_max),
    ):
        bounds = (0.0 if least is None else least, 100.0 if most is None else most)
        if not 0 <= bounds[0] <= bounds[1] <= 100:
            raise Invalid(
                f"{name}_min and {name}_max are percentages from 0 to 100, the smaller one first."
            )


def conditions(
    review: Review, filters: Filters, *, alone: bool = False
) -> list[ColumnElement[bool]]:
    """The SQL conditions of a view. alone: so that SQLite reads them from the index of views, which has every column of them,
    rather than from the index of one, with a look at each row for the others.
    """
    found: list[ColumnElement[bool]] = [Suggestion.review_id == review.id]

    def column(of: InstrumentedAttribute[Any]) -> Any:
        return (
            func.coalesce(of, literal_column("''" if of is Suggestion.decision else "0"))
            if alone
            else of
        )

    for given, wanted in (
        (Suggestion.label, filters.label),
        (Suggestion.predicted, filters.predicted),
        (Suggestion.decided_by, filters.by),
    ):
        if wanted is not None:
            found.append(column(given) == wanted)
    if filters.not_by is not None:
        found.append(second_opinions.of_another(filters.not_by))
    if filters.decision in ("undecided", "decided"):
        none = column(Suggestion.decision) == "" if alone else Suggestion.decision.is_(None)
        found.append(none if filters.decision == "undecided" else ~none)
    elif filters.decision in second_opinions.FILTERS:
        found.append(second_opinions.FILTERS[filters.decision]())
    elif filters.decision is not None:
        found.append(column(Suggestion.decision) == filters.decision)
    if filters.group is not None:
        there = select(MapPoint.image_id).where(
            MapPoint.review_id == review.id, MapPoint.in_group == filters.group
        )
        found.append(Suggestion.image_id.in_(there))
    if filters.selection is not None:
        picked = select(SelectionImage.image_id).where(
            SelectionImage.selection_id == filters.selection
        )
        found.append(Suggestion.image_id.in_(picked))
    if filters.part is not None:
        found.append(shares.holds(review, filters.part))
    count = review.suggestion_count
    found += _within(
        column(Suggestion.accuracy_rank), filters.accuracy_min, filters.accuracy_max, count
    )
    return found + _within(
        column(Suggestion.label_rank), filters.label_min, filters.label_max, count
    )


def _within(
    rank: ColumnElement[int], least: float | None, most: float | None, count: int
) -> list[ColumnElement[bool]]:
    """Bounds of a bar's length as bounds of a rank: the bar of rank r is (count − r) / (count − 1) long.

    A bar that is empty because its value speaks for the image counts by its rank all the same: no index has the values, and asking for them made
    such a page of 50,000 images take twice its 40 ms.
    """
    found: list[ColumnElement[bool]] = []
    if least is not None:
        # The grain keeps a bar of exactly that length in, whatever the rounding.
        found.append(rank <= math.floor(count - least / 100 * (count - 1) + GRAIN))
    if most is not None:
        found.append(rank >= math.ceil(count - most / 100 * (count - 1) - GRAIN))
    return found
