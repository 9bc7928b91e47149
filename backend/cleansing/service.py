"""Rules of cleansing: make a version, measure it, accept it or not."""

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
from backend.core.reports import ARMS, Verdict
from backend.datasets import service as datasets
from backend.jobs import service as jobs
from backend.review import service as reviews

PROTOCOLS = ("same_seed", "fresh_seeds")
# Seeds are below this.
SEEDS = 2**31
FEWEST_SEEDS, USUAL_SEEDS, MOST_SEEDS = 3, 5, 10


def get(session: Session, user: User, cleansing_id: int) -> Cleansing:
    """Return the cleansing. Raises NotFound, also if its data set is hidden from the user."""
    cleansing = session.get(Cleansing, cleansing_id)
    if cleansing is None:
        raise NotFound("There is no such cleansing.")
    datasets.get(session, user, cleansing.data_set_id)
    return cleansing


def list_of_review(session: Session, review: Review) -> list[Cleansing]:
    """List a review's cleansings, newest first."""
    return list(
        session.scalars(
            select(Cleansing).where(Cleansing.review_id == review.id).order_by(Cleansing.id.desc())
        )
    )


def get_accepted(session: Session, review: Review) -> Cleansing | None:
    """Return a review's accepted cleansing, or None."""
    return next(
        (made for made in list_of_review(session, review) if made.state == "accepted"), None
    )


def map_versions(session: Session, data_set: DataSet) -> dict[int, int]:
    """Map version id → id of its cleansing, the import's version left out."""
    rows = session.execute(
        select(Cleansing.version_id, Cleansing.id).where(Cleansing.data_set_id == data_set.id)
    )
    return {row.version_id: row.id for row in rows}


def count_built_on(session: Session, cleansing: Cleansing) -> tuple[int, int]:
    """Count the cleaned version's trainings and reviews; a rollback keeps them."""
    runs = (
        select(func.count())
        .select_from(Run)
        .where(Run.version_id == cleansing.version_id, Run.cleansing_id.is_(None))
    )
    found = (
        select(func.count()).select_from(Review).where(Review.version_id == cleansing.version_id)
    )
    return session.scalar(runs) or 0, session.scalar(found) or 0


def list_trainings(session: Session, cleansing: Cleansing) -> list[Run]:
    """List a cleansing's trainings in order."""
    return list(
        session.scalars(select(Run).where(Run.cleansing_id == cleansing.id).order_by(Run.id))
    )


def explain_outdated(session: Session, user: User, review: Review) -> str | None:
    """Explain why a review cannot be cleaned now, with the way out; None if it can."""
    return _elsewhere(
        session,
        datasets.get(session, user, review.data_set_id),
        review.version_id,
        "this review began from",
    )


def _elsewhere(session: Session, data_set: DataSet, version_id: int, link: str) -> str | None:
    """Explain why a version is not current, with the way out; None if it is."""
    if data_set.current_version_id in (None, version_id):
        return None
    base, current = (
        session.get_one(Version, version_id),
        session.get_one(Version, data_set.current_version_id),
    )
    if base.state == "accepted":
        return (
            f"Version {current.number} was accepted, and {link} version {base.number}. Roll "
            f"version {current.number} back at its verdict, or train on it and review again."
        )
    what = "was rolled back" if base.state == "rolled_back" else "is not accepted"
    before = (
        ""
        if base.parent_id == current.id
        else f"roll version {current.number} back at its verdict, then "
    )
    again = "again " if base.state == "rolled_back" else ""
    way = f"{before}accept it {again}at its verdict, then continue"
    return f"Version {base.number}, which {link}, {what}. {way[0].upper()}{way[1:]}."


def dry_run(session: Session, user: User, review: Review, floor: int | None = None) -> DryRun:
    """Plan a cleansing and change nothing. floor: see dry_run.plan."""
    if floor is not None and floor < 0:
        raise Invalid("The floor is a number of images: 0 or more.")
    reviews.check_ready(review)
    return dry_runs.plan(session, review, datasets.get(session, user, review.data_set_id), floor)


