"""Typed models of JSON columns, which the worker writes and the web reads.

Rows of every version can be read: missing keys have defaults, and unknown keys are kept.
Keys that were never written are not shown.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

# Stays an integer: the digest of a recipe depends on its numbers' spelling.
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
Interval95 = Annotated[
    list[Number], Field(description="Lower and upper end of the 95 % confidence interval.")
]
Arm = Literal["before", "cleaned", "random"]
ARMS: tuple[Arm, ...] = get_args(Arm)
Judgement = Literal["improved", "no_measurable_change", "worse"]
# "as_random": better or worse than before, but not surely more than by removing any images.
MetricJudgement = Literal["better", "as_random", "no_measurable_change", "worse"]


class Written(BaseModel):
    """A shape of which only the keys that were written are shown, known or not."""

    model_config = ConfigDict(extra="allow")

    # A return type would replace the fields in OpenAPI.
    @model_serializer(mode="wrap")
    def _leave_out_the_rest(  # type: ignore[no-untyped-def]
        self, handler: SerializerFunctionWrapHandler
    ):
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    def to_json(self) -> dict[str, Any]:
        return self.model_dump()


class Recipe(Written):
    """The settings of a training; before it ends only the requested settings."""

    network: str | None = Field(None, description="Name of the network.")
    backbone: str | None = Field(
        None,
        description="SHA-256 of the backbone whose features the network sees; empty for pixels.",
    )
    classes: int | None = Field(None, description="Number of classes.")
    channels: int | None = Field(
        None, description="1 for grey images, 3 for colour; with a backbone, its features."
    )
    height: int | None = Field(None, description="Height of an image in pixels.")
    width: int | None = Field(None, description="Width of an image in pixels.")
    mean: list[Number] | None = Field(
        None, description="Subtracted from pixels scaled to 0…1, per channel."
    )
    std: list[Number] | None = Field(
        None, description="Divides pixels after the mean is subtracted, per channel."
    )
    epochs: int | None = Field(None, description="Passes over the training images.")
    batch_size: int | None = Field(None, description="Images per step.")
    optimizer: str | None = Field(None, description="Update rule.")
    learning_rate: Number | None = Field(None, description="Step size η before the schedule.")
    momentum: Number | None = Field(None, description="Momentum μ of SGD.")
    nesterov: bool | None = Field(None, description="Use Nesterov's momentum.")
    weight_decay: Number | None = Field(None, description="Weight decay per step.")
    schedule: str | None = Field(None, description="How the learning rate falls.")
    augmentation: str | None = Field(None, description="How images vary from epoch to epoch.")
    seed: int | None = Field(None, description="Seed of every draw of the training.")
    weights: str | None = Field(
        None, description="SHA-256 of the weights it starts from; empty for a start from the seed."
    )
    trained: str | None = Field(None, description="all, or head for the last layer alone.")
    precision: str | None = Field(None, description="Precision of a training step's operations.")
    epoch_images: int | None = Field(
        None, description="Images that an epoch draws; 0 where it draws each image once."
    )


class MethodCost(BaseModel):
    """Cost of scoring a run by one method over one span."""

    model_config = ConfigDict(extra="allow")

    passes: Number = Field(
        description="Forward passes over the training images; an epoch of training takes three."
    )
    seconds: Number = Field(description="Seconds, at the pace of the run's training.")
    memory_bytes: int = Field(description="Bytes in memory at most.")
    stored_bytes: int = Field(description="Bytes on disk that the run must keep.")
    damping_seconds: Number | None = Field(
        None, description="Seconds with damping measured; null where the method takes none."
    )


class RunReport(Written):
    """The report of a finished training; empty before."""

    seconds: Number | None = Field(None, description="Seconds that the training took.")
    stored_bytes: int | None = Field(None, description="Bytes on disk needed to retrace it.")
    parameters: int | None = Field(None, description="Number of trained parameters.")
    training_images: int | None = Field(None, description="Number of training images.")
    validation_images: int | None = Field(None, description="Number of validation images.")
    environment: dict[str, Any] = Field(
        default_factory=dict, description="Machine, threads and library versions."
    )
    doubt: str | None = Field(None, description="A warning where the model has not learned.")
    costs: dict[str, dict[str, MethodCost]] = Field(
        default_factory=dict, description="Method → span → what scoring by it costs."
    )
    images_left_out: list[int] = Field(
        default_factory=list, description="In a cleansing: ids of the images that were left out."
    )
    draw_seed: int | None = Field(
        None, description="In a cleansing: seed of the random removal, for its arm alone."
    )
    same_as_run: int | None = Field(
        None, description="In a cleansing: id of the run whose results stand here too."
    )


class ScoringReport(Written):
    """The report of a finished scoring; its keys depend on the method."""

    seconds: Number | None = Field(None, description="Seconds that the scoring took.")
    stored_bytes: int | None = Field(None, description="Bytes of the run's folder.")
    trust: list[str] = Field(
        default_factory=list, description="How far to trust the scores, the weightiest first."
    )
    warns: bool = Field(False, description="True where trust warns of the scores.")
    validation: str | None = Field(
        None, description="SHA-256 of the validation images that define harm."
    )
    unjudged: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Class number → why its images cannot be judged: no_validation, few_validation or "
            "not_learned. They come last."
        ),
    )
    span: str | None = Field(None, description="Epochs that were looked at.")
    drifted: bool = Field(False, description="True where the training was not replayed exactly.")
    adjoint_growth: Number | None = Field(
        None, description="How many times as large the estimate became on its way back."
    )
    finite_difference_error: Number | None = Field(
        None, description="Largest relative error of the derivatives, as a fraction."
    )
    damping: Number | None = Field(None, description="Factor δ of the curvature; 1 is exact.")
    damping_errors: dict[str, Number] = Field(
        default_factory=dict,
        description="Factor → squared error of its predictions, relative to the changes' square.",
    )
    damping_groups: int | None = Field(
        None, description="Groups of images that were left out to choose the damping."
    )
    surely_harmful: int | None = Field(
        None,
        description=(
            "Images that hurt accuracy beyond the luck of the validation images (one-sided 95 %); "
            "null where the scores have no errors."
        ),
    )
    top_group: int | None = Field(None, description="Images whose joint effect is predicted.")
    predicted_change: Number | None = Field(
        None, description="Predicted change of the validation loss without the top group."
    )
    measured_change: Number | None = Field(
        None, description="The same change, measured by training without them."
    )
    diverged_without: bool = Field(
        False, description="True where the training without them diverged."
    )
    checkpoints: int | None = Field(None, description="Epochs whose parameters were used.")
    sampled_steps: int | None = Field(None, description="Steps per epoch that were looked at.")
    residual: Number | None = Field(None, description="Relative residual of the equation.")
    iterations: int | None = Field(None, description="Iterations that solved the equation.")
    converged: bool = Field(True, description="False where the residual stayed too large.")
    ridge: Number | None = Field(None, description="Added to the diagonal of the curvature.")
    never_learned: int | None = Field(None, description="Images that were never right.")
    forgotten: int | None = Field(None, description="Images that went from right to wrong.")
    folds: int | None = Field(None, description="Trainings, each without one fold.")
    labels_taken_for_wrong: int | None = Field(None, description="Labels taken for wrong.")
    features: int | None = Field(None, description="Numbers that the last layer sees per image.")
    sample: int | None = Field(None, description="Images that the trees were grown from.")
    runs: int | None = Field(None, description="In an average: the number of runs.")
    agreement: Number | None = Field(
        None, description="In an average: mean rank correlation of two runs, from −1 to 1."
    )
    runs_measured: int | None = Field(
        None, description="In an average: runs whose prediction was measured."
    )
    runs_held: int | None = Field(
        None, description="In an average: runs whose measured prediction held."
    )
    undamped_runs: int | None = Field(
        None, description="In an average: runs in which no damping predicted the changes."
    )


class Difference(Written):
    """A mean difference with its 95 % confidence interval."""

    difference: Number = Field(description="Mean of after minus before.")
    ci95: Interval95 = Field(description="95 % interval over starts and test images.")
    ci95_images: Interval95 | None = Field(None, description="95 % interval over test images.")
    ci95_seeds: Interval95 | None = Field(None, description="95 % interval over starts.")


class Measure(Difference):
    """Accuracy (a fraction) or loss of the three arms, and what cleaning gained."""

    before: Number = Field(description="Mean with nothing removed.")
    cleaned: Number = Field(description="Mean on the cleaned version.")
    random: Number = Field(description="Mean with the same number removed at random.")
    random_difference: Number = Field(description="Mean of random minus before.")
    random_ci95: Interval95 = Field(description="95 % interval of the random difference.")
    beyond_random: Difference | None = Field(None, description="Cleaned minus random.")
    judgement: MetricJudgement


class StartResult(Written):
    """Result of one fresh start in one arm on the test images."""

    seed: int
    arm: Arm
    accuracy: Number = Field(description="Fraction of test images that are right.")
    loss: Number = Field(description="Mean cross-entropy in nats.")


class Protocol(Written):
    """One comparison: the same training repeated, or fresh starts."""

    accuracy: Measure
    loss: Measure
    judgement: Judgement
    seeds: list[int] = Field(default_factory=list, description="Of fresh starts: their seeds.")
    runs: list[StartResult] = Field(
        default_factory=list, description="Of fresh starts: each result."
    )


class ClassResult(Written):
    """Accuracy on one class's test images, in the mean of the fresh starts."""

    label: int
    images: int = Field(description="Number of test images of the class.")
    before: Number | None = Field(None, description="Fraction that is right, nothing removed.")
    cleaned: Number | None = Field(None, description="Fraction that is right, cleaned.")
    random: Number | None = Field(None, description="Fraction that is right, random removal.")
    difference: Number = Field(description="Cleaned minus before, as a fraction.")


