"""Conversion of rows into shapes of the API and pages."""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row
from sqlalchemy.orm import Session

from backend.core.catalogue import SECOND
from backend.core.models import DataSet, Review, Suggestion, User
from backend.review import service
from backend.review.deciding import history, second_opinions
from backend.review.deciding.decision_log import Act
from backend.review.insight import explanations, maps, stopping, wording
from backend.review.insight.explanations import Why
from backend.review.insight.stopping import Stretch
from backend.review.queue import counts, orderings, queue_pages, shares
from backend.review.queue.orderings import Order
from backend.review.schemas import (
    ActOut,
    DecisionOut,
    GroupOut,
    HistoryItem,
    HistoryOut,
    PartOut,
    ProgressOut,
    StoppingOut,
    StretchOut,
    SuggestionOut,
    WhyImage,
    WhyOut,
)
from backend.review.service import Unjudged

# A suggestion's columns. A card reads thirty, faster from a tuple than from a Row.
_make: Any = namedtuple  # mypy wants fields in writing
Columns = _make("Columns", Suggestion.__table__.c.keys())


class Tile(NamedTuple):
    """A suggestion in the grid.

    decision, words: empty if undecided. by: the decider, empty if the viewer.
    """

    image_id: int
    rank: int
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    brought: str
    thumbnail: str
    decision: str
    words: str
    by: str


def cards(
    session: Session, user: User, review: Review, rows: Sequence[Row[Any]], order: Order
) -> list[SuggestionOut]:
    """Make cards with the deciders' names."""
    if not rows:
        return []
    data_set = service.data_set_of(session, user, review)
    return Card(
        review,
        data_set,
        orderings.read_ranks(session, review, order, rows),
        queue_pages.read_names(session, rows, user),
        service.read_unjudged(session, review),
    ).all(rows)


def tiles(
    session: Session, user: User, review: Review, rows: Sequence[Row[Any]], order: Order
) -> list[Tile]:
    """Make tiles: no sentences, a third of a card's time."""
    data_set = service.data_set_of(session, user, review)
    names, folder = data_set.class_names, f"/images/{data_set.id}/thumbnails"
    ranks, people = (
        orderings.read_ranks(session, review, order, rows),
        queue_pages.read_names(session, rows, user),
    )
    unjudged = service.read_unjudged(session, review)
    return [
        Tile(
            image_id=row.image_id,
            rank=ranks[row.image_id],
            label=row.label,
            label_name=names[row.label],
            predicted=row.predicted,
            predicted_name=names[row.predicted],
            brought=wording.explain_place_short(
                row.brought_by, *signals(review.method, row, unjudged)
            ),
            thumbnail=f"{folder}/{row.content_hash}.webp",
            decision=row.decision or "",
            words=_decided(row, names) if row.decision else "",
            by=people.get(row.decided_by, "somebody")
            if row.decision and row.decided_by != user.id
            else "",
        )
        for row in (Columns(*row) for row in rows)
    ]


def signals(method: str, row: Any, unjudged: Unjudged) -> tuple[wording.Signal, wording.Signal]:
    """Return both rankings' say on a suggestion."""
    return (
        wording.Signal(
            method,
            row.accuracy_value,
            row.accuracy_rank,
            unjudged.accuracy.get(row.label),
            row.accuracy_error,
        ),
        wording.Signal(SECOND, row.label_value, row.label_rank, unjudged.label.get(row.label)),
    )


def _decided(row: Any, class_names: Sequence[str]) -> str:
    return (
        wording.DECIDED[row.decision]
        if row.decision_label is None
        else f"Now: {class_names[row.decision_label]}"
    )


