"""Looking at a review: pages of suggestions, counts, what others did, and whether going on pays. Deciding is in decisions.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, func, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from backend.datasets import service as datasets
from backend.errors import Conflict, Invalid, NotFound
from backend.models import DataSet, Decision, Image, MapPoint, Review, Scoring, Selection, SelectionImage, Suggestion, User
from backend.review import opinions, orders, parts
from backend.review.orders import Order

Counts = dict[str | None, int]

DECISIONS = ("remove", "keep", "relabel", "unsure")
DECISION_FILTERS = ("undecided", "decided", *DECISIONS, *opinions.FILTERS)
LARGEST_PAGE = 500
# What a browser repaints at once; after a bigger act it loads its page anew.
MOST_CHANGES = 500
MOST_PEOPLE = 500
GRAIN = 1e-6
# As many matches are sorted faster than all images are walked to find them in order.
FEW = 4_000
# The stop advice looks at this many of the latest decisions, and says nothing before it has seen this few.
ADVICE_WINDOW = 50
ADVICE_LEAST = 20


@dataclass(frozen=True)
class Filters:
    """Which suggestions to show; the names are those of the address and of the API.

    label, predicted: numbers of classes. decision: one of DECISION_FILTERS. by: whose decision is in force, a person's number.
    not_by: the decision in force is another person's; with `decision=waiting`, the images on which this person's opinion is wanted.
    accuracy_min and so on bound the length of a card's bars, in percent: of how many of the other images it hurts more, or looks more wrong.
    group: of like images. selection: of images that somebody picked out on the map.
    part: whose part of a queue that is shared out (backend/review/parts.py).
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


@dataclass(frozen=True)
class Page:
    """Suggestions in order of rank, and whether there are more on either side."""

    items: list[Row[Any]]
    has_before: bool
    has_after: bool


@dataclass(frozen=True)
class Progress:
    """How far a review has come, by everybody and by the one who asks."""

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
    """Whether going on pays: of the latest `window` decisions, `confirmed` were removals or new labels."""

    window: int
    confirmed: int
    stop: bool
    sentence: str


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
        raise Conflict("The suggestions are still being computed. The job's page shows how far it is.")


def known(session: Session, user: User, review: Review) -> Known:
    """What the filters and orders of this review can name."""
    decided = select(Decision.id).where(Decision.review_id == review.id, Decision.user_id == User.id).exists()
    people = session.execute(select(User.id, User.name, decided).order_by(User.name).limit(MOST_PEOPLE)).all()
    return Known(
        class_names=data_set_of(session, user, review).class_names,
        people={user_id: name for user_id, name, _ in people},
        deciders=[user_id for user_id, _, decides in people if decides],
        methods=orders.scored(session, review),
        selections=session.scalars(select(Selection.id).where(Selection.review_id == review.id)).all(),
        sharers=[one.user_id for one in parts.of_review(session, review)],
    )


def check_filters(filters: Filters, known: Known) -> None:
    """Invalid when a filter names a class, a decision or a person that does not exist, or bounds that nothing can lie between."""
    for label in (filters.label, filters.predicted):
        if label is not None and not 0 <= label < len(known.class_names):
            raise Invalid(f"This data set has no class number {label}.")
    if filters.decision is not None and filters.decision not in DECISION_FILTERS:
        raise Invalid(f"“{filters.decision}” is no decision; it may be {', '.join(DECISION_FILTERS)}.")
    for person in (filters.by, filters.not_by, filters.part):
        if person is not None and person not in known.people:
            raise Invalid(f"There is no person number {person}.")
    if filters.group is not None and filters.group < 1:
        raise Invalid("Groups are numbered from 1.")
    if filters.selection is not None and filters.selection not in known.selections:
        raise Invalid("That selection is not kept any more. Pick the images out on the map again.")
    for name, least, most in (("accuracy", filters.accuracy_min, filters.accuracy_max), ("label", filters.label_min, filters.label_max)):
        bounds = (0.0 if least is None else least, 100.0 if most is None else most)
        if not 0 <= bounds[0] <= bounds[1] <= 100:
            raise Invalid(f"{name}_min and {name}_max are percentages from 0 to 100, the smaller one first.")


