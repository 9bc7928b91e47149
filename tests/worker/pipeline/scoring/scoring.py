"""Shared by scoring tests: performing a job here, queueing a scoring, reading its queue."""

from typing import Any

from sqlalchemy import select

from backend.core.models import Job, Review, Run, Suggestion
from backend.runs import service
from backend.runs.schemas import ScoringOptions
from tests.cleansing_scenario import Scenario
from worker.jobs import perform


def work(scenario: Scenario, job_id: int | None) -> None:
    """Do a job; it must succeed."""
    assert job_id is not None
    perform(job_id, scenario.database, scenario.storage, scenario.settings)
    with scenario.database.transaction(write=False) as session:
        job = session.get_one(Job, job_id)
        assert job.state == "done", job.error


def start(scenario: Scenario, **options: Any) -> Review:
    """Queue a scoring of the scenario's run."""
    with scenario.database.transaction() as session:
        run = session.get_one(Run, scenario.run_id)
        return service.start_scoring(session, scenario.owner, run, ScoringOptions(**options))


def queue_of(scenario: Scenario, review: Review) -> list[Suggestion]:
    """The review's suggestions by position."""
    with scenario.database.transaction(write=False) as session:
        return list(
            session.scalars(
                select(Suggestion)
                .where(Suggestion.review_id == review.id)
                .order_by(Suggestion.position)
            )
        )
