"""The worker's log: a line with its time for each event of a job or an outage."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(message)s"
# They report tasks, of which every one ends well; jobs.py reports jobs.
QUIET = ("celery.app.trace", "celery.worker.strategy", "celery.redirected")


def set_up() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(without_outage_trace)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def without_outage_trace(record: logging.LogRecord) -> bool:
    """Drop the traceback where the broker is lost: the first line says it all."""
    if record.name.startswith(("celery.worker.consumer", "kombu")) and record.exc_info:
        error = record.exc_info[1]
        record.msg, record.args = f"{record.getMessage().strip()} ({error})", ()
        record.exc_info = record.exc_text = None
    record.msg = record.getMessage().strip()
    record.args = ()
    return True