class ChangedImage(Written):
    """A test image that the repeated training predicts differently."""

    image_id: int
    label: int
    before: int = Field(description="Class predicted with nothing removed.")
    cleaned: int = Field(description="Class predicted on the cleaned version.")
    fresh_before: int | None = Field(
        None, description="Fresh starts that are right with nothing removed; null in old verdicts."
    )
    fresh_cleaned: int | None = Field(
        None, description="Fresh starts that are right on the cleaned version."
    )


class VerdictSeconds(Written):
    """Time that the measurement took."""

    retrain: Number | None = Field(None, description="Seconds of all trainings.")
    this_attempt: Number | None = Field(None, description="Seconds of the job's last attempt.")


class Verdict(Written):
    """Effect of a cleansing on the model (docs/decisions/0010-verdict-rule.md)."""

    planted: int | None = Field(
        None, description="Planted errors in the parent version; null where none was ever planted."
    )
    removed: int = Field(description="Images that the new version leaves out.")
    relabelled: int = Field(description="Images with a new label.")
    found: int | None = Field(None, description="Planted errors among those.")
    mislabelled: int | None = Field(
        None, description="Of the found: images that got another wrong label."
    )
    test_images: int = Field(description="Number of test images.")
    same_seed: Protocol = Field(description="The run's own training, repeated.")
    fresh_seeds: Protocol = Field(description="Fresh starts; they decide.")
    per_class: list[ClassResult] = Field(description="Classes with test images.")
    changed: list[int] = Field(description="Ids of the test images predicted differently.")
    became_right: int = Field(description="Of the changed: wrong before and right now.")
    became_wrong: int = Field(description="Of the changed: right before and wrong now.")
    changes: list[ChangedImage] = Field(
        default_factory=list, description="The changed in detail, at most 2,000."
    )
    sentence: str = Field(description="The verdict in words.")
    doubt: str | None = Field(
        None, description="A warning where fresh starts have learned nothing."
    )
    judgement: Judgement
    seconds: VerdictSeconds