def conditions(review: Review, filters: Filters, *, alone: bool = False) -> list[ColumnElement[bool]]:
    """The SQL conditions of a view. alone: so that SQLite reads them from the index of views, which has every column of them,
    rather than from the index of one, with a look at each row for the others.
    """
    found: list[ColumnElement[bool]] = [Suggestion.review_id == review.id]

    def column(of: InstrumentedAttribute[Any]) -> Any:
        return func.coalesce(of, literal_column("''" if of is Suggestion.decision else "0")) if alone else of

    for given, wanted in (
        (Suggestion.label, filters.label),
        (Suggestion.predicted, filters.predicted),
        (Suggestion.decided_by, filters.by),
    ):
        if wanted is not None:
            found.append(column(given) == wanted)
    if filters.not_by is not None:
        found.append(opinions.of_another(filters.not_by))
    if filters.decision in ("undecided", "decided"):
        none = column(Suggestion.decision) == "" if alone else Suggestion.decision.is_(None)
        found.append(none if filters.decision == "undecided" else ~none)
    elif filters.decision in opinions.FILTERS:
        found.append(opinions.FILTERS[filters.decision]())
    elif filters.decision is not None:
        found.append(column(Suggestion.decision) == filters.decision)
    if filters.group is not None:
        there = select(MapPoint.image_id).where(MapPoint.review_id == review.id, MapPoint.in_group == filters.group)
        found.append(Suggestion.image_id.in_(there))
    if filters.selection is not None:
        picked = select(SelectionImage.image_id).where(SelectionImage.selection_id == filters.selection)
        found.append(Suggestion.image_id.in_(picked))
    if filters.part is not None:
        found.append(parts.holds(review, filters.part))
    count = review.suggestion_count
    found += _within(column(Suggestion.accuracy_rank), filters.accuracy_min, filters.accuracy_max, count)
    return found + _within(column(Suggestion.label_rank), filters.label_min, filters.label_max, count)


def _within(rank: ColumnElement[int], least: float | None, most: float | None, count: int) -> list[ColumnElement[bool]]:
    """Bounds of a bar's length as bounds of a rank: the bar of rank r is (count − r) / (count − 1) long."""
    found: list[ColumnElement[bool]] = []
    if least is not None:
        # The grain keeps a bar of exactly that length in, whatever the rounding.
        found.append(rank <= math.floor(count - least / 100 * (count - 1) + GRAIN))
    if most is not None:
        found.append(rank >= math.ceil(count - most / 100 * (count - 1) - GRAIN))
    return found


def _rows() -> Select[Any]:
    # Columns, not objects: a page of 100 costs no identity map.
    return select(*Suggestion.__table__.columns)


def page_of_suggestions(
    session: Session,
    review: Review,
    *,
    order: Order = "queue",
    filters: Filters | None = None,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    matching: int | None = None,
) -> Page:
    """One index range: the first `limit` suggestions behind rank `after`, or the last `limit` ahead of rank `before` when that is given.
    matching: how many fit the filters, where the caller has counted them already.
    """
    view = _view(session, review, order, filters or Filters(), matching)
    rank, matches = view.rank, view.matches
    if before is None:
        here = matches.where(rank > after) if after else matches
        rows = view.read(session, review, here.order_by(rank).limit(limit + 1))
        return Page(rows[:limit], after > 0 and _any(session, matches.where(rank <= after)), len(rows) > limit)
    rows = view.read(session, review, matches.where(rank < before).order_by(rank.desc()).limit(limit + 1))
    return Page(rows[:limit][::-1], len(rows) > limit, _any(session, matches.where(rank >= before)))


