"""The rules of cleansing: decisions become a new version, which is measured, then accepted or rolled back."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.cleansing import dry_run as dry_runs
from backend.cleansing.dry_run import Change, DryRun
from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.job_lifecycle import ACTIVE
from backend.core.models import (
    Cleansing,
    DataSet,
    Image,
    Job,
    Review,
    Run,
    User,
    Version,
    VersionChange,
)
from backend.datasets import service as datasets
from backend.jobs import service as jobs
from backend.review import service as reviews

PROTOCOLS = ("same_seed", "fresh_seeds")
ARMS = ("before", "cleaned", "random")
# Seeds are numbers from 0 to one less.
SEEDS = 2**31
FEWEST_SEEDS, USUAL_SEEDS, MOST_SEEDS = 3, 5, 10


def get(session: Session, user: User, cleansing_id: int) -> Cleansing:
    """The cleansing, or NotFound; also where its data set is not for this person."""
    cleansing = session.get(Cleansing, cleansing_id)
    if cleansing is None:
        raise NotFound("There is no such cleansing.")
    datasets.get(session, user, cleansing.data_set_id)
    return cleansing


def of_review(session: Session, review: Review) -> list[Cleansing]:
    """The cleansings made from a review, newest first."""
    return list(
        session.scalars(
            select(Cleansing).where(Cleansing.review_id == review.id).order_by(Cleansing.id.desc())
        )
    )


def accepted_of(session: Session, review: Review) -> Cleansing | None:
    """The accepted cleansing that a review led to, if there is one."""
    return next((one for one in of_review(session, review) if one.state == "accepted"), None)


def verdicts(session: Session, data_set: DataSet) -> dict[int, int]:
    """Version id → the cleansing that made it; the first version has none."""
    rows = session.execute(
        select(Cleansing.version_id, Cleansing.id).where(Cleansing.data_set_id == data_set.id)
    )
    return {row.version_id: row.id for row in rows}


def built_on(session: Session, cleansing: Cleansing) -> tuple[int, int]:
    """How many trainings and reviews begin from the cleaned version. They stay when it is rolled back."""
    runs = (
        select(func.count())
        .select_from(Run)
        .where(Run.version_id == cleansing.version_id, Run.cleansing_id.is_(None))
    )
    found = (
        select(func.count()).select_from(Review).where(Review.version_id == cleansing.version_id)
    )
    return session.scalar(runs) or 0, session.scalar(found) or 0


def trainings(session: Session, cleansing: Cleansing) -> list[Run]:
    """The cleansing's trainings, in the order in which they are made."""
    return list(
        session.scalars(select(Run).where(Run.cleansing_id == cleansing.id).order_by(Run.id))
    )


def outdated(session: Session, user: User, review: Review) -> str | None:
    """Why this review cannot be turned into a version now, and the way out; None where it can."""
    return _elsewhere(
        session,
        datasets.get(session, user, review.data_set_id),
        review.version_id,
        "this review began from",
    )


def _elsewhere(session: Session, data_set: DataSet, version_id: int, link: str) -> str | None:
    """What keeps work on a version from going on: it is not the current one, for one of three reasons. None where it is."""
    if data_set.current_version_id in (None, version_id):
        return None
    base, current = (
        session.get_one(Version, version_id),
        session.get_one(Version, data_set.current_version_id),
    )
    if base.state == "accepted":
        return (
            f"Version {current.number} was accepted, and {link} version {base.number}. Roll version {current.number} back at its verdict, "
            "or train on it and review again."
        )
    what = "was rolled back" if base.state == "rolled_back" else "is not accepted"
    before = (
        ""
        if base.parent_id == current.id
        else f"roll version {current.number} back at its verdict, then "
    )
    way = f"{before}accept it {'again ' if base.state == 'rolled_back' else ''}at its verdict, then go on"
    return f"Version {base.number}, which {link}, {what}. {way[0].upper()}{way[1:]}."


def dry_run(session: Session, user: User, review: Review, floor: int | None = None) -> DryRun:
    """What the review's decisions would do, class by class; nothing is changed. floor: see backend.cleansing.dry_run.plan."""
    if floor is not None and floor < 0:
        raise Invalid("The floor is a number of images: 0 or more.")
    reviews.check_ready(review)
    return dry_runs.plan(session, review, datasets.get(session, user, review.data_set_id), floor)


