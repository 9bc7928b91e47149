"""Everything in every state, under odd names, for the tests of every page."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.job_lifecycle import STATES
from backend.core.models import (
    Cleansing,
    DataSet,
    Decision,
    Explanation,
    Image,
    Job,
    JobLogLine,
    Refusal,
    Review,
    Run,
    RunEpoch,
    Scoring,
    Suggestion,
    User,
    Version,
    VersionChange,
    now,
)
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.reviewing import a_map

SCRIPT = '<script>alert("x")</script>'
HOSTILE = (
    SCRIPT,
    '"><img src=x onerror="alert(1)">',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} {% raw %}",
    "=1+1",
    "🦊 👨‍👩‍👧 \u202eright to left",
    "x" * 300,
    "items",  # a dictionary has it too
)

NUMBERS = {
    "before": 0.8,
    "cleaned": 0.9,
    "random": 0.8,
    "difference": 0.1,
    "ci95": [0.05, 0.15],
    "random_difference": 0.0,
    "random_ci95": [-0.1, 0.1],
}
JUDGEMENTS = {
    "improved": "better",
    "no_measurable_change": "no_measurable_change",
    "worse": "worse",
}


@dataclass
class World:
    """Return the numbers of all that is shown, by placeholder in an address."""

    ids: dict[str, list[int]] = field(default_factory=dict)
    images: list[tuple[int, str]] = field(default_factory=list)  # data set, content hash

    def add(self, name: str, number: int) -> None:
        self.ids.setdefault(name, []).append(number)


def a_world(session: Session, storage: Storage, owner: User, reviewer: User) -> World:
    """Everything; needs a database without other rows than the two people."""
    world = World()
    data_set = a_data_set(
        session,
        storage,
        name=SCRIPT[:200],
        class_names=HOSTILE,
        per_class=12,
        side=28,
        channels=3,
        planted=4,
    )
    data_set.report = {
        "split_words": SCRIPT,
        "conflicting_duplicates": 2,
        "notes": [SCRIPT],
        "duplicates_across_splits": 1,
    }
    data_set.refused_count, data_set.duplicate_count = 30, 3
    session.add_all(
        Refusal(data_set_id=data_set.id, path=f"{number} {SCRIPT}", reason=SCRIPT)
        for number in range(30)
    )
    world.add("data_set_id", data_set.id)
    for number in (
        1,
        2,
        11,
    ):  # versions: as imported, one with changes, and a missing one
        world.add("number", number)
    first = session.scalars(select(Image).where(Image.data_set_id == data_set.id)).first()
    assert first is not None
    world.images.append((data_set.id, first.content_hash))
    _imports(session, world)
    done = _runs(session, world, data_set)
    review = _reviews(session, world, done, owner, reviewer)
    _cleansings(session, world, review)
    # A second round, on the accepted version, which can be cleaned now.
    again = a_review(session, a_run(session, data_set))
    _decide(session, again, owner, reviewer)
    world.add("review_id", again.id)
    session.flush()
    return world


def job_in(session: Session, state: str, **values: Any) -> Job:
    """A job in that state, as a worker leaves it."""
    shared: dict[str, Any] = {"state": state, "title": f"Do {SCRIPT}", "progress_message": SCRIPT}
    if state in ("running", "done", "failed"):
        shared |= {
            "started_at": now() - timedelta(minutes=5),
            "attempts": 2,
            "progress_done": 25,
            "progress_total": 100,
        }
    if state == "running":
        shared |= {"claim": "machine:1:x", "heartbeat_at": now(), "seconds_left": 125.0}
    if state in ("done", "failed", "cancelled"):
        shared |= {"finished_at": now()}
    if state == "failed":
        shared |= {"error": SCRIPT}
    job = a_job(session, **values)
    for name, value in shared.items():
        setattr(job, name, value)
    session.add(JobLogLine(job_id=job.id, message=SCRIPT))
    session.flush()
    return job


def a_question() -> dict[str, Any]:
    """An import's question, as it is stored."""
    classes = {"answer": "classes", "words": "They are classes", "class_count": 2}
    return {
        "kind": "layout",
        "sentence": f"These look like splits: {SCRIPT}. Use them so?",
        "choices": [
            {
                "answer": "splits",
                "words": "They are splits",
                "splits": {SCRIPT: "train", "exam": "test"},
                "split_images": {SCRIPT: 6},
                "class_count": 14,
                "class_images": {f"{SCRIPT}{number}": number for number in range(12)},
            },
            classes | {"class_images": {"a": 1, "b": 2}},
        ],
    }