@dataclass(frozen=True)
class _Matches:
    """The suggestions of a view, not yet in order: as rows, or where an index has all that is asked (`ids`) as ids alone."""

    matches: Select[Any]
    rank: SQLColumnExpression[int]
    ids: bool

    def read(self, session: Session, review: Review, statement: Select[Any]) -> list[Row[Any]]:
        """The rows of a statement made from `matches`, in its order."""
        if not self.ids:
            return list(session.execute(statement).all())
        image_ids = session.scalars(statement).all()
        rows = session.execute(_rows().where(Suggestion.review_id == review.id, Suggestion.image_id.in_(image_ids))).all()
        found = {row.image_id: row for row in rows}
        return [found[image_id] for image_id in image_ids]


def _view(session: Session, review: Review, order: Order, filters: Filters, matching: int | None) -> _Matches:
    ordering = orders.find(session, review, order)
    if ordering.scoring_id is None and not filters.ranged:
        return _Matches(_rows().where(*conditions(review, filters)), ordering.rank, ids=False)
    ids = select(Suggestion.image_id)
    if ordering.scoring_id is None:
        # The place in the queue is what the index of views is sorted by; the other ranks must not lead to their own indexes.
        rank = ordering.rank if order == "queue" else func.coalesce(ordering.rank, 0)
        return _Matches(ids.where(*conditions(review, filters, alone=True)), rank, ids=True)
    if matching is None and filters:
        matching = sum(counts(session, review, filters).values())
    if filters and (matching or 0) <= FEW:
        return _Matches(*ordering.gather(ids.where(*conditions(review, filters, alone=filters.ranged))), ids=True)
    return _Matches(*ordering.walk(ids.where(*conditions(review, filters, alone=True))), ids=True)


def _any(session: Session, matches: Select[Any]) -> bool:
    return session.execute(matches.limit(1)).first() is not None


def at_rank(session: Session, review: Review, order: Order, rank: int) -> Row[Any] | None:
    """The suggestion that stands at a rank, whatever the filters say: an address keeps its image after the decision."""
    rows, own = orders.find(session, review, order).walk(_rows())
    return session.execute(rows.where(Suggestion.review_id == review.id, own == rank)).first()


def next_undecided(session: Session, review: Review, order: Order, filters: Filters, after: int) -> Row[Any] | None:
    """The next one to decide in this view behind a rank, from the start again when there is none; None when all are decided."""
    wanted = filters if filters.decided else replace(filters, decision="undecided")
    for start in dict.fromkeys((after, 0)):
        page = page_of_suggestions(session, review, order=order, filters=wanted, after=start, limit=1)
        if page.items:
            return page.items[0]
    return None


def suggestions_of(session: Session, review: Review, image_ids: Sequence[int]) -> list[Row[Any]]:
    """The suggestions of these images in order of the queue; NotFound unless each one belongs to this review."""
    wanted = set(image_ids)
    rows = session.execute(
        _rows().where(Suggestion.review_id == review.id, Suggestion.image_id.in_(wanted)).order_by(Suggestion.position)
    ).all()
    if len(rows) != len(wanted):
        raise NotFound("There is no such image in this review.")
    return list(rows)


def counts(session: Session, review: Review, filters: Filters) -> Counts:
    """How many suggestions of a view have each decision (None: undecided)."""
    # Not grouped: to group by decision, SQLite walks the whole queue by decision, whatever the filters say.
    kinds = (None, *DECISIONS)
    columns = [func.count().filter(Suggestion.decision.is_(None) if kind is None else Suggestion.decision == kind) for kind in kinds]
    where = conditions(review, filters, alone=filters.ranged)
    return dict(zip(kinds, session.execute(select(*columns).where(*where)).one(), strict=True))


def progress(session: Session, review: Review, user: User) -> Progress:
    """How far everybody is, and how many decisions in force are this person's."""
    # Grouped, as no filter narrows it: an index has the decided ones alone, by decision.
    decided = dict(
        session.execute(
            select(Suggestion.decision, func.count())
            .where(Suggestion.review_id == review.id, Suggestion.decision.is_not(None))
            .group_by(Suggestion.decision)
        ).all()
    )
    mine = session.scalar(
        select(func.count()).select_from(Suggestion).where(Suggestion.review_id == review.id, Suggestion.decided_by == user.id)
    )
    return Progress(total=review.suggestion_count, mine=mine or 0, **{name: decided.get(name, 0) for name in DECISIONS})


