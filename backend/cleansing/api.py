"""Cleansing as JSON."""

from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayClean, UserDep
from backend.cleansing import changed, schemas, service
from backend.core.models import Cleansing, Job
from backend.datasets import service as datasets
from backend.jobs.schemas import JobOut
from backend.review import service as reviews
from backend.web.pagination import LongLimit, Page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(tags=["cleansing"])
After = Annotated[int, Query(ge=0, description="Cursor: `next` of the page before.")]
Kind = Annotated[
    changed.Became | None,
    Query(description="Only images that became right, became wrong, or stayed wrong."),
]


@router.get("/reviews/{review_id}/dry-run", summary="Dry run")
def dry_run(
    review_id: int,
    session: SessionDep,
    user: UserDep,
    floor: Annotated[int | None, Query(ge=0)] = None,
) -> schemas.DryRunOut:
    """Count the decisions' effect on each class, and change nothing."""
    review = reviews.get(session, user, review_id)
    return schemas.DryRunOut.model_validate(service.dry_run(session, user, review, floor))


@router.post("/reviews/{review_id}/cleansings", status_code=202, summary="Clean and retrain")
def start(
    review_id: int, session: SessionDep, user: MayClean, body: schemas.CleansingIn | None = None
) -> schemas.CleansingOut:
    """Make a new version from the decisions, and measure it or accept it unmeasured.

    422 where the dry run refuses.
    """
    asked = body or schemas.CleansingIn()
    review = reviews.get(session, user, review_id)
    made = service.start(
        session, user, review, asked.floor, asked.fresh_seeds, measure=asked.measure
    )
    return _out(session, made)


@router.get("/cleansings/{cleansing_id}", summary="One cleansing and its verdict")
def show(cleansing_id: int, session: SessionDep, user: UserDep) -> schemas.CleansingOut:
    """Return a cleansing and, once measured, its verdict."""
    return _out(session, service.get(session, user, cleansing_id))


@router.get("/cleansings/{cleansing_id}/changed", summary="Changed test images")
def list_changed(
    cleansing_id: int,
    session: SessionDep,
    user: UserDep,
    became: Kind = None,
    after: After = 0,
    limit: LongLimit = 100,
) -> Page[schemas.ChangedOut]:
    """List test images that the repeated training predicts differently. 409 before the verdict."""
    cleansing = service.get(session, user, cleansing_id)
    data_set = datasets.get(session, user, cleansing.data_set_id)
    found, following = changed.page(
        session,
        data_set,
        service.get_verdict(session, cleansing),
        kind=became,
        after=after,
        limit=limit,
    )
    return Page[schemas.ChangedOut].of(found, following)


@router.post("/cleansings/{cleansing_id}/accept", summary="Accept the cleaned version")
def accept(
    cleansing_id: int, session: SessionDep, user: MayClean, body: schemas.AcceptIn | None = None
) -> schemas.CleansingOut:
    """Make the cleaned version the data set's current version. Repeating it changes nothing.

    409 without a verdict, unless the body says `without_verdict`.
    """
    cleansing = service.get(session, user, cleansing_id)
    without = (body or schemas.AcceptIn()).without_verdict
    return _out(session, service.accept(session, user, cleansing, without_verdict=without))


@router.post("/cleansings/{cleansing_id}/measure", status_code=202, summary="Measure a version")
def measure(
    cleansing_id: int, session: SessionDep, user: MayClean, body: schemas.MeasureIn | None = None
) -> schemas.CleansingOut:
    """Measure a version that has no verdict, also once accepted. Repeating it changes nothing."""
    cleansing = service.get(session, user, cleansing_id)
    asked = (body or schemas.MeasureIn()).fresh_seeds
    return _out(session, service.measure(session, user, cleansing, asked))


@router.post("/cleansings/{cleansing_id}/roll-back", summary="Roll back")
def roll_back(cleansing_id: int, session: SessionDep, user: MayClean) -> schemas.CleansingOut:
    """Decline the cleaned version, even once accepted. Repeating it changes nothing."""
    return _out(session, service.roll_back(session, user, service.get(session, user, cleansing_id)))


def _out(session: Session, cleansing: Cleansing) -> schemas.CleansingOut:
    job = session.get(Job, cleansing.job_id) if cleansing.job_id else None
    return schemas.CleansingOut(
        id=cleansing.id,
        data_set_id=cleansing.data_set_id,
        review_id=cleansing.review_id,
        run_id=cleansing.run_id,
        parent_version_id=cleansing.parent_version_id,
        version_id=cleansing.version_id,
        state=service.get_state(cleansing, job),
        fresh_seeds=cleansing.fresh_seeds,
        verdict=cleansing.typed_verdict,
        trainings=[
            schemas.TrainingOut.model_validate(run)
            for run in service.list_trainings(session, cleansing)
        ],
        created_at=cleansing.created_at,
        job=JobOut.model_validate(job) if job else None,
    )
