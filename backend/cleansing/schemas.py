"""Shapes of cleansings in JSON."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from backend.cleansing.service import FEWEST_SEEDS, MOST_SEEDS, USUAL_SEEDS
from backend.core.reports import Verdict
from backend.jobs.schemas import JobOut
from backend.web.request_body import Body


class ClassCountOut(BaseModel):
    """A class's training images, before and after."""

    model_config = ConfigDict(from_attributes=True)

    label: int
    name: str
    before: int
    removed: int
    relabelled_away: int
    relabelled_here: int
    after: int
    floor: int
    held_back: int


class ChangeOut(BaseModel):
    """A decided image; `new_label` is null if removed."""

    model_config = ConfigDict(from_attributes=True)

    image_id: int
    label: int
    new_label: int | None
    path: str


class DryRunOut(BaseModel):
    """The plan of a cleansing. `refusal` says why it cannot start, or is null."""

    model_config = ConfigDict(from_attributes=True)

    removed: int
    relabelled: int
    before: int
    after: int
    classes: list[ClassCountOut]
    changes: list[ChangeOut]
    held_back: list[ChangeOut]
    refusal: str | None
    unsettled: int = Field(
        description=(
            "Removals and new labels that do not count, because two people must agree and do not."
        )
    )


class CleansingIn(Body):
    """Options of a cleansing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"floor": None, "fresh_seeds": 5}]})

    floor: int | None = Field(
        None,
        ge=0,
        description=(
            "Training images that every class keeps; null for a tenth of each, and at least 2."
        ),
    )
    fresh_seeds: int = Field(
        USUAL_SEEDS, ge=FEWEST_SEEDS, le=MOST_SEEDS, description="Fresh starts to measure."
    )
    measure: bool = Field(
        True, description="False: accept the new version at once, without a verdict."
    )


class AcceptIn(Body):
    """Options of accepting."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"without_verdict": True}]})

    without_verdict: bool = Field(False, description="Accept also where nothing is measured yet.")


class MeasureIn(Body):
    """Options of measuring a version that has no verdict."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fresh_seeds": 5}]})

    fresh_seeds: int | None = Field(
        None,
        ge=FEWEST_SEEDS,
        le=MOST_SEEDS,
        description="Fresh starts; null for the number that the cleansing was made with.",
    )


class TrainingOut(BaseModel):
    """One training of a cleansing."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    protocol: str
    arm: str
    seed: int
    state: str
    version_id: int
    params_hash: str | None
    test_accuracy: float | None
    test_loss: float | None


class ChangedOut(BaseModel):
    """A test image that the repeated training predicts differently."""

    model_config = ConfigDict(from_attributes=True)

    image_id: int
    path: str
    thumbnail: str
    full: str
    label: int
    label_name: str
    before: int
    before_name: str
    cleaned: int
    cleaned_name: str
    became: str = Field(
        description="right, wrong, or other: wrong before, and wrong in another way now."
    )
    fresh_before: int | None = Field(
        description=("Fresh starts that were right with nothing removed; null in old verdicts.")
    )
    fresh_cleaned: int | None = Field(
        description="Fresh starts that were right on the cleaned version."
    )


class CleansingOut(BaseModel):
    """A cleansing, its trainings, and its verdict once measured."""

    id: int
    data_set_id: int
    review_id: int
    run_id: int
    parent_version_id: int
    version_id: int
    state: str = Field(
        description=(
            "Its job's until it is measured or decided: queued, running, failed or cancelled; then "
            "measured, accepted or rolled_back. An accepted version may have no verdict yet."
        )
    )
    fresh_seeds: list[int]
    verdict: Verdict | None
    trainings: list[TrainingOut]
    created_at: datetime
    job: JobOut | None
