"""One task a job kind: claim and perform. What a worker needs is made once a process."""

from functools import cache

from backend.core.db import Database
from backend.core.queue import TASKS, celery_app
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker.jobs import perform


@cache
def environment() -> tuple[Database, Storage, Settings]:
    """This process's database, storage and settings."""
    settings = Settings()
    return Database(settings.database), Storage(settings.files), settings


@celery_app.task(name=TASKS["import"])
def import_data_set(job_id: int) -> None:
    """Read, check and store the images of a new data set."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["train"])
def train(job_id: int) -> None:
    """Train a run, or go on with it."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["score"])
def score(job_id: int) -> None:
    """Score a run's training images and fill a review."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["member"])
def score_member(job_id: int) -> None:
    """Score one run of an average."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["explain"])
def explain(job_id: int) -> None:
    """Explain images of a review."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["map"])
def arrange_map(job_id: int) -> None:
    """Arrange a review's map so that neighbours stay together."""
    perform(job_id, *environment())


@celery_app.task(name=TASKS["cleanse"])
def cleanse(job_id: int) -> None:
    """Retrain without the removed images and write the verdict."""
    perform(job_id, *environment())