def changes_since(session: Session, review: Review, since: int) -> list[Row[Any]] | None:
    """Suggestions whose decision changed after change number `since`, oldest first; None when too many to repaint one by one."""
    if since >= review.last_change:
        return []
    rows = session.execute(
        _rows()
        .where(Suggestion.review_id == review.id, Suggestion.change > since)
        .order_by(Suggestion.change, Suggestion.image_id)
        .limit(MOST_CHANGES + 1)
    ).all()
    return list(rows) if len(rows) <= MOST_CHANGES else None


def confusion(session: Session, review: Review) -> list[tuple[int, int, int, int]]:
    """Rows (given class, predicted class, images, decided ones), from one index, the most frequent pairs first."""
    rows = session.execute(
        select(Suggestion.label, Suggestion.predicted, func.count(), func.count(Suggestion.decision))
        .where(Suggestion.review_id == review.id)
        .group_by(Suggestion.label, Suggestion.predicted)
    ).all()
    pairs = [(label, predicted, count, decided) for label, predicted, count, decided in rows]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def advice(session: Session, review: Review) -> Advice:
    """Whether going on is likely to pay, from the latest decisions in force."""
    latest = session.scalars(
        select(Suggestion.decision)
        .where(Suggestion.review_id == review.id, Suggestion.change > 0, Suggestion.decision.is_not(None))
        .order_by(Suggestion.change.desc())
        .limit(ADVICE_WINDOW)
    ).all()
    confirmed = sum(decision in ("remove", "relabel") for decision in latest)
    return _advice(len(latest), confirmed)


def _advice(window: int, confirmed: int) -> Advice:
    if window < ADVICE_LEAST:
        missing = f"Decide {ADVICE_LEAST - window} more, then you read here whether going on pays."
        return Advice(window, confirmed, stop=False, sentence=missing)
    found = f"Of the last {window} you removed or relabelled {confirmed}."
    if confirmed < window / 10:
        return Advice(window, confirmed, stop=True, sentence=f"{found} Going on is unlikely to pay.")
    if confirmed < window * 3 / 10:
        return Advice(window, confirmed, stop=False, sentence=f"{found} Going on still pays a little.")
    return Advice(window, confirmed, stop=False, sentence=f"{found} Going on is worth it.")


def doubt(session: Session, review: Review) -> str | None:
    """What the scoring's own report says against trusting the ranking, in its own sentences; None where it warns of nothing."""
    scoring = session.get(Scoring, review.accuracy_scoring_id) if review.accuracy_scoring_id else None
    if scoring is None or not scoring.report.get("warns"):
        return None
    sentences: list[str] = scoring.report.get("trust", [])
    return " ".join(sentences) or None


def in_effect(review: Review) -> list[ColumnElement[bool]]:
    """The SQL conditions of the suggestions that a cleansing removes or relabels: where two must agree, those on which two do."""
    found: list[ColumnElement[bool]] = [Suggestion.review_id == review.id, Suggestion.decision.in_(opinions.CHANGES)]
    return [*found, opinions.agreed()] if review.second_opinion else found


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
            .where(Suggestion.review_id == review.id, Suggestion.decision.in_(opinions.CHANGES), ~opinions.agreed())
        )
        or 0
    )


def names_of(session: Session, rows: Sequence[Row[Any]]) -> dict[int, str]:
    """User id → name of everybody who decided one of these rows; one query a page, none where nobody decided."""
    ids = {row.decided_by for row in rows if row.decided_by is not None}
    if not ids:
        return {}
    return {row.id: row.name for row in session.execute(select(User.id, User.name).where(User.id.in_(ids)))}


def original_size(session: Session, image_id: int) -> tuple[int, int]:
    """Width and height of the original in pixels: small ones are enlarged without blur."""
    row = session.execute(select(Image.width, Image.height).where(Image.id == image_id)).one()
    return row.width, row.height
