"""The Celery task that performs any job."""

from functools import cache

from backend.core.db import Database
from backend.core.queue import PERFORM, celery_app
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import jobs


@cache
def environment() -> tuple[Database, Storage, Settings]:
    settings = Settings()
    return Database(settings.database), Storage(settings.files), settings


@celery_app.task(name=PERFORM)
def perform(job_id: int) -> None:
    jobs.perform(job_id, *environment())
