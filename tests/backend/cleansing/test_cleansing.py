"""The rules of cleansing: dry run and floor, new version, accepting, rolling back, permissions."""

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from backend.cleansing import present, service
from backend.cleansing.dry_run import DryRun, default_floor
from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.models import (
    Cleansing,
    DataSet,
    Job,
    Review,
    Run,
    User,
    Version,
    VersionChange,
    images_of,
)
from backend.core.reports import Verdict
from backend.core.settings import Settings
from backend.jobs import service as jobs
from tests.cleansing_scenario import Scenario


def of_class(scenario: Scenario, label: int) -> list[int]:
    return [image.id for image in scenario.training_images() if image.label == label]


def plan(scenario: Scenario, floor: int | None = None, review_id: int | None = None) -> DryRun:
    with scenario.database.transaction(write=False) as session:
        return service.dry_run(
            session, scenario.owner, session.get_one(Review, review_id or scenario.review_id), floor
        )


def start(
    scenario: Scenario, floor: int | None = None, fresh_seeds: int = 3, review_id: int | None = None
) -> Cleansing:
    with scenario.database.transaction() as session:
        review = session.get_one(Review, review_id or scenario.review_id)
        return service.start(session, scenario.owner, review, floor, fresh_seeds)


def measured(scenario: Scenario, cleansing: Cleansing) -> Cleansing:
    """Store a measured result; the measuring is tested with the worker."""
    with scenario.database.transaction() as session:
        session.execute(
            update(Cleansing)
            .where(Cleansing.id == cleansing.id)
            .values(state="measured", verdict=VERDICT)
        )
        session.execute(update(Job).where(Job.id == cleansing.job_id).values(state="done"))
    return cleansing


def accept(scenario: Scenario, cleansing: Cleansing) -> Cleansing:
    with scenario.database.transaction() as session:
        return service.accept(session, scenario.owner, session.get_one(Cleansing, cleansing.id))


def roll_back(scenario: Scenario, cleansing: Cleansing) -> Cleansing:
    with scenario.database.transaction() as session:
        return service.roll_back(session, scenario.owner, session.get_one(Cleansing, cleansing.id))


def current_version(scenario: Scenario) -> int | None:
    with scenario.database.transaction(write=False) as session:
        return session.get_one(DataSet, scenario.data_set_id).current_version_id


def changes_of(scenario: Scenario, version_id: int) -> dict[int, int | None]:
    with scenario.database.transaction(write=False) as session:
        rows = session.execute(
            select(VersionChange.image_id, VersionChange.label).where(
                VersionChange.version_id == version_id
            )
        )
        return {row.image_id: row.label for row in rows}


def test_the_dry_run_counts_each_class_before_and_after(scenario: Scenario) -> None:
    zeros, ones = of_class(scenario, 0), of_class(scenario, 1)
    scenario.decide(zeros[:3])
    scenario.decide(ones[:2], "relabel", 0)
    scenario.decide(ones[2:4], "keep")
    scenario.decide(ones[4:5], "unsure")
    found = plan(scenario)
    assert (found.removed, found.relabelled, found.refusal) == (3, 2, None)
    zero, one = found.classes[:2]
    assert (zero.before, zero.removed, zero.relabelled_away, zero.relabelled_here, zero.after) == (
        len(zeros),
        3,
        0,
        2,
        len(zeros) - 1,
    )
    assert (one.before, one.removed, one.relabelled_away, one.relabelled_here, one.after) == (
        len(ones),
        0,
        2,
        0,
        len(ones) - 2,
    )
    assert (found.before, found.after) == (160, 157)


def test_a_new_label_that_is_the_old_one_changes_nothing(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3], "relabel", 0)
    assert plan(scenario).changes == []
    assert "Nothing is decided yet" in str(plan(scenario).refusal)


@pytest.mark.parametrize(
    ("count", "floor"), [(1, 2), (5, 2), (20, 2), (21, 3), (100, 10), (101, 11)]
)
def test_the_floor_is_a_tenth_rounded_up_and_at_least_two(count: int, floor: int) -> None:
    assert default_floor(count) == floor


def test_images_beyond_the_floor_stay_and_are_named_the_least_suspicious_first(
    scenario: Scenario,
) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros)
    found = plan(scenario)
    floor = default_floor(len(zeros))
    assert found.classes[0].after == floor
    assert [change.image_id for change in found.held_back] == zeros[-floor:]
    assert [change.image_id for change in found.changes] == zeros[:-floor]
    assert plan(scenario, floor=len(zeros) - 1).removed == 1