def _imports(session: Session, world: World) -> None:
    for state in STATES:
        data_set = DataSet(
            name=f"{state} {SCRIPT}"[:200],
            state=state if state in ("failed", "asking") else "importing",
            source={"kind": "sample"},
        )
        if state == "asking":
            data_set.report, data_set.refused_count = {"question": a_question()}, 1
        session.add(data_set)
        session.flush()
        world.add("data_set_id", data_set.id)
        world.add(
            "job_id",
            job_in(
                session, state, kind="import", subject_id=data_set.id, data_set_id=data_set.id
            ).id,
        )
    gone = DataSet(name="=import is gone", state="failed", source={"kind": "sample"})
    session.add(gone)
    session.flush()
    world.add("data_set_id", gone.id)


def an_epoch(session: Session, run: Run, epoch: int, validation: float | None = 0.5) -> None:
    session.add(
        RunEpoch(
            run_id=run.id,
            epoch=epoch,
            train_loss=1.5 / epoch,
            train_accuracy=0.5,
            validation_loss=validation,
            validation_accuracy=validation,
            learning_rate=1e-5,
            seconds=0.2,
            params_hash="a" * 64,
        )
    )


def _runs(session: Session, world: World, data_set: DataSet) -> Run:
    for state in STATES:
        for epochs in (0, 2):
            run = a_run(
                session,
                data_set,
                state="done" if state == "done" else "queued",
                network="mnist",
                mean=[0.5],
                note=SCRIPT,
            )
            job = job_in(session, state, kind="train", subject_id=run.id, data_set_id=data_set.id)
            run.job_id = job.id
            world.add("run_id", run.id)
            world.add("job_id", job.id)
            for epoch in range(1, epochs + 1 + (state == "done")):
                an_epoch(session, run, epoch)
            if state == "done":
                run.params_hash = "b" * 64
    session.flush()
    return run if run.state == "done" else _last_done(session, data_set)


def _last_done(session: Session, data_set: DataSet) -> Run:
    found = session.scalars(
        select(Run)
        .where(Run.data_set_id == data_set.id, Run.state == "done")
        .order_by(Run.id.desc())
    ).first()
    assert found is not None
    return found


def _reviews(session: Session, world: World, run: Run, owner: User, reviewer: User) -> Review:
    for state in STATES:
        if state == "done":
            continue
        job = job_in(session, state, kind="score", subject_id=1, data_set_id=run.data_set_id)
        scorings = [
            Scoring(run_id=run.id, job_id=job.id, method=method)
            for method in ("sgd_influence", "margin")
        ]
        session.add_all(scorings)
        session.flush()
        waiting = Review(
            data_set_id=run.data_set_id, version_id=run.version_id, run_id=run.id, job_id=job.id
        )
        waiting.accuracy_scoring_id, waiting.label_scoring_id = (scoring.id for scoring in scorings)
        session.add(waiting)
        session.flush()
        job.subject_id = waiting.id
        world.add("review_id", waiting.id)
        world.add("job_id", job.id)
    _average(session, world, run)
    review = a_review(session, run)
    _explanations(session, world, review)
    a_map(session, review)
    harm = session.get_one(Scoring, review.accuracy_scoring_id)
    harm.exact, harm.report = (
        False,
        {
            "seconds": 0.4,
            "adjoint_growth": 12_345.6,
            "finite_difference_error": 1e-6,
            "top_group": 1,
            "predicted_change": -0.01,
        },
    )
    harm.report |= {
        "measured_change": 0.02,
        "stored_bytes": 10,
        "span": "last_epoch",
        "damping": None,
    }
    world.add("review_id", review.id)
    _decide(session, review, owner, reviewer)
    bare = a_review(session, run, seed=1)
    session.get_one(Scoring, bare.accuracy_scoring_id).report = {"seconds": 0.4, "stored_bytes": 10}
    world.add("review_id", bare.id)
    return review


