"""Shapes of runs and scorings, and what can be chosen. A test compares the choices with the engine's."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backend.jobs.schemas import JobOut

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
Network = Literal["mnist", "cifar", "resnet18", "resnet34", "resnet50", "mobilenet_v3", "convnext_tiny", "vit_b_16"]
SCHEDULES = {
    "constant": "Same learning rate throughout",
    "step": "A tenth at half of the run, a hundredth at three quarters",
    "cosine": "Falls smoothly to zero",
    "inverse_root": "Falls as one over the root of the step",
}
AUGMENTATIONS = {"none": "As they are", "shift": "Shifted a little", "shift_flip": "Shifted a little and mirrored"}
METHODS = {
    "sgd_influence": "Exact: without this image, this very training would have ended better.",
    "marginal_influence": "Averaged over when in an epoch the image was seen: steadier, slower.",
    "final_params": "An estimate from the finished model alone: no replay, less exact.",
}
SPANS = {"last_epoch": "The last epoch (fast)", "all_epochs": "All epochs (slower, looks further back)"}
# Retracing costs about 2.4 training steps and the replay one (docs/results.md); the marginal method adds eight forward passes.
EPOCHS_OF_WORK = {"sgd_influence": 3.6, "marginal_influence": 9.0, "final_params": 2.6}


class RunOptions(BaseModel):
    """How to train; what is left out is chosen to fit the data."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"epochs": 20, "seed": 0}, {}]}, extra="forbid")

    version_id: int | None = Field(None, description="Version to train on; the current one if left out.")
    seed: int = Field(0, ge=0, lt=2**31, description="The same seed gives the same run, bit for bit.")
    network: Network | None = Field(None, description="Network; chosen by size and colour if left out.")
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
    trained: Literal["all", "head"] | None = Field(None, description="Train the whole network, or with weights its last layer alone.")
    precision: Literal["float32", "bfloat16"] | None = Field(
        None, description="Of a training step's operations; bfloat16 is faster on a GPU, and its scores are not called exact."
    )
    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training images.")
    batch_size: int | None = Field(None, ge=1, le=4096, description="Images a step.")
    learning_rate: float | None = Field(None, gt=0, le=100, allow_inf_nan=False, description="Step size η.")
    momentum: float | None = Field(None, ge=0, lt=1, description="Momentum μ; 0 for plain SGD.")
    weight_decay: float | None = Field(None, ge=0, le=1, description="Weight decay.")
    schedule: Literal["constant", "step", "cosine", "inverse_root"] | None = Field(None, description="How the learning rate falls.")
    augmentation: Literal["none", "shift", "shift_flip"] | None = Field(None, description="How images vary from epoch to epoch.")

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: Any) -> Any:
        """A form sends empty fields as empty text."""
        return {key: value for key, value in values.items() if value != ""} if isinstance(values, dict) else values

    @field_validator("seed", mode="before")
    @classmethod
    def _no_seed(cls, value: Any) -> Any:
        return 0 if value is None else value

    def recipe(self) -> dict[str, Any]:
        """What was asked for, without the rest."""
        asked = self.model_dump(exclude={"version_id", "seed", "own_network"}, exclude_none=True)
        return asked | ({"network": self.own_network} if self.own_network else {})


class ScoringOptions(BaseModel):
    """How to look for harmful images."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"method": "sgd_influence", "span": "last_epoch"}]}, extra="forbid")

    method: Literal["sgd_influence", "marginal_influence", "final_params"] = Field(
        "sgd_influence", description="Method of the first ranking."
    )
    span: Literal["last_epoch", "all_epochs"] = Field("last_epoch", description="Epochs to retrace.")


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
    created_at: datetime
    job: JobOut | None


class RunOut(RunSummary):
    """A run, its job and its epochs so far."""

    epochs: list[EpochOut]


class RunPage(BaseModel):
    """Some runs, newest first, and the cursor of the next page."""

    items: list[RunSummary]
    next: str | None


class ScoringOut(BaseModel):
    """A scoring; its values are in the downloads."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    method: str
    options: dict[str, Any]
    state: str
    exact: bool
    report: dict[str, Any]


class RunReview(BaseModel):
    """A review that a scoring of the run prepares or has prepared."""

    id: int
    run_id: int
    data_set_id: int
    version_id: int
    state: str
    scorings: list[ScoringOut]
    job: JobOut | None


class RunReviewPage(BaseModel):
    """Some reviews of a run, newest first, and the cursor of the next page."""

    items: list[RunReview]
    next: str | None