def expect_seconds(
    session: Session, review: Review, found: DryRun, fresh_seeds: int = USUAL_SEEDS
) -> float | None:
    """Estimate the seconds of all trainings from the run's own; None if unknown.

    The run itself is not repeated; if no image leaves, the random arm is omitted.
    """
    seconds = session.get_one(Run, review.run_id).typed_report.seconds
    arms = len(ARMS) if found.removed else len(ARMS) - 1
    return None if seconds is None else seconds * (arms * (1 + fresh_seeds) - 1)


def start(
    session: Session,
    user: User,
    review: Review,
    floor: int | None = None,
    fresh_seeds: int = USUAL_SEEDS,
    *,
    measure: bool = True,
) -> Cleansing:
    """Make the new version, and queue its measurement or accept it unmeasured.

    Raises Invalid or Conflict.
    """
    _check_seeds(fresh_seeds)
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
        fresh_seeds=_draw_seeds(run, fresh_seeds),
        created_by=user.id,
    )
    session.add(cleansing)
    session.flush()
    if not measure:
        return accept(session, user, cleansing, without_verdict=True)
    name = datasets.get(session, user, review.data_set_id).name[:200]
    title = f"Clean {name} and retrain: {found.removed} removed, {found.relabelled} relabelled"
    _queue_measurement(session, user, cleansing, title)
    return cleansing


def measure(
    session: Session, user: User, cleansing: Cleansing, fresh_seeds: int | None = None
) -> Cleansing:
    """Measure a version that has no verdict, also once accepted. Idempotent.

    fresh_seeds: for a version that was never measured; None for the number it was made with.
    """
    data_set = _lock(session, user, cleansing.data_set_id)
    session.refresh(cleansing, with_for_update=True)
    if cleansing.verdict or is_active(session, cleansing):
        return cleansing
    if cleansing.job_id is not None and session.get(Job, cleansing.job_id) is not None:
        jobs.retry(session, user, cleansing.job_id)
        return cleansing
    if fresh_seeds is not None and not list_trainings(session, cleansing):
        _check_seeds(fresh_seeds)
        cleansing.fresh_seeds = _draw_seeds(session.get_one(Run, cleansing.run_id), fresh_seeds)
    number = session.get_one(Version, cleansing.version_id).number
    title = f"Measure version {number} of {data_set.name[:200]}"
    _queue_measurement(session, user, cleansing, title)
    return cleansing


def accept(
    session: Session, user: User, cleansing: Cleansing, *, without_verdict: bool = False
) -> Cleansing:
    """Make the cleaned version current, even after a rollback. Idempotent.

    without_verdict: also where nothing is measured yet; a measurement continues.
    """
    data_set = _lock(session, user, cleansing.data_set_id)
    session.refresh(cleansing, with_for_update=True)
    if cleansing.state == "accepted":
        return cleansing
    if not without_verdict:
        get_verdict(session, cleansing)
    if reason := _elsewhere(
        session, data_set, cleansing.parent_version_id, "this one was made from"
    ):
        raise Conflict(reason)
    data_set.current_version_id = cleansing.version_id
    return _settle(session, cleansing, "accepted")


def roll_back(session: Session, user: User, cleansing: Cleansing) -> Cleansing:
    """Return to the version before, even after acceptance. Idempotent."""
    data_set = _lock(session, user, cleansing.data_set_id)
    session.refresh(cleansing, with_for_update=True)
    if cleansing.state == "rolled_back":
        return cleansing
    if cleansing.state == "queued" and is_active(session, cleansing):
        raise Conflict(_NOT_YET)
    if cleansing.state == "accepted":
        if data_set.current_version_id != cleansing.version_id:
            raise Conflict("A later version builds on this one. Roll that one back first.")
        data_set.current_version_id = cleansing.parent_version_id
    return _settle(session, cleansing, "rolled_back")


def get_state(cleansing: Cleansing, job: Job | None) -> str:
    """Return the state; until measured or settled, the job's."""
    if cleansing.state != "queued":
        return cleansing.state
    return job.state if job is not None else "cancelled"


