"""Pages of runs: form, live chart, way to the review."""

from typing import Annotated, Any

import humanize
from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayScore, MayTrain, UserDep
from backend.cleansing import standing
from backend.core import catalogue
from backend.core.job_lifecycle import ACTIVE
from backend.core.models import DataSet, Run, User, Version, are_photographs
from backend.core.storage import Storage
from backend.datasets import service as datasets
from backend.runs import api, averages, numbers, schemas, service
from backend.runs.schemas import EpochOut, RunOptions, ScoringOptions
from backend.web.exports import FORMATS
from backend.web.forms import read_form
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep
from backend.web.validation_messages import wrong

router = TransactionRouter(include_in_schema=False)


async def _form_values(request: Request) -> dict[str, Any]:
    """Return a form's fields as text, for joint validation."""
    return dict(await request.form())


FormValues = Annotated[dict[str, Any], Depends(_form_values)]


@router.get("/datasets/{data_set_id}/runs/new")
def new_run(
    request: Request, data_set_id: int, session: SessionDep, user: MayTrain
) -> HTMLResponse:
    """Show the form: one button, options folded away."""
    data_set = datasets.get(session, user, data_set_id)
    service.check_imported(session, data_set)
    return _form(request, session, data_set, {}, {})


@router.post("/datasets/{data_set_id}/runs")
def create_run(
    request: Request, data_set_id: int, session: SessionDep, user: MayTrain, values: FormValues
) -> Response:
    """Start a training, or show the form with errors."""
    data_set = datasets.get(session, user, data_set_id)
    try:
        options = read_form(RunOptions, values)
    except RequestValidationError as error:
        errors = {str(detail["loc"][-1]): wrong(detail).capitalize() for detail in error.errors()}
        if not errors.keys() <= RunOptions.model_fields.keys():
            raise
        return _form(request, session, data_set, values, errors, status=422)
    return RedirectResponse(f"/runs/{service.create(session, user, data_set, options).id}", 303)


def _form(
    request: Request,
    session: Session,
    data_set: DataSet,
    values: dict[str, Any],
    errors: dict[str, str],
    status: int = 200,
) -> HTMLResponse:
    choices = {
        "networks": {
            name: f"{name}: {network.meaning}" for name, network in catalogue.NETWORKS.items()
        },
        "own_networks": [(name, name) for name in request.app.state.settings.own_networks],
        "weights": _weights(request.app.state.storage),
        "trained": catalogue.TRAINED,
        "optimizers": catalogue.OPTIMIZERS,
        "precisions": catalogue.PRECISIONS,
        "schedules": catalogue.SCHEDULES,
        "augmentations": catalogue.AUGMENTATIONS,
        "photographs": are_photographs(session, data_set.id),
        "backbone": catalogue.BACKBONES[catalogue.DEFAULT_BACKBONE],
    }
    return page(
        request,
        "runs/new.html",
        status=status,
        data_set=data_set,
        values=values,
        errors=errors,
        **choices,
    )


def _weights(storage: Storage) -> list[tuple[str, str]]:
    """List (SHA-256, description) of weights to start from."""
    return [
        (digest, f"{digest[:12]}… ({humanize.naturalsize(size, format='%.1f')})")
        for digest, size in storage.list_weights()
    ]


@router.get("/runs/{run_id}")
def show_run(request: Request, run_id: int, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show the run's chart and progress, then the next step."""
    return page(
        request, "runs/show.html", **_run_context(session, user, service.get(session, user, run_id))
    )


def _run_context(session: Session, user: User, run: Run) -> dict[str, Any]:
    epochs = service.list_epochs(session, run)
    reviews = service.list_reviews(session, run)[0]
    known = numbers.map_numbers(session, run.data_set_id)
    return {
        "run": run,
        "title": numbers.get_title(run, known),
        "repeats": known.get(run.repeats_run_id or 0),
        "data_set": datasets.get(session, user, run.data_set_id),
        "run_version": session.get_one(Version, run.version_id),
        "job": service.get_job(session, run.job_id),
        "epochs": epochs,
        "chart": [EpochOut.model_validate(epoch).model_dump() for epoch in epochs],
        "reviews": reviews,
        "waiting": standing.get_waiting(session, run.data_set_id),
        "members": averages.map_members(session, [review for review, _, _ in reviews]),
        "averages": [
            (1, "This training alone"),
            *((count, f"{count} trainings") for count in range(2, schemas.MOST_RUNS + 1)),
        ],
        "methods": service.list_methods(run),
        "known": catalogue.METHODS,
        "second": catalogue.SECOND,
        "spans": catalogue.SPANS,
        "formats": FORMATS,
    }


@router.get("/runs/{run_id}/epochs")
def epochs(run_id: int, session: SessionDep, user: UserDep) -> dict[str, Any]:
    """Return the epochs so far, and if more will follow."""
    run = service.get(session, user, run_id)
    job = service.get_job(session, run.job_id)
    active = job is not None and job.state in ACTIVE
    return {
        "active": active,
        "epochs": [EpochOut.model_validate(epoch) for epoch in service.list_epochs(session, run)],
    }


@router.post("/runs/{run_id}/reviews")
def create_review(
    run_id: int, session: SessionDep, user: MayScore, values: FormValues
) -> RedirectResponse:
    """Start a scoring and go to its review."""
    run = service.get(session, user, run_id)
    review = service.start_scoring(session, user, run, read_form(ScoringOptions, values))
    return RedirectResponse(f"/reviews/{review.id}", 303)


# The same downloads, at addresses that a page can link.
api.add_score_downloads(router)
