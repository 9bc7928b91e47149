"""Kinds of jobs: a line here, a pipeline function, and a service that queues it."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from backend.core.models.base import Base
from backend.core.models.cleansing import Cleansing
from backend.core.models.datasets import DataSet
from backend.core.models.review import Review
from backend.core.models.runs import Run

# Quick work never waits behind long work: a worker takes it first, or takes nothing else.
Lane = Literal["quick", "long"]


class _Subject(NamedTuple):
    table: type[Base]
    path: str
    noun: str


class Subject(_Subject, Enum):
    """Table that `Job.subject_id` points into, the path of its pages, and its noun."""

    DATA_SET = (DataSet, "/datasets", "data set")
    RUN = (Run, "/runs", "training")
    REVIEW = (Review, "/reviews", "review")
    CLEANSING = (Cleansing, "/cleansings", "cleansing")


@dataclass(frozen=True)
class JobKind:
    """Facts about a kind of job. pipeline: "module:function"."""

    subject: Subject
    pipeline: str
    resumes: bool = False  # when retried, a cancelled job continues its work
    lane: Lane = "long"  # a job may choose another


KINDS = {
    "import": JobKind(Subject.DATA_SET, "worker.pipeline.imports.job:import_data_set"),
    "features": JobKind(
        Subject.DATA_SET, "worker.pipeline.features.job:make_features", resumes=True
    ),
    "train": JobKind(Subject.RUN, "worker.pipeline.train:train_run", resumes=True),
    "score": JobKind(Subject.REVIEW, "worker.pipeline.scoring.job:score_run"),
    "explain": JobKind(
        Subject.REVIEW, "worker.pipeline.scoring.explanations:explain", lane="quick"
    ),
    "map": JobKind(Subject.REVIEW, "worker.pipeline.scoring.umap_layout:arrange", lane="quick"),
    "member": JobKind(Subject.RUN, "worker.pipeline.scoring.averages:score_member"),
    "cleanse": JobKind(Subject.CLEANSING, "worker.pipeline.cleansing.job:cleanse", resumes=True),
}
