"""The Celery app (broker only, no result store), the task names, and the outbox."""

import logging

from celery import Celery
from kombu import pools
from kombu.exceptions import OperationalError
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from backend.core.models import Job, JobLogLine, release_jobs

logger = logging.getLogger(__name__)

# Job kind → task name. A test compares these with the tasks that the worker registers.
TASKS = {
    "import": "winnow.import",
    "train": "winnow.train",
    "score": "winnow.score",
    "explain": "winnow.explain",
    "map": "winnow.map",
    "member": "winnow.member",
    "cleanse": "winnow.cleanse",
}
QUEUE = "winnow"

celery_app = Celery("winnow")


def configure(broker: str) -> None:
    """Point the Celery app at a broker. Called once by the web, the worker and the command line."""
    # A process that moves to another broker, as tests do, must not go on with the connections to the old one.
    pools.reset()  # type: ignore[no-untyped-call]  # kombu types only some of its functions
    celery_app._after_fork()
    celery_app.conf.update(
        broker_url=broker,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        # A person waits for the request that sends: one try, at once. Whatever is not sent now the sweep sends later.
        broker_transport_options={
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )


def add(session: Session, job: Job) -> Job:
    """Add a new job; its message leaves after the commit."""
    session.add(job)
    session.flush()
    enqueue(session, job.kind, job.id)
    return job


def enqueue(session: Session, kind: str, job_id: int) -> None:
    """Ask for the job's message to be sent once this session's transaction is committed."""
    session.info.setdefault("outbox", []).append((TASKS[kind], job_id))


def send_outbox(session: Session) -> None:
    """Send what `enqueue` collected. A broker that is away is no error: the sweep sends again (the job row is the truth)."""
    for task, job_id in session.info.pop("outbox", []):
        send(task, job_id)


def send(task: str, job_id: int) -> None:
    """Send one message, now."""
    try:
        celery_app.send_task(task, args=[job_id], queue=QUEUE, retry=False)
    except (OperationalError, OSError) as error:
        logger.warning(
            "The broker is away; job %s stays queued and is sent again later (%s)", job_id, error
        )


def requeue(session: Session, *where: ColumnElement[bool]) -> list[int]:
    """Take the matching running jobs from their dead worker; those queued again are sent again. Returns the ids of all."""
    rows = session.execute(release_jobs(*where)).all()
    for job_id, kind, state in rows:
        queued = state == "queued"
        message = (
            "The worker died while it did this; queued again."
            if queued
            else "The worker died; cancelled, as asked before."
        )
        session.add(JobLogLine(job_id=job_id, message=message))
        if queued:
            enqueue(session, kind, job_id)
    return [job_id for job_id, _, _ in rows]


def waiting_messages() -> int:
    """How many messages wait in the broker. Raises OperationalError while the broker is away."""
    with celery_app.connection_for_write() as connection:
        return int(connection.default_channel.queue_declare(QUEUE).message_count)
