"""The demo's journey, against the API: what it makes, what it remembers, whom it plays. tests/loop starts the whole of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.cli import journey as demo
from backend.cli.client import Client, JobEnded, Refused
from backend.cli.demo import _source
from backend.core.db import Database
from backend.core.models import DataSet, Image, Job, Suggestion, User
from backend.core.settings import Settings
from tests.factories import a_data_set, a_job, a_review, a_run


@pytest.fixture
def client(api_client: TestClient) -> Client:
    """The demo's client, speaking to the application of this test."""
    made = Client("http://testserver", "")
    made._http.close()
    made._http = api_client
    return made


def journey(client: Client, plan: demo.Plan | None = None, **ids: int) -> demo.Journey:
    return demo.Journey(client, plan or demo.Plan(), ids)


# ── what it makes, and what it remembers ────────────────────────────────────────────────────────────────────────────


def end(database: Database, state: str = "done", **values: object) -> Callable[[], None]:
    """Ends every queued job, as a worker would."""

    def act() -> None:
        with database.transaction() as session:
            for job in session.scalars(select(Job).where(Job.state == "queued")):
                job.state = state
                for name, value in values.items():
                    setattr(job, name, value)

    return act


def test_a_step_is_made_once_and_remembered_before_it_is_waited_for(
    client: Client, database: Database
) -> None:
    kept: list[dict[str, int]] = []
    made = demo.Journey(client, demo.Plan(), {}, lambda ids: kept.append(dict(ids)))
    made.keep = lambda ids: (kept.append(dict(ids)), end(database)())
    assert made._step("data_set", made._import, "import") == 1
    assert kept == [{"data_set": 1, "data_set_job": 1}]
    assert made._step("data_set", lambda: pytest.fail("made twice"), "import") == 1


def test_a_step_whose_job_fails_ends_the_demo_with_the_jobs_sentence(
    client: Client, database: Database
) -> None:
    made = demo.Journey(
        client,
        demo.Plan(),
        {},
        lambda _: end(database, "failed", error="There are no images in it.")(),
    )
    with pytest.raises(JobEnded, match="There are no images in it"):
        made._step("data_set", made._import, "import")


def test_a_second_start_goes_on_with_what_is_still_there(
    client: Client, database: Database
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session)
        jobs = [
            a_job(session, kind=kind, state="done", data_set_id=data_set.id).id
            for kind in ("import", "train", "score")
        ]
    ids = dict(zip(("data_set", "run", "review"), (1, 2, 3), strict=True)) | dict(
        zip(("data_set_job", "run_job", "review_job"), jobs, strict=True)
    )
    assert demo.still_there(client, ids) == ids
    assert demo.still_there(client, {}) == {}
    assert demo.still_there(client, {"data_set": 1, "data_set_job": jobs[0]}) == {
        "data_set": 1,
        "data_set_job": jobs[0],
    }


def test_a_data_set_that_somebody_deleted_is_made_anew_with_all_that_hung_on_it(
    client: Client, database: Database
) -> None:
    with database.transaction() as session:
        job = a_job(session, state="done")
    assert (
        demo.still_there(client, {"data_set": 9, "data_set_job": 999, "run": 1, "run_job": job.id})
        == {}
    )


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_did_not_get_done_is_tried_again_at_the_next_start(
    client: Client, database: Database, state: str
) -> None:
    with database.transaction() as session:
        job = a_job(session, state=state)
    assert demo.still_there(client, {"data_set": 1, "data_set_job": job.id}) == {
        "data_set": 1,
        "data_set_job": job.id,
    }
    with database.transaction() as session:
        assert session.get_one(Job, job.id).state == "queued"


def test_an_api_that_refuses_for_another_reason_is_no_reason_to_begin_anew(
    client: Client, api_client: TestClient
) -> None:
    api_client.headers["Authorization"] = "Bearer nonsense"
    with pytest.raises(Refused, match="not valid") as refusal:
        demo.still_there(client, {"data_set": 1, "data_set_job": 1})
    assert refusal.value.status == 401


# ── whom it plays ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def review(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        data_set = a_data_set(session, planted=9, per_class=60)
        return {"data_set": data_set.id, "review": a_review(session, a_run(session, data_set)).id}


def decisions(database: Database) -> dict[int, str]:
    """Position in the default queue → decision."""
    with database.transaction() as session:
        found = session.execute(
            select(Suggestion.position, Suggestion.decision).where(Suggestion.decision.is_not(None))
        )
        return dict(map(tuple, found))


def planted_positions(database: Database) -> set[int]:
    with database.transaction() as session:
        wrong = (
            select(Suggestion.position)
            .join(Image, Image.id == Suggestion.image_id)
            .where(Image.true_label.is_not(None))
        )
        return set(session.scalars(wrong))