def _explanations(session: Session, world: World, review: Review) -> None:
    """A ready explanation, an empty one, and a requested one."""
    suggested = session.scalars(
        select(Suggestion.image_id)
        .where(Suggestion.review_id == review.id)
        .order_by(Suggestion.position)
    ).all()
    validation = session.scalars(
        select(Image.id).where(Image.data_set_id == review.data_set_id, Image.split == "validation")
    ).all()
    for image_id, state, ids in zip(
        suggested, ("done", "done", "asked"), (validation, [], []), strict=False
    ):
        made = Explanation(
            review_id=review.id,
            image_id=image_id,
            state=state,
            worse=list(ids[:4]),
            better=list(ids[4:6]),
        )
        session.add(made)
        world.add("image_id", image_id)
    session.flush()


def _average(session: Session, world: World, run: Run) -> None:
    """A review that waits for its members: a scored run, and trainings in every state."""
    waiting = Review(
        data_set_id=run.data_set_id, version_id=run.version_id, run_id=run.id, method="outlier"
    )
    session.add(waiting)
    session.flush()
    world.add("review_id", waiting.id)
    session.add(Scoring(run_id=run.id, review_id=waiting.id, method="outlier", state="done"))
    for number, state in enumerate(STATES, start=1):
        repeat = a_run(
            session,
            session.get_one(DataSet, run.data_set_id),
            state="done" if state == "done" else "queued",
            seed=number,
        )
        repeat.repeats_run_id = run.id
        repeat.job_id = job_in(
            session, state, kind="train", subject_id=repeat.id, data_set_id=run.data_set_id
        ).id
        part = Scoring(run_id=repeat.id, review_id=waiting.id, method="outlier")
        if state == "done":
            part.job_id = job_in(
                session, "running", kind="member", subject_id=repeat.id, data_set_id=run.data_set_id
            ).id
            world.add("job_id", part.job_id)
        session.add(part)
        world.add("run_id", repeat.id)
    session.flush()


def _decide(session: Session, review: Review, owner: User, reviewer: User) -> None:
    """Every action, by both users, and by a user who has left."""
    rows = session.scalars(
        select(Suggestion).where(Suggestion.review_id == review.id).order_by(Suggestion.position)
    ).all()
    for place, (row, action) in enumerate(
        zip(rows, ("remove", "keep", "relabel", "unsure") * 15, strict=False)
    ):
        by = (owner.id, reviewer.id, None)[place % 3]
        label = 0 if action == "relabel" else None
        made = Decision(
            review_id=review.id,
            image_id=row.image_id,
            user_id=by,
            client_key=f"{place}",
            action=action,
            label=label,
        )
        session.add(made)
        session.flush()
        row.decision, row.decision_label, row.decision_id, row.decided_by, row.decided_at = (
            action,
            label,
            made.id,
            by,
            now(),
        )
        review.last_change = row.change = place + 1


