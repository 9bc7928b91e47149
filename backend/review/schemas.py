"""JSON shapes of the review, also used by its pages."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.jobs.schemas import JobOut
from backend.review.deciding.decisions import MOST_IMAGES
from backend.review.insight.maps import MOST_SELECTED
from backend.review.queue.filters import Filters
from backend.review.queue.orderings import Order
from backend.review.queue.queue_pages import LARGEST_PAGE
from backend.runs.schemas import MemberOut
from backend.web.request_body import Body

ClientKey = Field(
    min_length=1,
    max_length=36,
    description="Made by the client, best a random UUID: the same key again changes nothing.",
)
Seen = Field(
    default=None,
    ge=0,
    description="The `last_change` of the review, or the `change` of the image, that you had seen "
    "when deciding: what another person decided otherwise after it is not overwritten. "
    "One image: refused with status 409, its suggestion in the member `image`. "
    "Many: those are left alone, and counted in `left`.",
)
Action = Literal["remove", "keep", "relabel", "unsure"]


class DecisionOut(BaseModel):
    """The decision in force on an image."""

    action: str
    label: int | None
    label_name: str | None
    by: str | None
    by_id: int | None
    at: datetime | None
    words: str


class QueuePlace(Body):
    """Start and order of a queue page."""

    order: Order = "queue"
    after: int = Field(0, ge=0)
    before: int | None = Field(None, ge=1)
    limit: int = Field(100, ge=1, le=LARGEST_PAGE)


class QueueQuery(Filters, QueuePlace):
    """A page of the queue through filters."""


class SuggestionOut(BaseModel):
    """An image of a review with its card's contents. `rank` is in the requested order."""

    image_id: int
    rank: int
    position: int
    accuracy_rank: int
    label_rank: int
    brought_by: str
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    confidence: float
    label_confidence: float
    accuracy_value: float
    accuracy_error: float | None = Field(
        None,
        description="Standard error of `accuracy_value` over the validation images; null where "
        "the scoring has none.",
    )
    better_label: int | None = Field(
        None,
        description="The class that would help accuracy more, as this image's label, than leaving "
        "the image out; null where there is none.",
    )
    better_label_words: str = ""
    label_value: float
    accuracy_share: float
    label_share: float
    brought_by_words: str
    prediction_words: str
    accuracy_words: str
    label_words: str
    accuracy_unjudged: str | None = Field(
        None,
        description="Why `accuracy_value` says nothing: no_validation, few_validation or "
        "not_learned; else null.",
    )
    label_unjudged: str | None = Field(
        None, description="Why `label_value` says nothing: not_learned; else null."
    )
    path: str
    thumbnail: str
    full: str
    change: int
    decision: DecisionOut | None


class ProgressOut(BaseModel):
    """Progress of a review, and stop advice."""

    total: int
    decided: int
    undecided: int
    remove: int
    keep: int
    relabel: int
    unsure: int
    mine: int
    stop: bool
    sentence: str
    waiting: int | None = Field(
        None,
        description="Removals and new labels that wait for a second opinion; "
        "null where none is asked for.",
    )
    waiting_for_you: int | None = Field(
        None,
        description="Those that wait for yours: `decision=waiting` with `not_by=<your id>`.",
    )
    disagreement: int | None = Field(
        None,
        description="Images on which people disagree; null where no second opinion is asked for.",
    )


class StretchOut(BaseModel):
    """A stretch of the queue, with the share removed or relabelled and its 95 % limits."""

    first: int
    last: int
    decided: int
    confirmed: int
    rate: float
    low: float
    high: float


class StoppingOut(BaseModel):
    """Stop advice: the precision so far, and the harmful images likely `left` undecided."""

    stop: bool
    sentence: str
    window: int = Field(description="how many of the latest decisions the sentence speaks of")
    confirmed: int = Field(description="how many of them removed or relabelled an image")
    stretches: list[StretchOut]
    undecided: int
    left: float | None = Field(description="null while nobody can say")
    left_low: float | None
    left_high: float | None
    left_sentence: str


class PersonOut(BaseModel):
    """A person's decisions in force; `user_id` is null for people who left."""

    model_config = ConfigDict(from_attributes=True)

    user_id: int | None
    name: str | None
    decided: int
    remove: int
    relabel: int
    keep: int
    unsure: int
    last_at: datetime | None


class PartOut(BaseModel):
    """A person's part of a shared queue, listed by `part=<user_id>`."""

    user_id: int
    name: str
    taken_at: datetime
    total: int
    undecided: int


class ReviewOut(BaseModel):
    """A review and its progress."""

    id: int
    data_set_id: int
    version_id: int
    run_id: int
    state: str
    method: str
    suggestion_count: int
    class_names: list[str]
    last_change: int
    second_opinion: bool = Field(
        description="Whether two people must agree before an image is removed or relabelled."
    )
    progress: ProgressOut
    doubts: list[str] = Field(
        description="Warnings: of a model that has not learned, of a ranking, of classes that it "
        "cannot judge."
    )
    surely_harmful: int | None = Field(
        description="Images that hurt accuracy beyond the luck of the validation images; null "
        "where the ranking has no errors."
    )
    created_at: datetime
    members: list[MemberOut] = Field(
        description="The runs of an average, while it is made and after; empty for a single run."
    )
    job: JobOut | None


class WhyImage(BaseModel):
    """A related image, with a caption."""

    image_id: int
    label_name: str
    caption: str
    thumbnail: str


