"""The worker process: `python -m worker.app`, one job at a time."""

import logging
import os
from typing import Any

from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from backend.core.queue import QUEUE, celery_app, configure
from worker import jobs
from worker.tasks import environment

logger = logging.getLogger(__name__)

# Spinning threads slow training sixfold on a busy machine. torch reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Solo: nothing forks after torch has started threads.
ARGUMENTS = [
    "--pool=solo",
    f"--queues={QUEUE}",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
    "--loglevel=INFO",
]


def main() -> None:
    """Run until SIGTERM or SIGINT; a running job then returns to the queue."""
    database, _, settings = environment()
    configure(settings.broker)
    celery_app.conf.update(worker_enable_remote_control=False, broker_connection_max_retries=None)
    signals.worker_shutting_down.connect(_stop_running_job)
    try:
        for job_id in jobs.release_dead(database):
            logger.warning("Job %s was left by a worker that died; queued again", job_id)
    except SQLAlchemyError:
        logger.exception("The jobs of dead workers could not be released now; the sweep will do it")
    celery_app.worker_main(["--quiet", "worker", *ARGUMENTS])
    # Taking torch apart takes seconds, and Ctrl-C must not wait.
    database.close()
    logging.shutdown()
    os._exit(0)


def _stop_running_job(**_: Any) -> None:
    jobs.stopping.set()


if __name__ == "__main__":
    main()
