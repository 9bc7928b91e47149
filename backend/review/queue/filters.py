"""Filters of a review's queue: one model for query, body and address."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
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
from backend.web.request_body import Body

DECISION_FILTERS = ("undecided", "decided", *service.DECISIONS, *second_opinions.FILTERS)
MOST_PEOPLE = 500
GRAIN = 1e-6


@dataclass(frozen=True)
class AddressText:
    """Text form of a field in an address; notes call the value `noun`."""

    noun: str
    pattern: str = r"\d{1,9}"


Class = Annotated[int | None, Field(ge=0), AddressText("class of this data set")]
Person = Annotated[int | None, AddressText("person's number")]
Group = Annotated[int | None, Field(ge=1), AddressText("number of a group or a selection")]
Percentage = Annotated[
    float | None,
    Field(ge=0, le=100, description="Bounds the card's bar, in percent."),
    AddressText("percentage", r"\d{1,3}(\.\d{1,6})?"),
]


class Filters(Body):
    """A view, in the words of its address."""

    model_config = ConfigDict(frozen=True)

    label: Class = None
    predicted: Class = None
    decision: str | None = Field(None, json_schema_extra={"enum": [*DECISION_FILTERS, None]})
    by: Person = Field(None, description="Whose decision is in force: a person's id.")
    accuracy_min: Percentage = None
    accuracy_max: Percentage = None
    label_min: Percentage = None
    label_max: Percentage = None
    group: Group = Field(
        None, description="A group of like images, as the list of groups numbers them."
    )
    selection: Group = Field(
        None, description="The id of a selection that was picked out on the map."
    )
    part: Person = Field(
        None, description="Whose part of a queue that is shared out: a person's id."
    )
    not_by: Person = Field(
        None,
        description="Whose decision is not in force, but another's; with `decision=waiting`: "
        "whose opinion is wanted.",
    )

    def __bool__(self) -> bool:
        return bool(self.address())

    @property
    def ranged(self) -> bool:
        """Tell if bounds or a set of images are given, which no single-column index answers."""
        bounds = (self.accuracy_min, self.accuracy_max, self.label_min, self.label_max)
        return any(bound is not None for bound in (*bounds, self.group, self.selection))

    @property
    def decided(self) -> bool:
        """Tell if the filters choose by decision; else acts on a view skip decided images."""
        return any(value is not None for value in (self.decision, self.by, self.not_by))

    def address(self) -> dict[str, int | float | str]:
        """Return the filters in use, as in the address."""
        values = {name: getattr(self, name) for name in Filters.model_fields}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    def with_text(self, name: str, text: str) -> "Filters":
        """Add a filter from an address. Raises Invalid for nonsense."""
        metadata = Filters.model_fields[name].metadata
        rule = next((rule for rule in metadata if isinstance(rule, AddressText)), None)
        if rule and not re.fullmatch(rule.pattern, text, re.ASCII):
            raise Invalid(f"“{text}” is no {rule.noun}.")
        try:
            return Filters.model_validate(self.address() | {name: text})
        except ValidationError as error:
            raise Invalid(f"“{text}” is no {rule.noun if rule else name}.") from error


def _plain(value: int | float | str) -> int | float | str:
    """Write 90 rather than 90.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Vocabulary:
    """Names and numbers valid in filters and orders.

    people: id → name of all users. deciders: those with decisions here. methods: see
    `orderings.latest_scorings`. sharers: those with a part.
    """

    class_names: Sequence[str]
    people: Mapping[int, str]
    deciders: Sequence[int]
    methods: Mapping[str, int]
    selections: Sequence[int] = ()
    sharers: Sequence[int] = ()


def read_vocabulary(session: Session, user: User, review: Review) -> Vocabulary:
    decided = (
        select(Decision.id)
        .where(Decision.review_id == review.id, Decision.user_id == User.id)
        .exists()
    )
    people = session.execute(
        select(User.id, User.name, decided).order_by(User.name).limit(MOST_PEOPLE)
    ).all()
    return Vocabulary(
        class_names=service.data_set_of(session, user, review).class_names,
        people={user_id: name for user_id, name, _ in people},
        deciders=[user_id for user_id, _, decides in people if decides],
        methods=orderings.latest_scorings(session, review),
        selections=session.scalars(
            select(Selection.id).where(Selection.review_id == review.id)
        ).all(),
        sharers=[part.user_id for part in shares.list_sharers(session, review)],
    )


def check(filters: Filters, vocabulary: Vocabulary) -> None:
    """Raise Invalid for unknown classes, decisions or people, or impossible bounds."""
    for label in (filters.label, filters.predicted):
        if label is not None and not 0 <= label < len(vocabulary.class_names):
            raise Invalid(f"This data set has no class number {label}.")
    if filters.decision is not None and filters.decision not in DECISION_FILTERS:
        raise Invalid(
            f"“{filters.decision}” is no decision; it may be {', '.join(DECISION_FILTERS)}."
        )
    for person in (filters.by, filters.not_by, filters.part):
        if person is not None and person not in vocabulary.people:
            raise Invalid(f"There is no person number {person}.")
    if filters.group is not None and filters.group < 1:
        raise Invalid("Groups are numbered from 1.")
    if filters.selection is not None and filters.selection not in vocabulary.selections:
        raise Invalid("That selection is gone. Pick the images out on the map again.")
    for name, least, most in (
        ("accuracy", filters.accuracy_min, filters.accuracy_max),
        ("label", filters.label_min, filters.label_max),
    ):
        if least is not None and most is not None and least > most:
            raise Invalid(
                f"{name}_min and {name}_max are percentages from 0 to 100, the smaller one first."
            )


def conditions(
    review: Review, filters: Filters, *, alone: bool = False
) -> list[ColumnElement[bool]]:
    """Return a view's SQL conditions.

    alone: keep SQLite on the index of views, off single-column indexes that need each row.
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
    """Convert bounds of a bar's length into bounds of a rank.

    The bar of rank r is (count − r) / (count − 1) long. Bars left empty on cards count by rank too:
    no index has their values.
    """
    found: list[ColumnElement[bool]] = []
    if least is not None:
        # The grain includes a bar of exactly this length, despite rounding.
        found.append(rank <= math.floor(count - least / 100 * (count - 1) + GRAIN))
    if most is not None:
        found.append(rank >= math.ceil(count - most / 100 * (count - 1) - GRAIN))
    return found