def test_images_that_come_into_a_class_do_not_lower_its_floor(scenario: Scenario) -> None:
    zeros, ones = of_class(scenario, 0), of_class(scenario, 1)
    scenario.decide(zeros)
    scenario.decide(ones[:10], "relabel", 0)
    assert len(plan(scenario).held_back) == default_floor(len(zeros))


def test_nothing_may_empty_a_class(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 2))
    found = plan(scenario, floor=0)
    assert found.refusal == (
        "This would leave no training image of “<b>two</b>”. Choose a floor of at least 1, or "
        "keep some of these images in the review."
    )
    with pytest.raises(Invalid, match="This would leave no training image"):
        start(scenario, floor=0)
    with scenario.database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Version)) == 1


def test_with_nothing_decided_nothing_starts(scenario: Scenario) -> None:
    with pytest.raises(Invalid, match="Nothing is decided yet"):
        start(scenario)


def test_a_floor_that_keeps_everything_is_said(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 1)[:2])
    with pytest.raises(Invalid, match="The floor keeps every image"):
        start(scenario, floor=1000)


@pytest.mark.parametrize("seeds", [0, 2, 11])
def test_fewer_than_three_and_more_than_ten_fresh_starts_are_refused(
    scenario: Scenario, seeds: int
) -> None:
    scenario.decide(of_class(scenario, 1)[:2])
    with pytest.raises(Invalid, match="between 3 and 10"):
        start(scenario, fresh_seeds=seeds)


def test_the_new_version_is_the_parent_with_exactly_these_changes(scenario: Scenario) -> None:
    zeros, ones = of_class(scenario, 0), of_class(scenario, 1)
    scenario.decide(zeros[:3])
    scenario.decide(ones[:2], "relabel", 3)
    cleansing = start(scenario)
    assert changes_of(scenario, cleansing.version_id) == {
        **dict.fromkeys(zeros[:3]),
        **dict.fromkeys(ones[:2], 3),
    }
    with scenario.database.transaction(write=False) as session:
        version = session.get_one(Version, cleansing.version_id)
        assert (version.state, version.number, version.parent_id) == (
            "proposed",
            2,
            scenario.version_id,
        )
        assert (version.removed_count, version.relabelled_count) == (3, 2)
        labels = {row.id: row.label for row in session.execute(images_of(version.id))}
        before = {row.id: row.label for row in session.execute(images_of(scenario.version_id))}
    assert labels == {
        **{image_id: label for image_id, label in before.items() if image_id not in zeros[:3]},
        **dict.fromkeys(ones[:2], 3),
    }
    assert current_version(scenario) == scenario.version_id


@pytest.mark.slow
def test_a_second_round_keeps_the_changes_of_the_first(scenario: Scenario) -> None:
    zeros, ones = of_class(scenario, 0), of_class(scenario, 1)
    scenario.decide(zeros[:3])
    scenario.decide(ones[:3], "relabel", 3)
    first = accept(scenario, measured(scenario, start(scenario)))
    second_review = scenario.add_review(first.version_id, scenario.run_id)
    scenario.decide(
        [zeros[3], ones[0]], review_id=second_review
    )  # a further removal, and a relabelled image
    scenario.decide(
        [ones[1]], "relabel", 1, review_id=second_review
    )  # back to the label of the import
    assert (
        plan(scenario, review_id=second_review).classes[3].before == len(of_class(scenario, 3)) + 3
    )
    second = start(scenario, review_id=second_review)
    assert changes_of(scenario, second.version_id) == {
        **dict.fromkeys([*zeros[:4], ones[0]]),
        ones[2]: 3,
    }
    with scenario.database.transaction(write=False) as session:
        version = session.get_one(Version, second.version_id)
        assert (
            version.parent_id,
            version.number,
            version.removed_count,
            version.relabelled_count,
        ) == (first.version_id, 3, 5, 1)


def test_a_version_stays_as_it_is_whatever_is_decided_later(scenario: Scenario) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    cleansing = start(scenario)
    scenario.decide(zeros[:3], "keep")
    scenario.decide(zeros[5:9])
    assert changes_of(scenario, cleansing.version_id) == dict.fromkeys(zeros[:3])
    measured(scenario, cleansing)
    roll_back(scenario, cleansing)
    again = start(scenario)
    assert again.version_id != cleansing.version_id
    assert changes_of(scenario, cleansing.version_id) == dict.fromkeys(zeros[:3])
    assert changes_of(scenario, again.version_id) == dict.fromkeys(zeros[5:9])