class Choice(Written):
    """An answer to an import's question, with what it would make of the files."""

    answer: str = Field(description="Sent to choose it.")
    words: str = Field("", description="Its meaning in words.")
    splits: dict[str, str] = Field(default_factory=dict, description="Folder → split.")
    split_images: dict[str, int] = Field(default_factory=dict, description="Folder → images.")
    class_count: int = Field(0, description="Number of classes.")
    class_images: dict[str, int] = Field(
        default_factory=dict, description="Class → images, of the first classes."
    )


class Question(Written):
    """A question that an import stops at: nothing is guessed."""

    kind: str = Field(
        description="layout, small_classes or label_column: the import's option it asks for."
    )
    sentence: str = Field("", description="The question, for a person.")
    choices: list[Choice] = Field(default_factory=list)


class ImportReport(Written):
    """Findings of an import; empty before it ends."""

    question: Question | None = Field(
        None, description="What the import asks before it continues; null unless it waits."
    )
    understood: list[str] = Field(
        default_factory=list, description="Sentences on how the files were read."
    )
    split_words: str | None = Field(None, description="Where the splits come from.")
    notes: list[str] = Field(default_factory=list, description="Sentences for a person.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Path, label, split → the table's column for it."
    )
    names_encoding: str | None = Field(
        None, description="Encoding in which names without a sign of theirs were read."
    )
    conflicting_duplicates: int = Field(
        0, description="Pictures that occur under different labels."
    )
    duplicates_across_splits: int = Field(
        0, description="Pictures that occur in more than one split."
    )
    bytes: int | None = Field(None, description="Bytes on disk.")
    seconds: Number | None = Field(None, description="Seconds that the import took.")