def expected_seconds(
    session: Session, review: Review, found: DryRun, fresh_seeds: int = USUAL_SEEDS
) -> float | None:
    """How long the trainings will take at the pace of the review's run, whose own results are not made again. None where that is not known.

    Where nothing leaves there is nothing to draw, and no training for random removal.
    """
    seconds = session.get_one(Run, review.run_id).report.get("seconds")
    arms = len(ARMS) if found.removed else len(ARMS) - 1
    return None if seconds is None else seconds * (arms * (1 + fresh_seeds) - 1)


def start(
    session: Session,
    user: User,
    review: Review,
    floor: int | None = None,
    fresh_seeds: int = USUAL_SEEDS,
) -> Cleansing:
    """Make the proposed version and queue its measurement. Raises Invalid with the dry run's refusal, Conflict where the time is wrong."""
    if not FEWEST_SEEDS <= fresh_seeds <= MOST_SEEDS:
        raise Invalid(f"Choose between {FEWEST_SEEDS} and {MOST_SEEDS} fresh starts.")
    _check_free(session, user, review)
    found = dry_run(session, user, review, floor)
    if found.refusal:
        raise Invalid(found.refusal)
    run = session.get_one(Run, review.run_id)
    version = _new_version(session, user, review, found)
    cleansing = Cleansing(
        data_set_id=review.data_set_id,
        review_id=review.id,
        run_id=run.id,
        parent_version_id=review.version_id,
        version_id=version.id,
        # Counted on from the run's own seed: never that one, and the same run always gets the same ones. Behind the largest comes 0.
        fresh_seeds=[(run.seed + number) % SEEDS for number in range(1, fresh_seeds + 1)],
        created_by=user.id,
    )
    session.add(cleansing)
    session.flush()
    name = datasets.get(session, user, review.data_set_id).name[:200]
    title = f"Clean {name} and retrain: {found.removed} removed, {found.relabelled} relabelled"
    job = jobs.create(
        session,
        user,
        kind="cleanse",
        title=title,
        subject_id=cleansing.id,
        data_set_id=review.data_set_id,
    )
    cleansing.job_id = job.id
    _add_trainings(session, cleansing, run, job)
    return cleansing


def accept(session: Session, user: User, cleansing: Cleansing) -> Cleansing:
    """Make the cleaned version the data set's current one, also after it was rolled back. Doing it twice is doing it once."""
    data_set = _lock(session, user, cleansing.data_set_id)
    session.refresh(cleansing)
    if cleansing.state == "accepted":
        return cleansing
    verdict(session, cleansing)
    if reason := _elsewhere(
        session, data_set, cleansing.parent_version_id, "this one was made from"
    ):
        raise Conflict(reason)
    data_set.current_version_id = cleansing.version_id
    return _settle(session, cleansing, "accepted")


def roll_back(session: Session, user: User, cleansing: Cleansing) -> Cleansing:
    """Decline the cleaned version, also after it was accepted: the data set goes back to the version before it. Idempotent."""
    data_set = _lock(session, user, cleansing.data_set_id)
    session.refresh(cleansing)
    if cleansing.state == "rolled_back":
        return cleansing
    if cleansing.state == "queued" and active(session, cleansing):
        raise Conflict(_NOT_YET)
    if cleansing.state == "accepted":
        if data_set.current_version_id != cleansing.version_id:
            raise Conflict("A later version builds on this one. Roll that one back first.")
        data_set.current_version_id = cleansing.parent_version_id
    return _settle(session, cleansing, "rolled_back")


def state(cleansing: Cleansing, job: Job | None) -> str:
    """Where it stands: while nothing is measured and nothing settled, where its job stands; the row knows only that it waits."""
    if cleansing.state != "queued":
        return cleansing.state
    return job.state if job is not None else "cancelled"


def verdict(session: Session, cleansing: Cleansing) -> dict[str, Any]:
    """The verdict. Raises Conflict while there is none."""
    if not cleansing.verdict:
        raise Conflict(_NOT_YET if active(session, cleansing) else _NEVER)
    return cleansing.verdict