def a_verdict(judgement: str, image: Image) -> dict[str, Any]:
    """Write a verdict like the worker, with a changed image."""
    block = {
        "accuracy": {**NUMBERS, "judgement": JUDGEMENTS[judgement]},
        "loss": {**NUMBERS, "judgement": "no_measurable_change"},
        "judgement": judgement,
        "seconds": 1.0,
    }
    return {
        "planted": 4,
        "removed": 3,
        "relabelled": 1,
        "found": 3,
        "test_images": 27,
        "same_seed": {**block, "judgement": "no_measurable_change"},
        "fresh_seeds": {
            **block,
            "seeds": [4],
            "runs": [{"seed": 4, "arm": "cleaned", "accuracy": 0.9, "loss": 0.1}],
        },
        "per_class": [
            {
                "label": 0,
                "images": 3,
                "before": 0.8,
                "cleaned": None,
                "random": 0.8,
                "difference": -0.0,
            }
        ],
        "changed": [image.id],
        "became_right": 1,
        "became_wrong": 0,
        "changes": [{"image_id": image.id, "label": 0, "before": 1, "cleaned": 0}],
        "sentence": SCRIPT,
        "judgement": judgement,
        "seconds": {"retrain": 12.5},
    }


def _cleansings(session: Session, world: World, review: Review) -> None:
    test = session.scalars(
        select(Image).where(Image.data_set_id == review.data_set_id, Image.split == "test")
    ).first()
    assert test is not None
    kinds: list[tuple[str, str, str | None]] = [
        ("queued", state, None) for state in STATES if state != "done"
    ]
    kinds += [("measured", "done", judgement) for judgement in JUDGEMENTS]
    kinds += [("rolled_back", "done", "worse"), ("accepted", "done", "improved")]
    kinds.insert(-1, ("accepted", "", None))  # without measuring, so without a job
    for number, (state, job_state, judgement) in enumerate(kinds, start=2):
        version = Version(
            data_set_id=review.data_set_id,
            parent_id=review.version_id,
            number=number,
            state="proposed",
            note=SCRIPT,
        )
        session.add(version)
        session.flush()
        session.add(VersionChange(version_id=version.id, image_id=test.id, label=None))
        about = {"kind": "cleanse", "subject_id": 1, "data_set_id": review.data_set_id}
        job = job_in(session, job_state, **about) if job_state else None
        cleansing = Cleansing(
            data_set_id=review.data_set_id,
            review_id=review.id,
            run_id=review.run_id,
            parent_version_id=review.version_id,
        )
        cleansing.version_id, cleansing.job_id, cleansing.state, cleansing.fresh_seeds = (
            version.id,
            job.id if job else None,
            state,
            [1, 2, 3],
        )
        cleansing.verdict = a_verdict(judgement, test) if judgement else {}
        session.add(cleansing)
        session.flush()
        world.add("cleansing_id", cleansing.id)
        if job is not None:
            job.subject_id = cleansing.id
            world.add("job_id", job.id)
        if job_state == "running" or (state, judgement) == ("measured", "improved"):
            _trainings(session, world, cleansing)
        if state == "accepted":
            version.state = "accepted"
            session.get_one(DataSet, review.data_set_id).current_version_id = version.id


def _trainings(session: Session, world: World, cleansing: Cleansing) -> None:
    for protocol, seed in (("same_seed", 0), ("fresh_seeds", 1)):
        for arm in ("before", "cleaned", "random"):
            run = Run(
                data_set_id=cleansing.data_set_id,
                version_id=cleansing.version_id,
                seed=seed,
                protocol=protocol,
                arm=arm,
            )
            run.cleansing_id, run.state = (
                cleansing.id,
                "queued" if cleansing.state == "queued" else "done",
            )
            if run.state == "done":
                run.test_accuracy, run.test_loss, run.report = (
                    0.9,
                    0.1,
                    {"seconds": 1.0, "images_left_out": []},
                )
            session.add(run)
            session.flush()
            world.add("run_id", run.id)
            if run.state == "done" and arm != "random":  # a twin of another training has no epochs
                an_epoch(session, run, 1, 0.5 if protocol == "same_seed" else None)
