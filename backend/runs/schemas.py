"""Shapes of runs and scorings, and what can be chosen. A test compares the choices with the engine's."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backend.core.catalogue import METHODS, MethodName
from backend.jobs.schemas import JobOut
from backend.web.request_body import Body

# Name → what a person reads. The engine has the same names; the web must not import it (torch).
NETWORKS = {
    "mnist": "Small and fast; for digits, letters and other simple grey images.",
    "cifar": "Middle-sized; for small colour images.",
    "resnet18": "Large and slow without a GPU; for photographs.",
    "resnet34": "Larger than resnet18, for many photographs.",
    "resnet50": "Larger still; needs a GPU.",
    "mobilenet_v3": "For photographs where there is no GPU; best from published weights.",
    "convnext_tiny": "A modern large network; needs a GPU, and is best from published weights.",
    "vit_b_16": "A vision transformer: the largest, needs a GPU and published weights.",
}
Network = Literal[
    "mnist",
    "cifar",
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v3",
    "convnext_tiny",
    "vit_b_16",
]
SCHEDULES = {
    "constant": "Same learning rate throughout",
    "step": "A tenth at half of the run, a hundredth at three quarters",
    "cosine": "Falls smoothly to zero",
    "inverse_root": "Falls as one over the root of the step",
}
OPTIMIZERS = {
    "sgd": "SGD, with momentum or without",
    "adam": "Adam: every parameter has a pace of its own",
    "adamw": "AdamW: Adam, with weight decay apart from the gradient",
}
TRAINED = {"all": "The whole network", "head": "Its last layer alone"}
PRECISIONS = {
    "float32": "32 bits: scores are exact",
    "bfloat16": "16 bits in a training step: faster on a GPU, scores are not exact",
}
AUGMENTATIONS = {
    "none": "As they are",
    "shift": "Shifted a little",
    "shift_flip": "Shifted a little and mirrored",
}

# Runs that an average may take.
MOST_RUNS = 5


class RunOptions(Body):
    """How to train; what is left out is chosen to fit the data."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"epochs": 20, "seed": 0}, {}]})

    version_id: int | None = Field(
        None, description="Version to train on; the current one if left out."
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="The same seed gives the same run, bit for bit."
    )
    network: Network | None = Field(
        None, description="Network; chosen by size and colour if left out."
    )
    own_network: str | None = Field(
        None,
        pattern=r"^\w+(\.\w+)*:\w+$",
        max_length=200,
        description="In its place: a network that the administrator allowed (WINNOW_NETWORKS), as package.module:function.",
    )
    weights: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of a safetensors file in the workers' folder of weights that training starts from; from scratch if left out.",
    )
    trained: Literal["all", "head"] | None = Field(
        None, description="Train the whole network, or with weights its last layer alone."
    )
    precision: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="Of a training step's operations; bfloat16 is faster on a GPU, and its scores are not called exact.",
    )
    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training images.")
    batch_size: int | None = Field(None, ge=1, le=4096, description="Images a step.")
    optimizer: Literal["sgd", "adam", "adamw"] | None = Field(
        None, description="Update rule; SGD if left out."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="Step size η."
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="Momentum μ of SGD; 0 for plain SGD."
    )
    weight_decay: float | None = Field(None, ge=0, le=1, description="Weight decay.")
    schedule: Literal["constant", "step", "cosine", "inverse_root"] | None = Field(
        None, description="How the learning rate falls."
    )
    augmentation: Literal["none", "shift", "shift_flip"] | None = Field(
        None, description="How images vary from epoch to epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: Any) -> Any:
        """A form sends empty fields as empty text."""
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
        """What was asked for, without the rest."""
        asked = self.model_dump(exclude={"version_id", "seed", "own_network"}, exclude_none=True)
        return asked | ({"network": self.own_network} if self.own_network else {})


class ScoringOptions(Body):
    """How to look for harmful images."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"method": "sgd_influence", "span": "last_epoch"}]}
    )

    method: MethodName = Field(
        "sgd_influence", description="Method of the first ranking; the second one is by margin."
    )
    span: Literal["last_epoch", "all_epochs"] = Field(
        "last_epoch", description="Epochs to look at, where the method knows a span."
    )
    damping: Literal["none", "auto"] = Field(
        "none",
        description="Damping of the curvature: none is exact; auto measures which factor predicts best, and takes several times as long.",
    )

    runs: int = Field(
        1,
        ge=1,
        le=MOST_RUNS,
        description="Average the scores of so many runs: this one, and the same recipe trained with other seeds. 1 for this run alone.",
    )

    def recorded(self) -> dict[str, Any]:
        """What a scoring by these options depends on, as it stands in its row."""
        method = METHODS[self.method]
        span = {"span": self.span} if method.spans else {}
        damping = {"damping": self.damping} if self.damping != "none" else {}
        return span | damping | ({"runs": self.runs} if self.runs > 1 else {})


class EpochOut(BaseModel):
    """What one epoch measured."""

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
    data_set_id: int
    version_id: int
    state: str
    seed: int
    recipe: dict[str, Any]
    params_hash: str | None
    report: dict[str, Any]
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
    report: dict[str, Any]


class CostOut(BaseModel):
    """What a scoring will take: passes over the training images, seconds at the pace of the training, bytes in memory and on disk."""

    passes: float
    seconds: float
    memory_bytes: int
    stored_bytes: int
    damping_seconds: float | None = Field(
        None, description="With damping measured; null where the method knows none."
    )


class MethodOut(BaseModel):
    """A method, what a low score of it means, and what it costs for this run: null where the run was trained before that was worked out."""

    name: str
    called: str = Field(description="Its usual name.")
    title: str
    meaning: str
    harm: bool = Field(
        description="Whether it speaks of harm to the validation loss; other methods speak of labels, of oddness, or of nothing."
    )
    needs: str
    spans: bool
    damps: bool
    costs: dict[str, CostOut] | None = Field(description="By span: last_epoch, all_epochs.")


class MemberOut(BaseModel):
    """One run of an average, and the job that is on for it: its training, then its scoring."""

    run_id: int
    seed: int
    state: str = Field(description="of its scoring: queued or done")
    job: JobOut | None


class RunReview(BaseModel):
    """A review that a scoring of the run prepares or has prepared."""

    id: int
    run_id: int
    data_set_id: int
    version_id: int
    state: str
    method: str
    scorings: list[ScoringOut]
    members: list[MemberOut] = Field(description="The runs of an average; empty for a single run.")
    job: JobOut | None = Field(description="Of an average: null until every member is scored.")
