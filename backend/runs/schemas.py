"""JSON shapes of runs and scorings."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backend.core.catalogue import (
    FIRST,
    METHODS,
    AugmentationName,
    MethodName,
    NetworkName,
    OptimizerName,
    PrecisionName,
    ScheduleName,
    SpanName,
    TrainedName,
)
from backend.core.reports import MethodCost, Recipe, RunReport, ScoringReport
from backend.jobs.schemas import JobOut
from backend.web.request_body import Body

# Most runs of an average.
MOST_RUNS = 5


class RunOptions(Body):
    """Options of a training; what is left out is chosen to fit the data."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"epochs": 20, "seed": 0}, {}]})

    version_id: int | None = Field(
        None, description="Version to train on; the current one if left out."
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="The same seed gives the same run, bit for bit."
    )
    network: NetworkName | None = Field(
        None, description="Network; chosen by size and colour if left out."
    )
    own_network: str | None = Field(
        None,
        pattern=r"^\w+(\.\w+)*:\w+$",
        max_length=200,
        description=(
            "Instead: a network that the administrator allowed (WINNOW_NETWORKS), as "
            "package.module:function."
        ),
    )
    weights: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description=(
            "SHA-256 of the safetensors file that training starts from, in the workers' folder of "
            "weights; from scratch if left out."
        ),
    )
    trained: TrainedName | None = Field(
        None, description="Train the whole network, or with weights its last layer alone."
    )
    precision: PrecisionName | None = Field(
        None,
        description=(
            "Precision of a training step's operations; bfloat16 is faster on a GPU, but its "
            "scores are not called exact."
        ),
    )
    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training images.")
    batch_size: int | None = Field(None, ge=1, le=4096, description="Images per step.")
    optimizer: OptimizerName | None = Field(None, description="Update rule; SGD if left out.")
    learning_rate: float | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="Step size η."
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="Momentum μ of SGD; 0 for plain SGD."
    )
    weight_decay: float | None = Field(None, ge=0, le=1, description="Weight decay.")
    schedule: ScheduleName | None = Field(None, description="How the learning rate falls.")
    augmentation: AugmentationName | None = Field(
        None, description="How images vary from epoch to epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: Any) -> Any:
        """Drop empty text, a form's empty field."""
        return (
            {key: value for key, value in values.items() if value != ""}
            if isinstance(values, dict)
            else values
        )

    @field_validator("seed", mode="before")
    @classmethod
    def _no_seed(cls, value: Any) -> Any:
        return 0 if value is None else value

    def recipe(self) -> dict[str, Any]:
        """Return the requested settings as a recipe."""
        asked = self.model_dump(exclude={"version_id", "seed", "own_network"}, exclude_none=True)
        return asked | ({"network": self.own_network} if self.own_network else {})


class ScoringOptions(Body):
    """Options of a scoring."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"method": "sgd_influence", "span": "last_epoch"}]}
    )

    method: MethodName = Field(
        FIRST, description="Method of the first ranking; the second one is by margin."
    )
    span: SpanName = Field(
        "last_epoch", description="Epochs to look at, where the method knows a span."
    )
    damping: Literal["none", "auto"] = Field(
        "none",
        description=(
            "Damping of the curvature: none is exact; auto measures which factor predicts best, "
            "and takes several times as long."
        ),
    )
    runs: int = Field(
        1,
        ge=1,
        le=MOST_RUNS,
        description=(
            "Average the scores of so many runs: this one, and the same recipe trained with other "
            "seeds. 1 for this run alone."
        ),
    )

    def recorded(self) -> dict[str, Any]:
        """Return the options that a scoring depends on, for its row."""
        method = METHODS[self.method]
        span = {"span": self.span} if method.spans else {}
        damping = {"damping": self.damping} if self.damping != "none" else {}
        return span | damping | ({"runs": self.runs} if self.runs > 1 else {})


class EpochOut(BaseModel):
    """The figures of an epoch."""

    model_config = ConfigDict(from_attributes=True)
    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    params_hash: str


class RunSummary(BaseModel):
    """A run in a list."""

    id: int
    number: int | None = Field(
        description="Its number within the data set, as pages show it; null for trainings of a "
        "verdict or an average."
    )
    data_set_id: int
    version_id: int
    state: str = Field(description="queued, running, done, failed or cancelled.")
    seed: int
    recipe: Recipe
    params_hash: str | None
    report: RunReport
    repeats_run_id: int | None = Field(
        description="The run whose recipe this one repeats with another seed, for an average."
    )
    created_at: datetime
    job: JobOut | None


class RunOut(RunSummary):
    """A run, its job and its epochs so far."""

    epochs: list[EpochOut]


class ScoringOut(BaseModel):
    """A scoring; its values are in the downloads."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    method: str
    options: dict[str, Any]
    state: str
    exact: bool
    report: ScoringReport


class BackboneOut(BaseModel):
    """A frozen network whose features serve a head."""

    name: str
    called: str = Field(description="Its usual name.")
    meaning: str
    side: int = Field(description="Pixels a side of the pictures that it sees.")
    features: int = Field(description="Numbers that it makes of a picture.")
    megabytes: float
    licence: str
    source: str


class MethodOut(BaseModel):
    """A method and what it costs for a run; null for runs of old versions."""

    name: str
    called: str = Field(description="Its usual name.")
    title: str
    meaning: str
    harm: bool = Field(
        description=(
            "True where it speaks of harm to the validation loss; others speak of labels, of "
            "oddness, or of nothing."
        )
    )
    needs: str
    spans: bool
    damps: bool
    costs: dict[str, MethodCost] | None = Field(description="By span: last_epoch, all_epochs.")


class MemberOut(BaseModel):
    """A run of an average and its current job: its training, then its scoring."""

    run_id: int
    seed: int
    state: str = Field(description="State of its scoring: queued or done.")
    job: JobOut | None


class RunReview(BaseModel):
    """A review of a run, with its scorings."""

    id: int
    run_id: int
    data_set_id: int
    version_id: int
    state: str
    method: str
    scorings: list[ScoringOut]
    members: list[MemberOut] = Field(description="The runs of an average; empty for a single run.")
    job: JobOut | None = Field(description="Of an average: null until every member is scored.")
