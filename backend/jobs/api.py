"""Jobs as JSON."""

from backend.accounts.dependencies import MaySteer, UserDep
from backend.core.job_lifecycle import JobState
from backend.jobs import service, waiting
from backend.jobs.schemas import JobOut, LogLineOut
from backend.web.pagination import After, Limit, Page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(prefix="/jobs", tags=["jobs"])


@router.get("", summary="List jobs")
def list_jobs(
    session: SessionDep,
    user: UserDep,
    state: JobState | None = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[JobOut]:
    """List jobs, newest first."""
    jobs, following = service.page(session, state=state, after=after, limit=limit)
    ahead = waiting.describe_all(session, jobs)
    items = [JobOut.model_validate(job) for job in jobs]
    for item in items:
        item.waiting = ahead.get(item.id)
    return Page[JobOut].of(items, following)


@router.get("/{job_id}", summary="One job")
def show_job(session: SessionDep, user: UserDep, job_id: int) -> JobOut:
    """Return a job; poll it for progress."""
    job = service.get(session, user, job_id)
    shown = JobOut.model_validate(job)
    shown.waiting = waiting.describe_all(session, [job]).get(job.id)
    return shown


@router.get("/{job_id}/log", summary="Read a job's log")
def read_log(
    session: SessionDep, user: UserDep, job_id: int, after: After = None, limit: Limit = 200
) -> Page[LogLineOut]:
    """List log lines, oldest first."""
    lines, following = service.log_page(
        session, service.get(session, user, job_id), after=after, limit=limit
    )
    return Page[LogLineOut].of(lines, following)


@router.post("/{job_id}/cancel", summary="Stop a job")
def cancel_job(session: SessionDep, user: MaySteer, job_id: int) -> JobOut:
    """Stop a queued job at once, a running job at its next step."""
    return JobOut.model_validate(service.cancel(session, user, job_id))


@router.post("/{job_id}/retry", summary="Queue a job again")
def retry_job(session: SessionDep, user: MaySteer, job_id: int) -> JobOut:
    """Queue a failed or cancelled job again."""
    return JobOut.model_validate(service.retry(session, user, job_id))