class WhyOut(BaseModel):
    """Affected validation images, most affected first, and similar training images.

    like_given: with its label. like_predicted: with the predicted label, if different.
    """

    state: Literal["ready", "waiting", "none"] = Field(
        description="of worse and better: ready; waiting for a worker; or none: not asked for yet"
    )
    sentence: str
    worse: list[WhyImage]
    better: list[WhyImage]
    like_given: list[WhyImage]
    like_predicted: list[WhyImage]


class GroupOut(BaseModel):
    """A group of similar images; filter by its `group`."""

    group: int
    count: int
    decided: int
    doubted: int = Field(description="images that the model sees as another class than their label")
    label_name: str = Field(description="the most frequent label")
    share: float = Field(description="of the images, the fraction with that label")
    examples: list[WhyImage]


class MapState(BaseModel):
    """State of the layout "neighbours": ready, waiting, or none (not requested, or failed)."""

    neighbours: Literal["ready", "waiting", "none"]
    sentence: str


class MapOut(MapState):
    """The map as columns, one entry an image; coordinates from 0 to `side`.

    layout: overview (principal components, always present) or neighbours (UMAP). decisions: indexes
    into `decision_names`.
    """

    layout: Literal["overview", "neighbours"]
    side: int
    class_names: list[str]
    decision_names: list[str | None]
    image_ids: list[int]
    x: list[int]
    y: list[int]
    labels: list[int]
    predicted: list[int]
    decisions: list[int]


class SelectionIn(Body):
    """Images picked on the map."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image_ids": [17, 18, 23]}]})

    image_ids: list[int] = Field(json_schema_extra={"minItems": 1, "maxItems": MOST_SELECTED})


class SelectionOut(BaseModel):
    """A selection; filter by its `id` as `selection`."""

    id: int
    count: int


class SuggestionsByImage(BaseModel):
    """Suggestions of the requested images."""

    items: list[SuggestionOut]


class CountsOut(BaseModel):
    """A view's images by decision; an act on the whole view would touch `bulk`."""

    total: int
    undecided: int
    remove: int
    keep: int
    relabel: int
    unsure: int
    bulk: int


class SuggestionsOut(BaseModel):
    """A page of suggestions; `next` goes into `after`, `previous` into `before`."""

    items: list[SuggestionOut]
    next: str | None
    previous: str | None


# Only a relabelling takes a class, and it needs one.
RELABELLING: dict[str, Any] = {
    "if": {"properties": {"action": {"const": "relabel"}}},
    "then": {"required": ["label"], "properties": {"label": {"type": "integer", "minimum": 0}}},
    "else": {"properties": {"label": {"type": "null"}}},
}
# Either images or a view.
CHOOSING: dict[str, Any] = {
    "oneOf": [
        {"required": ["image_ids"], "properties": {"image_ids": {"type": "array"}}},
        {"required": ["filter"], "properties": {"filter": {"type": "object"}}},
    ]
}


class DecisionIn(Body):
    """One decision on one image."""

    model_config = ConfigDict(
        json_schema_extra={
            **RELABELLING,
            "examples": [
                {
                    "client_key": "7c1e9f0a-3b52-4a5d-9d0e-1f6f2f0c8b11",
                    "image_id": 17,
                    "action": "relabel",
                    "label": 3,
                }
            ],
        }
    )

    client_key: str = ClientKey
    image_id: int
    action: Action
    label: int | None = None
    seen: int | None = Seen


class BulkDecisionIn(Body):
    """One decision on a selection (`image_ids`) or on a view (`filter`) of `expected` images."""

    model_config = ConfigDict(
        json_schema_extra={
            **RELABELLING,
            **CHOOSING,
            "examples": [
                {
                    "client_key": "7c1e9f0a-3b52-4a5d-9d0e-1f6f2f0c8b11",
                    "action": "remove",
                    "filter": {"label": 3, "predicted": 8},
                    "expected": 12,
                }
            ],
        }
    )

    client_key: str = ClientKey
    action: Action
    label: int | None = None
    image_ids: list[int] | None = Field(
        None, json_schema_extra={"minItems": 1, "maxItems": MOST_IMAGES}
    )
    filter: Filters | None = None
    expected: int | None = None
    seen: int | None = Seen


class UndoIn(Body):
    """An undo of the latest act, or a redo of the latest undo."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"client_key": "7c1e9f0a-3b52-4a5d-9d0e-1f6f2f0c8b11"}]}
    )

    client_key: str = ClientKey


class HistoryItem(BaseModel):
    """An act on an image. `undone`: later undone."""

    action: str = Field(
        description="remove, keep, relabel or unsure; undo where it takes an earlier act back"
    )
    label: int | None
    label_name: str | None
    by: str | None
    by_id: int | None
    at: datetime
    together: bool = Field(description="made on several images at once")
    undone: bool
    words: str


class HistoryOut(BaseModel):
    """An image's decisions, latest first, and scorings; `count` is of all decisions."""

    items: list[HistoryItem]
    count: int
    scoring_ids: list[int]


class ActOut(BaseModel):
    """An act's result: `items` as they are now (omitted if many), and `left` untouched."""

    count: int
    left: int
    items: list[SuggestionOut]
    last_change: int
    progress: ProgressOut


class ChangesOut(BaseModel):
    """Changes since; `reload` if too many to repaint."""

    items: list[SuggestionOut]
    reload: bool
    last_change: int
    progress: ProgressOut