def test_each_protocol_arm_and_seed_gets_a_row_and_all_of_them_one_job(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario, fresh_seeds=4)
    assert cleansing.fresh_seeds == [4, 5, 6, 7]
    with scenario.database.transaction(write=False) as session:
        runs = service.list_trainings(session, cleansing)
        job = session.get_one(Job, cleansing.job_id)
    arms = ("before", "cleaned", "random")
    wanted = [("same_seed", scenario.seed, arm) for arm in arms] + [
        ("fresh_seeds", seed, arm) for seed in (4, 5, 6, 7) for arm in arms
    ]
    assert [(run.protocol, run.seed, run.arm) for run in runs] == wanted
    assert {run.version_id for run in runs if run.arm == "cleaned"} == {cleansing.version_id}
    assert {run.version_id for run in runs if run.arm != "cleaned"} == {scenario.version_id}
    assert (job.kind, job.subject_id, job.data_set_id, job.state) == (
        "cleanse",
        cleansing.id,
        scenario.data_set_id,
        "queued",
    )


def test_a_review_is_not_measured_twice_at_the_same_time(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    start(scenario)
    with pytest.raises(Conflict, match="measured already"):
        start(scenario)


def test_nothing_is_accepted_or_rolled_back_before_it_is_measured(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario)
    for act in (accept, roll_back):
        with pytest.raises(Conflict, match="The retraining is not finished"):
            act(scenario, cleansing)
    assert current_version(scenario) == scenario.version_id


def test_accepting_makes_the_version_current_and_doing_it_twice_changes_nothing(
    scenario: Scenario,
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = measured(scenario, start(scenario))
    for _ in range(2):
        assert accept(scenario, cleansing).state == "accepted"
        assert current_version(scenario) == cleansing.version_id
    with scenario.database.transaction(write=False) as session:
        assert session.get_one(Version, cleansing.version_id).state == "accepted"


def test_rolling_back_after_accepting_brings_the_parent_back(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = accept(scenario, measured(scenario, start(scenario)))
    for _ in range(2):
        assert roll_back(scenario, cleansing).state == "rolled_back"
        assert current_version(scenario) == scenario.version_id
    with scenario.database.transaction(write=False) as session:
        assert session.get_one(Version, cleansing.version_id).state == "rolled_back"
    assert accept(scenario, cleansing).state == "accepted"
    assert current_version(scenario) == cleansing.version_id
    with scenario.database.transaction(write=False) as session:
        assert session.get_one(Version, cleansing.version_id).state == "accepted"


def test_a_round_on_a_version_that_was_rolled_back_goes_on_once_it_is_accepted_again(
    scenario: Scenario,
) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    first = accept(scenario, measured(scenario, start(scenario)))
    review_id = scenario.add_review(first.version_id, scenario.run_id)
    scenario.decide(zeros[3:5], review_id=review_id)
    second = measured(scenario, start(scenario, review_id=review_id))
    roll_back(scenario, first)
    way_out = (
        "Version 2, which this review began from, was rolled back. Accept it again at its "
        "verdict, then continue."
    )
    with pytest.raises(Conflict, match=re.escape(way_out)):
        start(scenario, review_id=review_id)
    with pytest.raises(Conflict, match="Version 2, which this one was made from, was rolled back"):
        accept(scenario, second)
    accept(scenario, first)
    assert start(scenario, review_id=review_id).parent_version_id == first.version_id
    assert accept(scenario, second).state == "accepted"


def test_where_another_version_stands_in_the_way_it_is_named(scenario: Scenario) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    first = accept(scenario, measured(scenario, start(scenario)))
    roll_back(scenario, first)
    review_id = scenario.add_review(first.version_id, scenario.run_id)
    scenario.decide(zeros[3:5], review_id=review_id)
    accept(scenario, measured(scenario, start(scenario)))
    with pytest.raises(
        Conflict,
        match="Roll version 3 back at its verdict, then accept it again at its verdict, then "
        "continue",
    ):
        start(scenario, review_id=review_id)


@pytest.mark.slow
def test_a_cleansing_that_was_stopped_is_discarded_and_its_job_can_still_go_on(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario)
    with scenario.database.transaction() as session:
        jobs.cancel(session, scenario.owner, cleansing.job_id or 0)
    page = client.get("/cleansings/1").text
    assert "Not measured" in page
    assert "The verdict will appear" not in page
    with pytest.raises(Conflict, match="never measured"):
        accept(scenario, cleansing)
    page = client.post("/cleansings/1/roll-back").text
    assert "The version was discarded; your decisions are all there." in page
    with scenario.database.transaction() as session:
        assert session.get_one(Version, cleansing.version_id).state == "rolled_back"
        jobs.retry(session, scenario.owner, cleansing.job_id or 0)
    assert "Measuring whether it helps" in client.get("/cleansings/1").text


def test_the_fresh_seeds_behind_the_largest_seed_begin_at_zero(scenario: Scenario) -> None:
    """PostgreSQL's integers end at 2³¹ - 1."""
    scenario.decide(of_class(scenario, 0)[:3])
    with scenario.database.transaction() as session:
        session.get_one(Run, scenario.run_id).seed = 2**31 - 1
    assert start(scenario).fresh_seeds == [0, 1, 2]


def test_a_roll_back_asks_first_and_says_what_becomes_of_what_builds_on_the_version(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    first = accept(scenario, measured(scenario, start(scenario)))
    assert (
        'data-question="Go back to version 1? You can accept this version again later."'
        in client.get("/cleansings/1").text
    )
    with scenario.database.transaction() as session:
        run = Run(data_set_id=scenario.data_set_id, version_id=first.version_id)
        session.add(run)
        session.flush()
        run_id = run.id
    scenario.add_review(first.version_id, run_id)
    stay = (
        "1 training and 1 review of this version stay. Only cleaning from them has to wait until "
        "the version is accepted again."
    )
    page = client.get("/cleansings/1").text
    assert f"<p>If you roll back, {stay}</p>" in page
    assert f'data-question="Go back to version 1? {stay}"' in page
    page = client.post("/cleansings/1/roll-back").text
    assert f"<p>{stay}</p>" in page
    assert "Accept it again" in page


def test_one_training_alone_stays_and_none_is_no_sentence() -> None:
    assert (
        present.kept_sentence(1, 0)
        == "1 training of this version stays. Only cleaning from it has to wait until the "
        "version is accepted again."
    )
    assert (present.kept_sentence(0, 2) or "").startswith(
        "2 reviews of this version stay. Only cleaning from them"
    )
    assert present.kept_sentence(0, 0) is None


@pytest.mark.slow
def test_a_review_whose_result_was_accepted_says_so_and_leads_on(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    accept(scenario, measured(scenario, start(scenario)))
    for address in (f"/reviews/{scenario.review_id}", f"/reviews/{scenario.review_id}/clean"):
        page = client.get(address).text
        assert "The result of this review was accepted" in page
        assert 'href="/cleansings/1"' in page
        assert f'href="/datasets/{scenario.data_set_id}/runs/new"' in page
    assert "Then measure whether it helps" not in page


@pytest.mark.slow
def test_each_version_leads_to_its_verdict(scenario: Scenario, client: TestClient) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    start(scenario)
    assert (
        '<a href="/cleansings/1">Verdict</a>'
        in client.get(f"/datasets/{scenario.data_set_id}").text
    )


def test_a_version_with_a_later_one_on_top_is_not_rolled_back(scenario: Scenario) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    first = accept(scenario, measured(scenario, start(scenario)))
    review_id = scenario.add_review(first.version_id, scenario.run_id)
    scenario.decide(zeros[3:5], review_id=review_id)
    second = accept(scenario, measured(scenario, start(scenario, review_id=review_id)))
    with pytest.raises(Conflict, match="A later version builds on this one"):
        roll_back(scenario, first)
    roll_back(scenario, second)
    assert current_version(scenario) == first.version_id
    roll_back(scenario, first)
    assert current_version(scenario) == scenario.version_id


def test_of_two_siblings_only_one_is_accepted(scenario: Scenario) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    one = measured(scenario, start(scenario))
    scenario.decide(zeros[3:5])
    other = measured(scenario, start(scenario))
    accept(scenario, one)
    with pytest.raises(
        Conflict, match="Version 2 was accepted, and this one was made from version 1"
    ):
        accept(scenario, other)
    with pytest.raises(
        Conflict, match="Version 2 was accepted, and this review began from version 1"
    ):
        start(scenario)
    assert current_version(scenario) == one.version_id


def test_a_cleansing_that_is_not_there_is_not_found(scenario: Scenario) -> None:
    with scenario.database.transaction(write=False) as session, pytest.raises(NotFound):
        service.get(session, scenario.owner, 4711)


METRIC = {
    "before": 0.8, "cleaned": 0.9, "random": 0.79, "difference": 0.1,
    "ci95": [0.05, 0.15], "ci95_images": [0.05, 0.15],
    "random_difference": -0.01, "random_ci95": [-0.03, 0.01],
    "beyond_random": {"difference": 0.11, "ci95": [0.06, 0.16], "ci95_images": [0.06, 0.16]},
    "judgement": "better",
}  # fmt: skip
PROTOCOL = {
    "accuracy": METRIC,
    "loss": {**METRIC, "difference": -0.1, "ci95": [-0.15, -0.05]},
    "judgement": "improved",
}
VERDICT = {
    "planted": 4, "removed": 3, "relabelled": 0, "found": 3, "test_images": 500,
    "same_seed": PROTOCOL,
    "fresh_seeds": {
        **PROTOCOL, "seeds": [4],
        "runs": [{"seed": 4, "arm": "cleaned", "accuracy": 0.9, "loss": 0.1}],
    },
    "per_class": [{
        "label": 2, "images": 9, "before": 0.8, "cleaned": 0.9, "random": 0.8, "difference": 0.1,
    }],
    "changed": [300], "became_right": 1, "became_wrong": 0,
    "changes": [{"image_id": 300, "label": 2, "before": 0, "cleaned": 2}],
    "sentence": "Accuracy and confidence better: test accuracy 80.0 % → 90.0 %.",
    "judgement": "improved", "seconds": {"retrain": 12.5},
}  # fmt: skip


@pytest.fixture
def settings(scenario: Scenario) -> Settings:
    """The application of these tests has the scenario's database and files."""
    return scenario.settings


@pytest.fixture
def owner(scenario: Scenario) -> User:
    return scenario.owner


@pytest.fixture
def reviewer(scenario: Scenario) -> User:
    return scenario.reviewer


@pytest.mark.slow
def test_the_pages_lead_from_the_dry_run_to_the_verdict_and_back(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    address = f"/reviews/{scenario.review_id}/clean"
    page = client.get(address).text
    assert "Remove 3 images, relabel 0" in page
    assert "160 training images before, 157 after" in page
    sent = client.post(address, data={"floor": "", "fresh_seeds": "3"}, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/cleansings/1")
    assert "Measuring whether it helps" in client.get("/cleansings/1").text
    again = client.post(address, data={"floor": ""}, follow_redirects=False)
    assert again.headers["location"] == "/cleansings/1"
    with scenario.database.transaction(write=False) as session:
        cleansing = session.get_one(Cleansing, 1)
    measured(scenario, cleansing)
    page = client.get("/cleansings/1").text
    assert "<h1>Accuracy and confidence better</h1>" in page
    assert "Accuracy and confidence better: test accuracy 80.0 % → 90.0 %, +10.0 points" in page
    assert "You found 3 of 4 planted errors." in page
    assert "Accept this version" in page
    page = client.post("/cleansings/1/accept").text
    assert "version 2 is the data set's current one" in page.replace("&#39;", "'")
    assert "Start the second round" in page
    page = client.post("/cleansings/1/roll-back").text
    assert "Rolled back: the data set is as it was before, version 1." in page
    assert current_version(scenario) == scenario.version_id


def test_fresh_starts_that_learned_nothing_are_said_beside_the_verdict(
    scenario: Scenario, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    monkeypatch.setitem(VERDICT, "doubt", "In 1 of the 3 fresh starts the model has not learned.")
    measured(scenario, start(scenario))
    assert (
        "In 1 of the 3 fresh starts the model has not learned." in client.get("/cleansings/1").text
    )


def test_errors_that_got_another_wrong_label_are_named_among_the_found() -> None:
    assert (
        present.found_sentence(Verdict.model_construct(planted=101, found=20))
        == "You found 20 of 101 planted errors."
    )
    assert (
        present.found_sentence(Verdict.model_construct(planted=101, found=20, mislabelled=0))
        == "You found 20 of 101 planted errors."
    )
    assert present.found_sentence(
        Verdict.model_construct(planted=101, found=20, mislabelled=1)
    ) == ("You found 20 of 101 planted errors; 1 of them got another wrong label.")


@pytest.mark.slow
def test_a_class_name_is_text_on_every_page_and_never_markup(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 2))
    dry = client.get(f"/reviews/{scenario.review_id}/clean").text
    refused = client.post(f"/reviews/{scenario.review_id}/clean", data={"floor": "0"})
    measured(scenario, start(scenario))
    verdict = client.get("/cleansings/1").text
    assert refused.status_code == 422
    for page in (dry, refused.text, verdict):
        assert "<b>two</b>" not in page
        assert "&lt;b&gt;two&lt;/b&gt;" in page


@pytest.mark.parametrize("floor", ["-1", "many", "1.5", "٣", "<script>"])
def test_a_floor_that_is_no_number_is_said_beside_the_form(
    scenario: Scenario, client: TestClient, floor: str
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    page = client.get(f"/reviews/{scenario.review_id}/clean", params={"floor": floor})
    sent = client.post(f"/reviews/{scenario.review_id}/clean", data={"floor": floor})
    assert (page.status_code, sent.status_code) == (200, 422)
    for text in (page.text, sent.text):
        assert "The floor must be a whole number" in text
        assert "<script>”" not in text


@pytest.mark.slow
def test_a_reviewer_looks_but_may_not_start_accept_or_roll_back(
    scenario: Scenario, reviewer_client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    page = reviewer_client.get(f"/reviews/{scenario.review_id}/clean")
    assert page.status_code == 200
    assert "An owner of this Winnow starts the retraining" in page.text
    assert (
        reviewer_client.post(f"/reviews/{scenario.review_id}/clean", data={"floor": ""}).status_code
        == 403
    )
    assert (
        reviewer_client.post(
            f"/api/v1/reviews/{scenario.review_id}/cleansings", json={}
        ).status_code
        == 403
    )
    measured(scenario, start(scenario))
    page = reviewer_client.get("/cleansings/1").text
    assert "Accept this version" not in page
    for act in ("accept", "roll-back"):
        assert reviewer_client.post(f"/cleansings/1/{act}").status_code == 403
        assert reviewer_client.post(f"/api/v1/cleansings/1/{act}").status_code == 403
    assert current_version(scenario) == scenario.version_id


def test_from_another_site_no_form_is_taken(scenario: Scenario, client: TestClient) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    client.headers["Sec-Fetch-Site"] = "cross-site"
    assert (
        client.post(f"/reviews/{scenario.review_id}/clean", data={"floor": ""}).status_code == 403
    )
    measured(scenario, start(scenario))
    for act in ("accept", "roll-back"):
        assert client.post(f"/cleansings/1/{act}").status_code == 403
    assert current_version(scenario) == scenario.version_id


def test_an_outsider_sees_nothing(scenario: Scenario, anonymous_client: TestClient) -> None:
    assert anonymous_client.get("/cleansings/1", follow_redirects=False).status_code == 303
    assert anonymous_client.get(f"/api/v1/reviews/{scenario.review_id}/dry-run").status_code == 401


@pytest.mark.slow
def test_the_api_goes_the_whole_way(scenario: Scenario, api_client: TestClient) -> None:
    zeros = of_class(scenario, 0)
    assert (
        "Nothing is decided"
        in api_client.get(f"/api/v1/reviews/{scenario.review_id}/dry-run").json()["refusal"]
    )
    assert api_client.post(f"/api/v1/reviews/{scenario.review_id}/cleansings").status_code == 422
    scenario.decide(zeros[:3])
    dry = api_client.get(
        f"/api/v1/reviews/{scenario.review_id}/dry-run", params={"floor": len(zeros) - 2}
    ).json()
    assert (
        dry["removed"],
        [change["image_id"] for change in dry["held_back"]],
        dry["refusal"],
    ) == (2, [zeros[2]], None)
    made = api_client.post(
        f"/api/v1/reviews/{scenario.review_id}/cleansings", json={"fresh_seeds": 3}
    )
    assert made.status_code == 202
    body = made.json()
    assert (body["state"], body["verdict"], body["job"]["state"], len(body["trainings"])) == (
        "queued",
        None,
        "queued",
        12,
    )
    assert api_client.post("/api/v1/cleansings/1/accept").status_code == 409
    with scenario.database.transaction(write=False) as session:
        cleansing = session.get_one(Cleansing, 1)
    measured(scenario, cleansing)
    assert api_client.get("/api/v1/cleansings/1").json()["verdict"]["judgement"] == "improved"
    assert api_client.post("/api/v1/cleansings/1/accept").json()["state"] == "accepted"
    assert api_client.post("/api/v1/cleansings/1/roll-back").json()["state"] == "rolled_back"
    assert api_client.get("/api/v1/cleansings/99").status_code == 404
    assert (
        api_client.post(
            f"/api/v1/reviews/{scenario.review_id}/cleansings", json={"fresh_seeds": 99}
        ).status_code
        == 422
    )
