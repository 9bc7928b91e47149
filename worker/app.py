"""The worker process: `python -m worker.app`. It does one job at a time; start several for more."""

import logging
import os
from typing import Any

from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from backend.core.queue import QUEUE, celery_app, configure
from worker import jobs
from worker.tasks import environment

logger = logging.getLogger(__name__)

# Waiting threads sleep: on a busy machine, spinning made a training six times as slow (26 s against
# 4.3 s); alone it gains nothing. torch reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Solo: nothing is forked after torch has started threads. Workers do not talk to each other.
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
    # Someone waits for Ctrl-C, and on a busy machine Python takes torch apart for seconds.
    database.close()
    logging.shutdown()
    os._exit(0)


def _stop_running_job(**_: Any) -> None:
    jobs.stopping.set()


if __name__ == "__main__":
    main()
