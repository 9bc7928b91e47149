"""Runs and scorings as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayScore, MayTrain, UserDep
from backend.core.models import Job, Review, Run, Scoring, User
from backend.datasets import service as datasets
from backend.jobs.schemas import JobOut
from backend.runs import averages, numbers, service
from backend.runs.schemas import (
    BackboneOut,
    EpochOut,
    MethodOut,
    RunOptions,
    RunOut,
    RunReview,
    RunSummary,
    ScoringOptions,
    ScoringOut,
)
from backend.web.exports import CHUNK, FORMATS, Format, ReaderParameter, in_chunks
from backend.web.openapi import table
from backend.web.pagination import After, Limit, Page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(tags=["runs"])


@router.post("/data-sets/{data_set_id}/runs", status_code=202, summary="Train on a data set")
def create_run(
    data_set_id: int, session: SessionDep, user: MayTrain, options: RunOptions
) -> RunOut:
    """Queue a training; what is left out of the options is chosen to fit the data.

    While a training with the same options is queued or runs, the answer is that training.
    """
    data_set = datasets.get(session, user, data_set_id)
    return _run_out(session, service.create(session, user, data_set, options))


@router.get("/data-sets/{data_set_id}/runs", summary="List the runs of a data set")
def list_runs(
    data_set_id: int, session: SessionDep, user: UserDep, after: After = None, limit: Limit = 50
) -> Page[RunSummary]:
    """List runs, newest first, without those of cleansings and averages."""
    found, following = service.page(
        session, datasets.get(session, user, data_set_id), after=after, limit=limit
    )
    known = numbers.map_numbers(session, data_set_id)
    return Page[RunSummary].of((_columns(run, job, known) for run, job in found), following)


@router.get("/backbones", summary="List backbones")
def list_backbones(user: UserDep) -> list[BackboneOut]:
    """List the frozen networks that turn pictures into features; the first is the default."""
    return service.list_backbones()


@router.get("/runs/{run_id}", summary="One run")
def show_run(run_id: int, session: SessionDep, user: UserDep) -> RunOut:
    """Return a run with its job and its epochs so far."""
    return _run_out(session, service.get(session, user, run_id))


@router.get("/runs/{run_id}/methods", summary="List methods and their costs")
def list_methods(run_id: int, session: SessionDep, user: UserDep) -> list[MethodOut]:
    """List methods with their meaning and their cost for this run."""
    return service.list_methods(service.get(session, user, run_id))


@router.post("/runs/{run_id}/reviews", status_code=202, summary="Find harmful images")
def create_review(
    run_id: int, session: SessionDep, user: MayScore, options: ScoringOptions
) -> RunReview:
    """Queue the scoring of a finished run; read the review once its job is done.

    The same options again give the same scores, so the answer is the review that has them.
    """
    run = service.get(session, user, run_id)
    review = service.start_scoring(session, user, run, options)
    found, _ = service.list_reviews(session, run, after=review.id + 1, limit=1)
    return _reviews_out(session, found)[0]


@router.get("/runs/{run_id}/reviews", summary="List the reviews of a run")
def list_reviews(
    run_id: int, session: SessionDep, user: UserDep, after: After = None, limit: Limit = 50
) -> Page[RunReview]:
    """List a run's reviews with their scorings, newest first."""
    found, following = service.list_reviews(
        session, service.get(session, user, run_id), after=after, limit=limit
    )
    return Page[RunReview].of(_reviews_out(session, found), following)


def add_score_downloads(router: TransactionRouter) -> None:
    """Add a route per format of the score table."""
    for kind in FORMATS.values():
        router.add_api_route(
            f"/runs/{{run_id}}/scores.{kind.suffix}",
            partial(
                _download_scores_for if kind.write_for_spreadsheets else _download_scores, kind
            ),
            name=f"scores_{kind.suffix}",
            summary=f"Scores as {kind.title}",
            description="A line for each training image of the newest scoring.",
            response_class=Response,
            responses=table(kind.media_type.partition(";")[0]),
        )


def _download_scores(
    kind: Format, request: Request, run_id: int, session: SessionDep, user: UserDep
) -> Response:
    return _download_scores_for(kind, request, run_id, session, user)


def _download_scores_for(
    kind: Format,
    request: Request,
    run_id: int,
    session: SessionDep,
    user: UserDep,
    reader: ReaderParameter = "programs",
) -> Response:
    rows = _score_rows(request, session, user, run_id)
    return kind.download(f"run-{run_id}-scores", service.DOWNLOAD_COLUMNS, rows, reader)


def _score_rows(
    request: Request, session: Session, user: User, run_id: int
) -> Iterator[tuple[Any, ...]]:
    review = service.latest_review(session, service.get(session, user, run_id))
    return in_chunks(
        request.app.state.database, partial(service.score_page, review=review, limit=CHUNK)
    )


add_score_downloads(router)


def _run_out(session: Session, run: Run) -> RunOut:
    epochs = [EpochOut.model_validate(epoch) for epoch in service.list_epochs(session, run)]
    known = numbers.map_numbers(session, run.data_set_id)
    job = service.get_job(session, run.job_id)
    return RunOut.model_validate(_columns(run, job, known) | {"epochs": epochs})


def _columns(run: Run, job: Job | None, known: Mapping[int, int]) -> dict[str, Any]:
    columns = (
        "id",
        "data_set_id",
        "version_id",
        "seed",
        "recipe",
        "params_hash",
        "report",
        "repeats_run_id",
        "created_at",
    )
    return {name: getattr(run, name) for name in columns} | {
        "number": known.get(run.id),
        "state": service.get_state(run, job),
        "job": JobOut.model_validate(job) if job else None,
    }


def _reviews_out(
    session: Session, found: Sequence[tuple[Review, Job | None, list[Scoring]]]
) -> list[RunReview]:
    members = averages.map_members(session, [review for review, _, _ in found])
    return [_review_out(*row, members.get(row[0].id, [])) for row in found]


def _review_out(
    review: Review, job: Job | None, scorings: Sequence[Scoring], members: Sequence[averages.Member]
) -> RunReview:
    return RunReview(
        id=review.id,
        run_id=review.run_id,
        data_set_id=review.data_set_id,
        version_id=review.version_id,
        state=review.state,
        method=review.method,
        scorings=[ScoringOut.model_validate(scoring) for scoring in scorings],
        members=averages.to_json(members),
        job=JobOut.model_validate(job) if job else None,
    )
