"""The worker process: `python -m worker.app`, one job at a time."""

import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any

from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from backend.core import liveness
from backend.core.queue import QUEUES, celery_app, configure
from worker import jobs, logs
from worker.outages import first_line
from worker.tasks import environment

logger = logging.getLogger(__name__)

# Spinning threads slow training sixfold on a busy machine. torch reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Solo: nothing forks after torch has started threads.
ARGUMENTS = [
    "--pool=solo",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
    "--loglevel=INFO",
]


def main() -> None:
    """Run until SIGTERM or SIGINT; a running job then returns to the queue."""
    signals.setup_logging.connect(_set_up_logging)
    _set_up_logging()
    database, storage, settings = environment()
    configure(settings.broker)
    celery_app.conf.update(worker_enable_remote_control=False, broker_connection_max_retries=None)
    signals.worker_shutting_down.connect(_stop_running_job)
    _notice_signals()
    jobs.begin_again = _begin_again
    try:
        jobs.give_back_noted(database, storage)
        for job_id in jobs.release_dead(database):
            logger.warning("Job %s was left by a worker that died; queued again", job_id)
    except SQLAlchemyError as error:
        logger.warning(
            "The jobs of dead workers could not be released now; the sweep will do it (%s)",
            first_line(error),
        )
    queues = ",".join(QUEUES[lane] for lane in settings.lanes)
    # Celery warns at each loss of the broker that a later version will stop running tasks.
    warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module="celery")
    with liveness.beating(settings.home, f"{settings.lane} jobs"):
        celery_app.worker_main(["--quiet", "worker", f"--queues={queues}", *ARGUMENTS])
    # Taking torch apart takes seconds, and Ctrl-C must not wait.
    database.close()
    logging.shutdown()
    os._exit(0)


def _set_up_logging(**_: Any) -> None:
    """Set up the worker's log in place of Celery's."""
    logs.set_up()


def _stop_running_job(**_: Any) -> None:
    jobs.stopping.set()


def _notice_signals() -> None:
    """Notice SIGTERM and SIGINT in a thread: Celery's handlers wait for native code to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def notice() -> None:
        while numbers := os.read(reader, 64):
            if not {signal.SIGTERM, signal.SIGINT}.isdisjoint(numbers):
                _stop_running_job()

    threading.Thread(target=notice, name="signals", daemon=True).start()


def _begin_again() -> None:
    """Replace this process by a new worker, whatever its main thread does."""
    logging.shutdown()
    if jobs.stopping.is_set():
        os._exit(0)
    # Ignored signals and pending ones outlive an exec; handlers do not.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - as it was started


if __name__ == "__main__":
    main()