def progress(session: Session, user: User, review: Review) -> ProgressOut:
    done, advice = counts.progress(session, review, user), counts.advice(session, review)
    waiting, disagreement, for_you = (
        second_opinions.counts(session, review, user)
        if review.second_opinion
        else (None, None, None)
    )
    return ProgressOut(
        total=done.total,
        decided=done.decided,
        undecided=done.undecided,
        remove=done.remove,
        keep=done.keep,
        relabel=done.relabel,
        unsure=done.unsure,
        mine=done.mine,
        stop=advice.stop,
        sentence=advice.sentence,
        waiting=waiting,
        waiting_for_you=for_you,
        disagreement=disagreement,
    )


def outcome(session: Session, user: User, review: Review, act: Act, order: Order) -> ActOut:
    return ActOut(
        count=act.count,
        left=act.left,
        items=cards(session, user, review, act.items, order),
        last_change=review.last_change,
        progress=progress(session, user, review),
    )


def why_out(session: Session, user: User, review: Review, image_id: int, found: Why) -> WhyOut:
    """Serialize an explanation and similar images, with thumbnails."""
    data_set = service.data_set_of(session, user, review)
    names = data_set.class_names

    def shown(row: Row[Any], label: int, caption: str, number: int) -> WhyImage:
        thumbnail = f"/images/{data_set.id}/thumbnails/{row.content_hash}.webp"
        return WhyImage(
            image_id=number, label_name=names[label], caption=caption, thumbnail=thumbnail
        )

    def affected(rows: Sequence[Row[Any]]) -> list[WhyImage]:
        labels = [row.label if row.new_label is None else row.new_label for row in rows]
        return [
            shown(row, label, names[label], row.id) for row, label in zip(rows, labels, strict=True)
        ]

    def like(rows: Sequence[Row[Any]]) -> list[WhyImage]:
        return [
            shown(row, row.label, wording.caption_similar(row, names), row.image_id) for row in rows
        ]

    given, predicted = explanations.list_similar(session, review, image_id)
    return WhyOut(
        state=found.state,
        sentence=found.sentence,
        worse=affected(found.worse),
        better=affected(found.better),
        like_given=like(given),
        like_predicted=like(predicted),
    )


def stopping_out(session: Session, review: Review) -> StoppingOut:
    advice, stretches = counts.advice(session, review), stopping.confirm_rate(session, review)
    ahead = stopping.outlook(review, stretches)
    return StoppingOut(
        stop=advice.stop,
        sentence=advice.sentence,
        window=advice.window,
        confirmed=advice.confirmed,
        stretches=[_stretch(one) for one in stretches],
        undecided=ahead.undecided,
        left=ahead.left,
        left_low=ahead.low,
        left_high=ahead.high,
        left_sentence=ahead.sentence,
    )


def _stretch(one: Stretch) -> StretchOut:
    low, high = one.interval
    return StretchOut(
        first=one.first,
        last=one.last,
        decided=one.decided,
        confirmed=one.confirmed,
        rate=one.rate,
        low=low,
        high=high,
    )


def parts_out(session: Session, review: Review) -> list[PartOut]:
    rows = shares.list_sharers(session, review)
    sizes = shares.sizes(session, review, len(rows))
    return [
        PartOut(
            user_id=row.user_id,
            name=row.name,
            taken_at=row.taken_at,
            total=total,
            undecided=undecided,
        )
        for row, (total, undecided) in zip(rows, sizes, strict=True)
    ]


def history_out(session: Session, user: User, review: Review, image_id: int) -> HistoryOut:
    names = service.data_set_of(session, user, review).class_names
    rows, count = history.list_acts(session, review, image_id)
    scorings = [
        scoring
        for scoring in (review.accuracy_scoring_id, review.label_scoring_id)
        if scoring is not None
    ]
    return HistoryOut(
        items=[_act(row, names) for row in rows],
        count=count,
        scoring_ids=list(dict.fromkeys(scorings)),
    )