def get_verdict(session: Session, cleansing: Cleansing) -> Verdict:
    """Return the verdict. Raises Conflict if missing."""
    verdict = cleansing.typed_verdict
    if verdict is None:
        raise Conflict(_NOT_YET if is_active(session, cleansing) else _NEVER)
    return verdict


def is_active(session: Session, cleansing: Cleansing) -> bool:
    """Tell if the measurement waits or runs."""
    job = session.get(Job, cleansing.job_id) if cleansing.job_id else None
    return job is not None and job.state in ACTIVE


_NEVER = (
    "This version was never measured, so there is no verdict to go by. Measure it, or accept it "
    "without a verdict."
)
_NOT_YET = (
    "The retraining is not finished, so there is no verdict to go by. Wait for it, cancel its "
    "job, or accept the version without a verdict."
)


def _settle(session: Session, cleansing: Cleansing, state: str) -> Cleansing:
    cleansing.state = state
    session.get_one(Version, cleansing.version_id).state = state
    session.flush()
    return cleansing


def _lock(session: Session, user: User, data_set_id: int) -> DataSet:
    """Lock the data set until commit, against simultaneous requests."""
    data_set = datasets.get(session, user, data_set_id)
    session.refresh(data_set, with_for_update=True)
    return data_set


def _check_free(session: Session, user: User, review: Review) -> None:
    _lock(session, user, review.data_set_id)
    if reason := explain_outdated(session, user, review):
        raise Conflict(reason)
    if get_running(session, review):
        raise Conflict(
            "This review is being measured already. Wait for its verdict, or cancel its job."
        )


def get_running(session: Session, review: Review) -> Cleansing | None:
    """Return the review's cleansing with a waiting or running job, or None."""
    query = select(Cleansing).join(Job, Job.id == Cleansing.job_id)
    return session.scalars(
        query.where(Cleansing.review_id == review.id, Job.state.in_(ACTIVE)).limit(1)
    ).first()


def _new_version(session: Session, user: User, review: Review, found: DryRun) -> Version:
    """Make the proposed version: its parent's changes plus the decisions."""
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
        note=(
            f"{found.removed} removed and {found.relabelled} relabelled after a review of version "
            f"{parent.number}"
        ),
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
    """Map image id → label, None for removed, for all changes since the import."""
    rows = session.execute(
        select(VersionChange.image_id, VersionChange.label).where(
            VersionChange.version_id == parent.id
        )
    ).all()
    changes: dict[int, int | None] = {row.image_id: row.label for row in rows}
    changes.update({change.image_id: change.new_label for change in decided})
    # An image relabelled back to its imported label is no change.
    before = {row.image_id for row in rows}
    for change in decided:
        if change.image_id in before and change.new_label is not None:
            imported = session.scalar(select(Image.label).where(Image.id == change.image_id))
            if imported == change.new_label:
                del changes[change.image_id]
    return changes


def _check_seeds(fresh_seeds: int) -> None:
    if not FEWEST_SEEDS <= fresh_seeds <= MOST_SEEDS:
        raise Invalid(f"Choose between {FEWEST_SEEDS} and {MOST_SEEDS} fresh starts.")


def _draw_seeds(run: Run, count: int) -> list[int]:
    """Count seeds on from the run's own: always different from it, always the same."""
    return [(run.seed + number) % SEEDS for number in range(1, count + 1)]


def _queue_measurement(session: Session, user: User, cleansing: Cleansing, title: str) -> None:
    job = jobs.create(
        session,
        user,
        kind="cleanse",
        title=title,
        subject_id=cleansing.id,
        data_set_id=cleansing.data_set_id,
    )
    cleansing.job_id = job.id
    trainings = list_trainings(session, cleansing)
    for training in trainings:
        training.job_id = job.id
    if not trainings:
        _add_trainings(session, cleansing, session.get_one(Run, cleansing.run_id), job)
    session.flush()


def _add_trainings(session: Session, cleansing: Cleansing, run: Run, job: Job) -> None:
    """Add a row per protocol, seed and arm; the worker fills in results."""
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
