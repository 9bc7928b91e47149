"""Pages of jobs."""

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from backend.accounts.dependencies import MaySteer, UserDep
from backend.core.errors import Conflict
from backend.core.job_lifecycle import ACTIVE, STATES, JobState
from backend.jobs import service, waiting
from backend.web.redirects import own_path, path_of
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(prefix="/jobs", include_in_schema=False)


@router.get("")
def list_jobs(
    request: Request,
    session: SessionDep,
    user: UserDep,
    state: JobState | None = None,
    after: int | None = None,
) -> HTMLResponse:
    jobs, following = service.page(session, state=state, after=after)
    return page(
        request,
        "jobs/list.html",
        jobs=jobs,
        waiting=waiting.describe_all(session, jobs),
        state=state,
        states=STATES,
        after=after,
        following=following,
    )


@router.get("/{job_id}")
def show_job(request: Request, session: SessionDep, user: UserDep, job_id: int) -> HTMLResponse:
    job = service.get(session, user, job_id)
    return page(request, "jobs/show.html", job=job, lines=service.log_tail(session, job))


@router.get("/{job_id}/progress")
def show_progress(
    request: Request, session: SessionDep, user: UserDep, job_id: int
) -> HTMLResponse:
    """Serve the progress, polled every second; when the job ends, the page reloads."""
    job = service.get(session, user, job_id)
    origin = path_of(request.headers.get("HX-Current-URL", "")) or f"/jobs/{job.id}"
    response = page(request, "jobs/_progress.html", job=job, origin=origin)
    if job.state not in ACTIVE:
        response.headers["HX-Refresh"] = "true"
    return response


@router.get("/{job_id}/log")
def show_log(request: Request, session: SessionDep, user: UserDep, job_id: int) -> HTMLResponse:
    """Serve the log's end, polled while the job is active."""
    job = service.get(session, user, job_id)
    return page(request, "jobs/_log.html", job=job, lines=service.log_tail(session, job))


@router.post("/{job_id}/cancel")
def cancel_job(
    session: SessionDep, user: MaySteer, job_id: int, origin: Annotated[str, Form()] = ""
) -> RedirectResponse:
    """Stop the job and return to the button's page."""
    service.cancel(session, user, job_id)
    return _back(origin, job_id)


@router.post("/{job_id}/retry")
def retry_job(
    session: SessionDep, user: MaySteer, job_id: int, origin: Annotated[str, Form()] = ""
) -> RedirectResponse:
    """Queue the job again, even if another tab already did."""
    try:
        service.retry(session, user, job_id)
    except Conflict:
        if service.get(session, user, job_id).state not in ACTIVE:
            raise
    return _back(origin, job_id)


def _back(origin: str, job_id: int) -> RedirectResponse:
    return RedirectResponse(own_path(origin, f"/jobs/{job_id}"), status_code=303)