def _act(row: Row[Any], names: Sequence[str]) -> HistoryItem:
    label_name = None if row.label is None else names[row.label]
    words = wording.describe_act(
        row.action, label_name, undoes=row.undoes, redoes=row.redoes, together=row.together
    )
    return HistoryItem(
        action="undo" if row.undoes else row.action,
        label=row.label,
        label_name=label_name,
        by=row.by,
        by_id=row.by_id,
        at=row.at,
        together=row.together,
        undone=row.undone,
        words=words,
    )


def groups_out(session: Session, user: User, review: Review) -> list[GroupOut]:
    data_set = service.data_set_of(session, user, review)
    names, folder = data_set.class_names, f"/images/{data_set.id}/thumbnails"

    def example(row: Row[Any]) -> WhyImage:
        caption = (
            names[row.label]
            if row.label == row.predicted
            else f"{names[row.label]} → {names[row.predicted]}"
        )
        return WhyImage(
            image_id=row.image_id,
            label_name=names[row.label],
            caption=caption,
            thumbnail=f"{folder}/{row.content_hash}.webp",
        )

    return [
        GroupOut(
            group=one.number,
            count=one.count,
            decided=one.decided,
            doubted=one.doubted,
            label_name=names[one.label],
            share=one.share,
            examples=[example(row) for row in one.examples],
        )
        for one in maps.list_groups(session, review)
    ]


class Card:
    """Maker of cards for a review and an order."""

    def __init__(
        self,
        review: Review,
        data_set: DataSet,
        ranks: Mapping[int, int],
        names: Mapping[int, str],
        unjudged: Unjudged,
    ) -> None:
        self._classes = data_set.class_names
        self._count = review.suggestion_count
        self._method = review.method
        self._images = f"/images/{data_set.id}"
        self._ranks = ranks
        self._names = names
        self._unjudged = unjudged

    def all(self, rows: Sequence[Row[Any]]) -> list[SuggestionOut]:
        return [self.one(Columns(*row)) for row in rows]

    def one(self, row: Any) -> SuggestionOut:
        """Make a card. Validation takes half the time of `model_construct`."""
        given, predicted = self._classes[row.label], self._classes[row.predicted]
        count = self._count
        accuracy, label = signals(self._method, row, self._unjudged)
        return SuggestionOut(
            image_id=row.image_id,
            rank=self._ranks[row.image_id],
            position=row.position,
            accuracy_rank=row.accuracy_rank,
            label_rank=row.label_rank,
            brought_by=row.brought_by,
            label=row.label,
            label_name=given,
            predicted=row.predicted,
            predicted_name=predicted,
            confidence=row.confidence,
            label_confidence=row.label_confidence,
            accuracy_value=row.accuracy_value,
            accuracy_error=row.accuracy_error,
            better_label=row.better_label,
            better_label_words=wording.would_help_as(self._classes[row.better_label])
            if row.better_label is not None and accuracy.against
            else "",
            label_value=row.label_value,
            accuracy_share=wording.bar(accuracy, count),
            label_share=wording.bar(label, count),
            brought_by_words=wording.explain_place(
                row.brought_by, accuracy, label, agrees=row.predicted == row.label
            ),
            prediction_words=wording.prediction(
                predicted, row.confidence, given, row.label_confidence
            ),
            accuracy_words=wording.describe_signal(accuracy, count),
            label_words=wording.describe_signal(label, count),
            accuracy_unjudged=accuracy.unjudged,
            label_unjudged=label.unjudged,
            path=row.path,
            thumbnail=f"{self._images}/thumbnails/{row.content_hash}.webp",
            full=f"{self._images}/full/{row.content_hash}.webp",
            change=row.change,
            decision=self._decision(row),
        )

    def _decision(self, row: Any) -> DecisionOut | None:
        if row.decision is None:
            return None
        label_name = None if row.decision_label is None else self._classes[row.decision_label]
        return DecisionOut(
            action=row.decision,
            label=row.decision_label,
            label_name=label_name,
            by=self._names.get(row.decided_by),
            by_id=row.decided_by,
            at=row.decided_at,
            words=_decided(row, self._classes),
        )