def test_the_reviewer_looks_at_the_first_of_the_queue_removes_what_was_planted_and_keeps_the_rest(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    journey(client, demo.Plan(look=0.9), **review).decide()
    made = decisions(database)
    assert sorted(made) == list(range(1, 115))  # 90 % of 126, rounded up: more than one page of 100
    removed = {position for position, decision in made.items() if decision == "remove"}
    assert removed == planted_positions(database) & set(made)
    assert removed
    assert {made[position] for position in set(made) - removed} == {"keep"}


def test_the_top_is_removed_unseen_where_that_was_asked_for(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    journey(client, demo.Plan(remove_top=7), **review).decide()
    assert decisions(database) == dict.fromkeys(range(1, 8), "remove")


def test_looking_at_nothing_decides_nothing(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    journey(client, demo.Plan(look=0.0), **review).decide()
    assert decisions(database) == {}


# ── planted errors ──────────────────────────────────────────────────────────────────────────────────────────────────


def labels(database: Database) -> dict[int, tuple[str, int, int | None]]:
    with database.transaction() as session:
        return {
            image.id: (image.split, image.label, image.true_label)
            for image in session.scalars(select(Image))
        }


def test_planting_flips_that_share_of_the_training_labels_and_remembers_the_truth(
    database: Database,
) -> None:
    with database.transaction() as session:
        data_set_id = a_data_set(session).id
    before = labels(database)
    assert demo.plant(database, data_set_id, 0.25, seed=3) == 10  # a quarter of 42, rounded
    after = labels(database)
    flipped = {image_id for image_id in after if after[image_id] != before[image_id]}
    assert len(flipped) == 10
    for image_id in flipped:
        split, label, true_label = after[image_id]
        assert (split, true_label) == ("train", before[image_id][1])
        assert label != true_label
    with database.transaction() as session:
        assert session.get_one(DataSet, data_set_id).planted_count == 10


def test_planting_is_repeatable_by_its_seed_and_nothing_where_no_share_is_asked_for(
    database: Database,
) -> None:
    with database.transaction() as session:
        first, second, third = (a_data_set(session, seed=1).id for _ in range(3))
    demo.plant(database, first, 0.2, seed=5)
    demo.plant(database, second, 0.2, seed=5)
    demo.plant(database, third, 0.0, seed=5)
    with database.transaction() as session:
        flips = [
            list(
                session.execute(
                    select(Image.row, Image.label).where(
                        Image.data_set_id == one, Image.true_label.is_not(None)
                    )
                ).all()
            )
            for one in (first, second, third)
        ]
    assert flips[0] == flips[1] != []
    assert flips[2] == []


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_summary_has_the_promised_figures_and_no_others() -> None:
    measure = {
        "before": 0.9,
        "cleaned": 0.92,
        "random": 0.9,
        "difference": 0.02,
        "ci95": [0.01, 0.03],
        "ci95_seeds": [0, 1],
        "better": True,
    }
    question = {"accuracy": measure, "loss": measure, "judgement": "improved"}
    verdict = {
        "planted": 5,
        "removed": 4,
        "found": 4,
        "same_seed": question,
        "fresh_seeds": question,
        "sentence": "It got better.",
    }
    told = demo.summary("Digits", verdict, {"train": 1.0})
    figures = {
        name: measure[name] for name in ("before", "cleaned", "random", "difference", "ci95")
    }
    both = {"accuracy": figures, "loss": figures}
    counts = {"planted": 5, "removed": 4, "found": 4}
    assert told == {
        "data_set": "Digits",
        **counts,
        "same_seed": both,
        "fresh_seeds": both,
        "seconds": {"train": 1.0},
    }


def test_a_login_link_is_for_the_first_owner_and_leads_to_the_public_address(
    database: Database, owner: User, settings: Settings
) -> None:
    public = settings.model_copy(update={"public_url": "https://winnow.example.org/"})
    assert demo.login_link(public, database).startswith("https://winnow.example.org/?token=")
    assert demo.login_link(settings, database, "olga").startswith("http://127.0.0.1:8000/?token=")


def test_data_in_place_of_the_sample_is_a_folder_idx_files_or_an_archive_to_upload(
    tmp_path: Path,
) -> None:
    archive = tmp_path / "photos.zip"
    archive.touch()
    assert _source(None, False) == ({"kind": "sample"}, None)
    assert _source(tmp_path, False) == ({"kind": "folder", "path": str(tmp_path)}, None)
    assert _source(tmp_path, True) == ({"kind": "idx", "path": str(tmp_path)}, None)
    assert _source(archive, False) == ({}, archive)
