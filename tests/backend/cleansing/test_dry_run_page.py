"""The page before cleaning: pictures that leave, doubts about so few, expected duration."""

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.core.models import DataSet, Job, Run, User
from backend.core.settings import Settings
from tests.cleansing_scenario import Scenario


@pytest.fixture
def settings(scenario: Scenario) -> Settings:
    return scenario.settings


@pytest.fixture
def owner(scenario: Scenario) -> User:
    return scenario.owner


def pictures(page: str) -> list[str]:
    return re.findall(r'<li class="picture">.*?alt="([^"]+)".*?</li>', page, re.DOTALL)


@pytest.mark.slow
def test_the_pictures_that_change_are_shown_the_most_suspicious_first(
    scenario: Scenario, client: TestClient
) -> None:
    images = scenario.training_images()
    scenario.decide([image.id for image in images[:2]])
    scenario.decide([images[2].id], "relabel", label=(images[2].label + 1) % 4)
    page = client.get(f"/reviews/{scenario.review_id}/clean").text
    assert pictures(page) == [image.path for image in images[:3]]
    scenario.decide([image.id for image in images[3:40]])
    page = client.get(f"/reviews/{scenario.review_id}/clean").text
    assert len(pictures(page)) == 24
    assert re.search(r"The first 24 of \d+, the most suspicious first\.", page)


def test_removals_and_new_labels_together_are_corrections(
    scenario: Scenario, client: TestClient
) -> None:
    images = scenario.training_images()
    scenario.decide([images[0].id])
    scenario.decide([images[1].id], "relabel", label=(images[1].label + 1) % 4)
    page = client.get(f"/reviews/{scenario.review_id}/clean").text
    assert (
        "The model is trained again with these corrections and, for comparison, without them and "
        "with "
        "the same number removed at random." in " ".join(page.split())
    )


def test_a_floor_that_is_a_number_but_too_large_is_told_so(
    scenario: Scenario, client: TestClient
) -> None:
    address = f"/reviews/{scenario.review_id}/clean"
    assert (
        "The floor is too large a number." in client.get(address, params={"floor": "9" * 21}).text
    )
    assert (
        "The floor must be a whole number, not “two”."
        in client.get(address, params={"floor": "two"}).text
    )
    assert "too large" not in client.get(address, params={"floor": "0000000000003"}).text


def test_the_job_names_its_data_set(scenario: Scenario, client: TestClient) -> None:
    images = scenario.training_images()
    scenario.decide([image.id for image in images[:3]])
    client.post(f"/reviews/{scenario.review_id}/clean", data={"floor": "", "fresh_seeds": "3"})
    with scenario.database.transaction(write=False) as session:
        name = session.get_one(DataSet, scenario.data_set_id).name
        assert (
            session.scalar(select(Job.title).where(Job.kind == "cleanse"))
            == f"Clean {name} and retrain: 3 removed, 0 relabelled"
        )


def test_too_few_images_to_be_measured_are_said_to_be_that(
    scenario: Scenario, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.decide([scenario.training_images()[0].id])
    address, sentence = (
        f"/reviews/{scenario.review_id}/clean",
        "So few images hardly change what a model learns",
    )
    assert sentence not in client.get(address).text  # 1 of 160
    monkeypatch.setattr("backend.cleansing.pages.FEW", 0.01)
    assert sentence in client.get(address).text


def test_how_long_the_trainings_take_is_said_before_they_start(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide([scenario.training_images()[0].id])
    address = f"/reviews/{scenario.review_id}/clean"
    assert "at the pace of your training" not in client.get(address).text
    with scenario.database.transaction() as session:
        session.get_one(Run, scenario.run_id).report = {"seconds": 60.0}
    # The run's own results are there: 2 trainings with its seed, and 3 for each of 5 fresh starts.
    assert (
        "With 5 fresh starts this takes about 17 min, at the pace of your training."
        in client.get(address).text
    )


def test_new_labels_alone_are_compared_with_the_old_ones_and_with_no_random_removal(
    scenario: Scenario, client: TestClient
) -> None:
    image = scenario.training_images()[0]
    scenario.decide([image.id], "relabel", label=(image.label + 1) % 4)
    with scenario.database.transaction() as session:
        session.get_one(Run, scenario.run_id).report = {"seconds": 60.0}
    text = client.get(f"/reviews/{scenario.review_id}/clean").text
    assert "trained again with the new labels and, for comparison, with the old labels." in text
    # The run's own results are there: 1 training with its seed, and 2 for each of 5 fresh starts.
    assert "With 5 fresh starts this takes about 11 min, at the pace of your training." in text
    assert '<span aria-hidden="true">−1</span>' in text
    assert '<span aria-hidden="true">+1</span>' in text
