"""Messages to workers, and the outbox.

The job's row is the truth: the sweep replaces lost messages.
"""

import logging
from collections.abc import Iterable

from celery import Celery
from kombu import pools
from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from backend.core.job_kinds import Lane

logger = logging.getLogger(__name__)

PERFORM = "winnow.perform"
QUEUE = "winnow"
# In the order in which a worker empties them.
QUEUES: dict[Lane, str] = {"quick": "winnow-quick", "long": QUEUE}

celery_app = Celery("winnow")


def configure(broker: str) -> None:
    """Point this process's Celery app at a broker."""
    # Connections to an earlier broker must go.
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
        # A user waits: try once.
        broker_transport_options={
            "queue_order_strategy": "priority",
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )


def enqueue(session: Session, job_id: int, lane: Lane = "long") -> None:
    """Send the job's message after the session's commit."""
    session.info.setdefault("outbox", []).append((job_id, lane))


def send_outbox(session: Session) -> None:
    for job_id, lane in session.info.pop("outbox", []):
        send(job_id, lane)


def send(job_id: int, lane: Lane = "long") -> None:
    """Send a message now; an absent broker is no error."""
    try:
        celery_app.send_task(PERFORM, args=[job_id], queue=QUEUES[lane], retry=False)
    except (OperationalError, OSError) as error:
        logger.warning(
            "The broker is away; job %s stays queued and is sent again later (%s)", job_id, error
        )


def count_messages(lanes: Iterable[Lane] = QUEUES) -> int:
    """Count the broker's messages. Raises OperationalError while the broker is away."""
    with celery_app.connection_for_write() as connection:
        declare = connection.default_channel.queue_declare
        return sum(int(declare(QUEUES[lane]).message_count) for lane in lanes)