def active(session: Session, cleansing: Cleansing) -> bool:
    """Whether its measurement waits or runs."""
    job = session.get(Job, cleansing.job_id) if cleansing.job_id else None
    return job is not None and job.state in ACTIVE


_NEVER = "This version was never measured, so there is no verdict to go by. Let its job go on, or clean the data set again."
_NOT_YET = "The retraining is not finished, so there is no verdict to go by. Wait for it, or cancel its job."


def _settle(session: Session, cleansing: Cleansing, state: str) -> Cleansing:
    cleansing.state = state
    session.get_one(Version, cleansing.version_id).state = state
    session.flush()
    return cleansing


def _lock(session: Session, user: User, data_set_id: int) -> DataSet:
    """The data set, held until the commit: two people may press two buttons at once."""
    data_set = datasets.get(session, user, data_set_id)
    session.refresh(data_set, with_for_update=True)
    return data_set


def _check_free(session: Session, user: User, review: Review) -> None:
    _lock(session, user, review.data_set_id)
    if reason := outdated(session, user, review):
        raise Conflict(reason)
    if running(session, review):
        raise Conflict(
            "This review is being measured already. Wait for its verdict, or cancel its job."
        )


def running(session: Session, review: Review) -> Cleansing | None:
    """The review's cleansing whose job waits or runs, if there is one."""
    query = select(Cleansing).join(Job, Job.id == Cleansing.job_id)
    return session.scalars(
        query.where(Cleansing.review_id == review.id, Job.state.in_(ACTIVE)).limit(1)
    ).first()


def _new_version(session: Session, user: User, review: Review, found: DryRun) -> Version:
    """The proposed version: all of its parent's changes and the decided ones. Never changed afterwards."""
    number = (
        session.scalar(
            select(func.max(Version.number)).where(Version.data_set_id == review.data_set_id)
        )
        or 0
    )
    parent = session.get_one(Version, review.version_id)
    changes = _all_changes(session, parent, found.changes)
    removed = sum(label is None for label in changes.values())
    version = Version(
        data_set_id=review.data_set_id,
        parent_id=parent.id,
        number=number + 1,
        state="proposed",
        note=f"{found.removed} removed and {found.relabelled} relabelled after a review of version {parent.number}",
        removed_count=removed,
        relabelled_count=len(changes) - removed,
        created_by=user.id,
    )
    session.add(version)
    session.flush()
    session.add_all(
        VersionChange(version_id=version.id, image_id=image_id, label=label)
        for image_id, label in changes.items()
    )
    session.flush()
    return version


def _all_changes(session: Session, parent: Version, decided: list[Change]) -> dict[int, int | None]:
    """Image id → label, or None for removed: what the new version holds otherwise than the import did."""
    rows = session.execute(
        select(VersionChange.image_id, VersionChange.label).where(
            VersionChange.version_id == parent.id
        )
    ).all()
    changes: dict[int, int | None] = {row.image_id: row.label for row in rows}
    changes.update({change.image_id: change.new_label for change in decided})
    # A label that goes back to the imported one is no change any more; only an image that the parent had relabelled can do that.
    before = {row.image_id for row in rows}
    for change in decided:
        if change.image_id in before and change.new_label is not None:
            imported = session.scalar(select(Image.label).where(Image.id == change.image_id))
            if imported == change.new_label:
                del changes[change.image_id]
    return changes


def _add_trainings(session: Session, cleansing: Cleansing, run: Run, job: Job) -> None:
    """A row for each protocol, seed and arm; the worker fills in what they measured."""
    seeds = {"same_seed": [run.seed], "fresh_seeds": cleansing.fresh_seeds}
    for protocol in PROTOCOLS:
        for seed in seeds[protocol]:
            session.add_all(
                Run(
                    data_set_id=cleansing.data_set_id,
                    version_id=cleansing.version_id
                    if arm == "cleaned"
                    else cleansing.parent_version_id,
                    job_id=job.id,
                    recipe={**run.recipe, "seed": seed},
                    seed=seed,
                    cleansing_id=cleansing.id,
                    protocol=protocol,
                    arm=arm,
                    created_by=cleansing.created_by,
                )
                for arm in ARMS
            )
            session.flush()
