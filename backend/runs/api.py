"""Runs and scorings as JSON."""

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import OwnerDep, UserDep
from backend.datasets import service as datasets
from backend.db import SessionDep
from backend.downloads import csv_download, parquet_download
from backend.jobs.schemas import JobOut
from backend.models import Review, Run
from backend.runs import service
from backend.runs.schemas import EpochOut, NewReview, RunOptions, RunOut, ScoringOptions, ScoringOut

router = APIRouter(tags=["runs"])


@router.post("/data-sets/{data_set_id}/runs", status_code=202, summary="Train on a data set")
def create_run(data_set_id: int, session: SessionDep, user: OwnerDep, options: RunOptions) -> RunOut:
    """Queues a training; what is left out of the options is chosen to fit the data."""
    data_set = datasets.get(session, user, data_set_id)
    return _run_out(session, service.create(session, user, data_set, options))


@router.get("/runs/{run_id}", summary="One run")
def show_run(run_id: int, session: SessionDep, user: UserDep) -> RunOut:
    """The run with its job and its epochs so far."""
    return _run_out(session, service.get(session, user, run_id))


@router.post("/runs/{run_id}/reviews", status_code=202, summary="Find harmful images")
def create_review(run_id: int, session: SessionDep, user: OwnerDep, options: ScoringOptions) -> NewReview:
    """Queues the scoring of a finished run; the review can be read once its job is done."""
    return _review_out(session, service.start_scoring(session, user, service.get(session, user, run_id), options))


@router.get("/runs/{run_id}/scores.csv", summary="Scores as CSV")
def scores_csv(run_id: int, session: SessionDep, user: UserDep) -> Response:
    """A line for each training image of the newest scoring."""
    review = service.latest_review(session, service.get(session, user, run_id))
    return csv_download(f"run-{run_id}-scores.csv", service.DOWNLOAD_COLUMNS, list(service.score_rows(session, review)))


@router.get("/runs/{run_id}/scores.parquet", summary="Scores as Parquet")
def scores_parquet(run_id: int, session: SessionDep, user: UserDep) -> Response:
    """The same table with its types."""
    review = service.latest_review(session, service.get(session, user, run_id))
    columns = zip(*service.score_rows(session, review), strict=True)
    return parquet_download(f"run-{run_id}-scores.parquet", dict(zip(service.DOWNLOAD_COLUMNS, map(list, columns), strict=True)))


def _run_out(session: Session, run: Run) -> RunOut:
    job = service.job_of(session, run.job_id)
    return RunOut(
        id=run.id,
        data_set_id=run.data_set_id,
        version_id=run.version_id,
        state=run.state,
        seed=run.seed,
        recipe=run.recipe,
        params_hash=run.params_hash,
        report=run.report,
        created_at=run.created_at,
        job=JobOut.model_validate(job) if job else None,
        epochs=[EpochOut.model_validate(epoch) for epoch in service.epochs(session, run)],
    )


def _review_out(session: Session, review: Review) -> NewReview:
    job = service.job_of(session, review.job_id)
    return NewReview(
        id=review.id,
        run_id=review.run_id,
        data_set_id=review.data_set_id,
        version_id=review.version_id,
        state=review.state,
        scorings=[ScoringOut.model_validate(scoring) for scoring in service.scorings_of(session, review)],
        job=JobOut.model_validate(job) if job else None,
    )
