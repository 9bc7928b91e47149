"""The whole loop over REST; its figures are computed again from the API's downloads."""

import csv
import io
import math
import statistics
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import pyarrow.parquet
import pytest
from sqlalchemy import select

from backend.core.models import Image
from tests.loop.api import Api, Json
from tests.running import Winnow

pytestmark = pytest.mark.slow
# The computing does not depend on the servers, so it is walked to its end on one pair of them: on
# PostgreSQL and Redis, as the tests of the backend, the tour in the docs and `winnow demo` run on
# what is built in.
WALKED_ONCE = pytest.mark.parametrize(
    "winnow", [pytest.param("servers", marks=pytest.mark.postgres)], indirect=True
)

EPOCHS = 3
LOOK = 0.2  # share of the queue that the reviewer looks at
PAGE = 97  # no divisor of the number of images: the last page is short
STUDENT_T = 4.302652729911275  # the 97.5 % quantile with 2 degrees of freedom, from a printed table


@pytest.fixture(scope="module")
def data_set(api: Api) -> Json:
    """The sample, imported."""
    made = api.post(
        "/data-sets", {"name": "Digits", "source": {"kind": "sample"}, "seed": 4}, status=202
    )
    assert made["state"] == "importing"
    api.follow(made["job"])
    return dict(api.get(f"/data-sets/{made['id']}"))


@pytest.fixture(scope="module")
def planted(api: Api, data_set: Json) -> set[int]:
    return set(api.get(f"/data-sets/{data_set['id']}/planted")["image_ids"])


@dataclass
class Watched:
    """A training, and a program's view of it while it ran."""

    run: Json
    jobs: list[Json] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def watched(api: Api, data_set: Json) -> Watched:
    made = api.post(f"/data-sets/{data_set['id']}/runs", {"epochs": EPOCHS, "seed": 11}, status=202)
    seen = Watched(made)
    for job in api.watch(made["job"]["id"]):
        seen.jobs.append(job)
        seen.run = api.get(f"/runs/{made['id']}")
        seen.epochs.append(len(seen.run["epochs"]))
    assert seen.jobs[-1]["state"] == "done", seen.jobs[-1]["error"]
    return seen


@pytest.fixture(scope="module")
def review(api: Api, watched: Watched) -> Json:
    """A review with a full queue and no decision."""
    made = api.post(f"/runs/{watched.run['id']}/reviews", status=202)
    api.follow(made["job"])
    return dict(api.get(f"/reviews/{made['id']}"))


@pytest.fixture(scope="module")
def queue(api: Api, review: Json) -> list[Json]:
    """The whole default queue, from its pages."""
    pages = api.pages(f"/reviews/{review['id']}/suggestions", limit=PAGE)
    assert {len(page) for page in pages[:-1]} == {PAGE}
    return [card for page in pages for card in page]


@pytest.fixture(scope="module")
def table(api: Api, watched: Watched, review: Json) -> list[dict[str, str]]:
    """The scores as CSV."""
    text = api.send("GET", f"/runs/{watched.run['id']}/scores.csv").text
    return list(csv.DictReader(io.StringIO(text, newline="")))


@dataclass
class Decided:
    """The reviewer's acts, and the API's answers."""

    removed: list[int]
    relabelled: Json  # the card, as it was
    kept: list[int]
    answers: dict[str, Json] = field(default_factory=dict)


@pytest.fixture(scope="module")
def decided(
    api: Api, review: Json, queue: list[Json], planted: set[int], table: list[dict[str, str]]
) -> Decided:
    """Remove the planted errors among the first, relabel one as the model sees it, keep the rest.

    table: downloaded first, before any decision.
    """
    first = queue[: math.ceil(LOOK * len(queue))]
    wrong = [card for card in first if card["image_id"] in planted]
    relabelled = next(card for card in wrong if card["predicted"] != card["label"])
    removed = [card["image_id"] for card in wrong if card is not relabelled]
    done = Decided(
        removed, relabelled, [card["image_id"] for card in first if card["image_id"] not in planted]
    )
    path, key = f"/reviews/{review['id']}", str(uuid.uuid4())

    def bulk(action: str, image_ids: list[int], client_key: str) -> Json:
        return api.post(
            f"{path}/decisions/bulk",
            {"client_key": client_key, "action": action, "image_ids": image_ids},
        )

    new_label = {
        "image_id": relabelled["image_id"],
        "action": "relabel",
        "label": relabelled["predicted"],
    }
    done.answers["remove"] = bulk("remove", removed, key)
    done.answers["repeated"] = bulk("remove", removed, key)
    done.answers["relabel"] = api.post(
        f"{path}/decisions", {"client_key": str(uuid.uuid4()), **new_label}
    )
    done.answers["by mistake"] = bulk("unsure", done.kept, str(uuid.uuid4()))
    done.answers["undo"] = api.post(f"{path}/undo", {"client_key": str(uuid.uuid4())})
    done.answers["keep"] = bulk("keep", done.kept, str(uuid.uuid4()))
    return done


@pytest.fixture(scope="module")
def dry_run(api: Api, review: Json, decided: Decided) -> Json:
    return dict(api.get(f"/reviews/{review['id']}/dry-run"))


@dataclass
class Cleaned:
    """A measured cleansing, and a program's earlier view of it."""

    cleansing: Json
    early: Json


@pytest.fixture(scope="module")
def cleaned(api: Api, review: Json, dry_run: Json) -> Cleaned:
    early = api.post(f"/reviews/{review['id']}/cleansings", {"fresh_seeds": 3}, status=202)
    assert "not finished" in api.post(f"/cleansings/{early['id']}/accept", status=409)["detail"]
    api.follow(early["job"])
    return Cleaned(api.get(f"/cleansings/{early['id']}"), early)


@pytest.fixture(scope="module")
def accepted(api: Api, data_set: Json, cleaned: Cleaned) -> Json:
    """The data set after the cleaned version is accepted."""
    for _ in range(2):  # the second time changes nothing
        assert api.post(f"/cleansings/{cleaned.cleansing['id']}/accept")["state"] == "accepted"
    return dict(api.get(f"/data-sets/{data_set['id']}"))


@dataclass
class SecondRound:
    """A second round from the accepted version: its queue, and a measured cleansing."""

    run: Json
    queue: list[Json]
    cleansing: Json


@pytest.fixture(scope="module")
def second(api: Api, accepted: Json) -> SecondRound:
    run = api.post(f"/data-sets/{accepted['id']}/runs", {"epochs": 1, "seed": 12}, status=202)
    api.follow(run["job"])
    review = api.post(f"/runs/{run['id']}/reviews", {"method": "final_params"}, status=202)
    api.follow(review["job"])
    queue = [
        card
        for page in api.pages(f"/reviews/{review['id']}/suggestions", limit=500)
        for card in page
    ]
    worst = [card["image_id"] for card in queue[:5]]
    api.post(
        f"/reviews/{review['id']}/decisions/bulk",
        {"client_key": "worst", "action": "remove", "image_ids": worst},
    )
    cleansing = api.post(f"/reviews/{review['id']}/cleansings", status=202)
    api.follow(cleansing["job"])
    return SecondRound(
        api.get(f"/runs/{run['id']}"), queue, api.get(f"/cleansings/{cleansing['id']}")
    )


def test_a_token_made_over_rest_works_until_it_is_revoked(winnow: Winnow) -> None:
    made = winnow.client.post("/tokens", json={"name": "for a moment"}).json()
    with Api(winnow.address, made["secret"]) as program:
        assert program.get("/me")["name"] == "Olga"
        program.send("DELETE", f"/tokens/{made['id']}", status=204)
        problem = program.send("GET", "/me", status=401)
    assert problem.headers["content-type"] == "application/problem+json"


def test_the_servers_that_the_settings_name_are_the_ones_in_use(
    winnow: Winnow, data_set: Json
) -> None:
    built_in = not winnow.settings.database_url
    assert (winnow.home / "winnow.db").exists() == built_in
    assert winnow.settings.broker_socket.exists() == built_in
    assert winnow.database.engine.dialect.name == ("sqlite" if built_in else "postgresql")


def test_the_import_says_what_it_found(api: Api, data_set: Json, planted: set[int]) -> None:
    counts = data_set["counts"]
    train = sum(counts["train"].values())
    assert (data_set["state"], data_set["image_count"]) == ("ready", 1797)
    assert sum(sum(classes.values()) for classes in counts.values()) == 1797
    assert [
        round(sum(counts[split].values()) / 1797, 2) for split in ("train", "validation", "test")
    ] == [0.70, 0.15, 0.15]
    assert all(
        sorted(classes) == list("0123456789") and min(classes.values()) > 0
        for classes in counts.values()
    )
    assert data_set["planted_count"] == len(planted) == round(0.08 * train)
    (only,) = api.get(f"/data-sets/{data_set['id']}/versions")
    assert (only["id"], only["number"], only["parent_id"]) == (
        data_set["current_version_id"],
        1,
        None,
    )


def test_a_training_can_be_followed_while_it_runs(api: Api, watched: Watched) -> None:
    done = [job["progress_done"] for job in watched.jobs]
    assert done == sorted(done)
    assert any(0 < job["progress_done"] < job["progress_total"] for job in watched.jobs)
    assert any(0 < epochs < EPOCHS for epochs in watched.epochs)
    assert watched.epochs == sorted(watched.epochs)
    lines = [line["message"] for line in api.get(f"/jobs/{watched.run['job']['id']}/log")["items"]]
    assert [line for line in lines if line.startswith(f"Epoch {EPOCHS} of {EPOCHS}: training loss")]
    assert lines[-1] == "Done."


def test_a_finished_training_has_each_epoch_and_its_hash(watched: Watched) -> None:
    epochs = watched.run["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1))
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[-1]["validation_accuracy"] > 0.5
    assert watched.run["params_hash"] == epochs[-1]["params_hash"]
    assert len({epoch["params_hash"] for epoch in epochs}) == EPOCHS


def test_the_pages_of_the_queue_show_each_image_once(data_set: Json, queue: list[Json]) -> None:
    assert [card["rank"] for card in queue] == list(range(1, len(queue) + 1))
    assert (
        len({card["image_id"] for card in queue})
        == len(queue)
        == sum(data_set["counts"]["train"].values())
    )


def test_the_pages_can_be_gone_through_backwards(api: Api, review: Json, queue: list[Json]) -> None:
    path, before, ranks = f"/reviews/{review['id']}/suggestions", len(queue) + 1, []
    while before is not None:
        page = api.get(path, before=before, limit=500)
        ranks = [card["rank"] for card in page["items"]] + ranks
        before = int(page["previous"]) if page["previous"] else None
    assert ranks == list(range(1, len(queue) + 1))


def take_in_turn(one: list[int], other: list[int]) -> list[int]:
    """Take from both lists in turn, without repeats."""
    return list(
        dict.fromkeys(image_id for pair in zip(one, other, strict=True) for image_id in pair)
    )


def test_the_default_queue_is_the_two_rankings_taken_in_turn(
    table: list[dict[str, str]], queue: list[Json]
) -> None:
    rankings = [
        [
            int(row["image_id"])
            for row in sorted(table, key=lambda row: (float(row[score]), int(row["image_id"])))
        ]
        for score in ("score", "margin")
    ]
    assert [card["image_id"] for card in queue] == take_in_turn(*rankings)
    assert rankings[0] != rankings[1]


def test_a_single_ranking_can_be_asked_for_alone(
    api: Api, review: Json, table: list[dict[str, str]]
) -> None:
    for order, score in (("accuracy", "score"), ("label", "margin")):
        cards = api.get(f"/reviews/{review['id']}/suggestions", order=order, limit=50)["items"]
        lowest = sorted(float(row[score]) for row in table)[:50]
        assert [card[f"{order}_value"] for card in cards] == lowest


def test_the_downloads_agree_with_each_other_and_with_the_queue(
    api: Api, watched: Watched, review: Json, table: list[dict[str, str]], queue: list[Json]
) -> None:
    content = api.send("GET", f"/runs/{watched.run['id']}/scores.parquet").content
    typed = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    for text, row, card in zip(table, typed, queue, strict=True):
        assert list(text) == list(row)
        assert {name: str(value) for name, value in row.items() if name != "decision"} == {
            n: v for n, v in text.items() if n != "decision"
        }
        assert (row["image_id"], row["queue_position"]) == (card["image_id"], card["position"])
        assert (row["score"], row["margin"]) == (card["accuracy_value"], card["label_value"])


def test_every_method_says_what_it_costs_and_means(api: Api, watched: Watched) -> None:
    methods = {one["name"]: one for one in api.get(f"/runs/{watched.run['id']}/methods")}
    assert len(methods) >= 13
    for name, one in methods.items():
        assert one["meaning"].endswith("."), name
        assert one["costs"]["last_epoch"]["seconds"] > 0, name
        assert one["costs"]["all_epochs"]["passes"] >= one["costs"]["last_epoch"]["passes"], name


def test_why_an_image_is_suggested_is_there_for_the_first_and_comes_for_others(
    api: Api, data_set: Json, review: Json, queue: list[Json]
) -> None:
    first = api.get(f"/reviews/{review['id']}/images/{queue[0]['image_id']}/why")
    assert first["state"] == "ready"
    last = f"/reviews/{review['id']}/images/{queue[-1]['image_id']}/why"
    assert api.get(last)["state"] == "none"
    assert api.send("POST", last, status=202).json()["state"] == "waiting"
    deadline = time.monotonic() + 120
    while (found := api.get(last))["state"] != "ready":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    shown = first["worse"] + first["better"]
    assert shown != found["worse"] + found["better"]
    assert not {one["image_id"] for one in shown} & {
        card["image_id"] for card in queue
    }  # validation, not training


def test_most_planted_errors_lie_in_front(
    queue: list[Json], planted: set[int], decided: Decided
) -> None:
    found = len(decided.removed) + 1
    # Three epochs are few; by chance, a fifth of the queue would hold a fifth of them.
    assert found >= 0.7 * len(planted)


def test_a_repeated_decision_changes_nothing(decided: Decided) -> None:
    first, again = decided.answers["remove"], decided.answers["repeated"]
    assert first["count"] == again["count"] == len(decided.removed)
    assert again["last_change"] == first["last_change"]
    assert again["progress"] == first["progress"]
    assert first["progress"]["remove"] == first["progress"]["mine"] == len(decided.removed)


def test_an_undo_takes_back_one_whole_act_and_nothing_else(decided: Decided) -> None:
    before, mistake, undone = (
        decided.answers[name]["progress"] for name in ("relabel", "by mistake", "undo")
    )
    assert mistake["unsure"] == len(decided.kept)
    assert decided.answers["undo"]["count"] == len(decided.kept)
    figures = ("remove", "keep", "relabel", "unsure", "decided")
    assert [undone[name] for name in figures] == [before[name] for name in figures]


def test_decisions_stand_on_the_cards_and_in_the_downloads(
    api: Api, watched: Watched, review: Json, decided: Decided
) -> None:
    expected = (
        dict.fromkeys(decided.removed, "remove")
        | dict.fromkeys(decided.kept, "keep")
        | {decided.relabelled["image_id"]: "relabel"}
    )
    pages = api.pages(f"/reviews/{review['id']}/suggestions", decision="decided", limit=500)
    assert {
        card["image_id"]: card["decision"]["action"] for page in pages for card in page
    } == expected
    text = api.send("GET", f"/runs/{watched.run['id']}/scores.csv").text
    rows = csv.DictReader(io.StringIO(text, newline=""))
    assert {int(row["image_id"]): row["decision"] for row in rows if row["decision"]} == expected


def test_a_decision_on_an_image_that_does_not_exist_is_refused(
    api: Api, review: Json, decided: Decided
) -> None:
    body = {"client_key": "nowhere", "action": "remove", "image_id": 10**9}
    assert (
        "no such image"
        in api.post(f"/reviews/{review['id']}/decisions", body, status=404)["detail"]
    )


def test_the_dry_run_counts_class_by_class(
    data_set: Json, queue: list[Json], decided: Decided, dry_run: Json
) -> None:
    labels = {card["image_id"]: card["label_name"] for card in queue}
    leaving = Counter(labels[image_id] for image_id in decided.removed)
    moved = decided.relabelled
    assert dry_run["refusal"] is None
    assert (dry_run["removed"], dry_run["relabelled"], dry_run["held_back"]) == (
        len(decided.removed),
        1,
        [],
    )
    for row in dry_run["classes"]:
        name, before = row["name"], data_set["counts"]["train"][row["name"]]
        away, here = int(name == moved["label_name"]), int(name == moved["predicted_name"])
        assert (row["before"], row["removed"], row["after"]) == (
            before,
            leaving[name],
            before - leaving[name] - away + here,
        )


def test_a_floor_that_is_too_high_holds_images_back_and_says_so(
    api: Api, review: Json, dry_run: Json
) -> None:
    held = api.get(f"/reviews/{review['id']}/dry-run", floor=100_000)
    assert (held["removed"], len(held["held_back"])) == (0, dry_run["removed"] + 1)
    assert held["refusal"].startswith("The floor keeps every image")


@WALKED_ONCE
def test_nothing_is_current_before_it_is_accepted(cleaned: Cleaned) -> None:
    assert cleaned.early["state"] in ("queued", "running")
    assert cleaned.early["verdict"] is None
    assert cleaned.cleansing["state"] == "measured"


@WALKED_ONCE
def test_every_arm_of_every_seed_is_really_trained(watched: Watched, cleaned: Cleaned) -> None:
    trainings = cleaned.cleansing["trainings"]
    seeds = {"same_seed": [11], "fresh_seeds": cleaned.cleansing["fresh_seeds"]}
    expected = [
        (protocol, arm, seed)
        for protocol in seeds
        for seed in seeds[protocol]
        for arm in ("before", "cleaned", "random")
    ]
    assert Counter((one["protocol"], one["arm"], one["seed"]) for one in trainings) == Counter(
        expected
    )
    assert len(set(cleaned.cleansing["fresh_seeds"]) - {11}) == 3
    assert {one["state"] for one in trainings} == {"done"}
    hashes = {(one["protocol"], one["arm"], one["seed"]): one["params_hash"] for one in trainings}
    assert hashes["same_seed", "before", 11] == watched.run["params_hash"]
    assert len(set(hashes.values())) == len(trainings)


@WALKED_ONCE
def test_the_verdict_counts_what_was_removed_and_found(
    planted: set[int], decided: Decided, cleaned: Cleaned
) -> None:
    verdict = cleaned.cleansing["verdict"]
    assert verdict["planted"] == len(planted)
    assert (verdict["removed"], verdict["relabelled"]) == (len(decided.removed), 1)
    assert verdict["found"] == len(decided.removed) + 1


@WALKED_ONCE
@pytest.mark.parametrize("measure", ["accuracy", "loss"])
def test_the_verdicts_interval_follows_from_its_runs(cleaned: Cleaned, measure: str) -> None:
    fresh = cleaned.cleansing["verdict"]["fresh_seeds"]
    values = {(run["seed"], run["arm"]): run[measure] for run in fresh["runs"]}
    arms = {
        arm: [values[seed, arm] for seed in fresh["seeds"]]
        for arm in ("before", "cleaned", "random")
    }
    differences = [
        after - before for before, after in zip(arms["before"], arms["cleaned"], strict=True)
    ]
    mean, half = (
        statistics.mean(differences),
        STUDENT_T * statistics.stdev(differences) / math.sqrt(3),
    )
    figures = fresh[measure]
    assert {arm: figures[arm] for arm in arms} == pytest.approx(
        {arm: statistics.mean(ones) for arm, ones in arms.items()}
    )
    assert figures["difference"] == pytest.approx(mean)
    assert figures["ci95_seeds"] == pytest.approx([mean - half, mean + half])
    both = (figures["ci95_seeds"], figures["ci95_images"])
    assert figures["ci95"] == [min(low for low, _ in both), max(high for _, high in both)]
    assert figures["ci95"][0] <= figures["difference"] <= figures["ci95"][1]


@WALKED_ONCE
@pytest.mark.parametrize("measure", ["accuracy", "loss"])
def test_the_verdicts_figures_are_those_of_its_trainings(cleaned: Cleaned, measure: str) -> None:
    verdict, trainings = cleaned.cleansing["verdict"], cleaned.cleansing["trainings"]
    for protocol in ("same_seed", "fresh_seeds"):
        for arm in ("before", "cleaned", "random"):
            measured = [
                one[f"test_{measure}"]
                for one in trainings
                if (one["protocol"], one["arm"]) == (protocol, arm)
            ]
            assert verdict[protocol][measure][arm] == pytest.approx(statistics.mean(measured))
        figures = verdict[protocol][measure]
        assert figures["difference"] == pytest.approx(figures["cleaned"] - figures["before"])


@WALKED_ONCE
def test_the_sentence_says_what_the_figures_say(cleaned: Cleaned) -> None:
    verdict = cleaned.cleansing["verdict"]
    accuracy = verdict["fresh_seeds"]["accuracy"]
    assert (
        f"{100 * accuracy['before']:.1f} % → {100 * accuracy['cleaned']:.1f} %"
        in verdict["sentence"]
    )
    # So many wrong labels make the answers unsure; without them the loss falls clearly.
    assert verdict["fresh_seeds"]["loss"]["difference"] < 0
    assert verdict["judgement"] in ("improved", "no_measurable_change")


@WALKED_ONCE
def test_the_accepted_version_is_the_current_one(
    api: Api, data_set: Json, decided: Decided, cleaned: Cleaned, accepted: Json
) -> None:
    assert accepted["current_version_id"] == cleaned.cleansing["version_id"]
    assert sum(accepted["counts"]["train"].values()) == sum(
        data_set["counts"]["train"].values()
    ) - len(decided.removed)
    assert accepted["counts"]["test"] == data_set["counts"]["test"]
    versions = {
        version["id"]: version for version in api.get(f"/data-sets/{data_set['id']}/versions")
    }
    new = versions[accepted["current_version_id"]]
    assert (new["parent_id"], new["state"]) == (data_set["current_version_id"], "accepted")
    assert (new["removed_count"], new["relabelled_count"]) == (len(decided.removed), 1)


@WALKED_ONCE
def test_the_old_review_can_make_no_second_version(api: Api, review: Json, accepted: Json) -> None:
    problem = api.post(f"/reviews/{review['id']}/cleansings", status=409)
    assert problem["detail"].startswith(
        "Version 2 was accepted, and this review began from version 1."
    )


@WALKED_ONCE
def test_the_second_round_goes_on_without_the_removed_images(
    winnow: Winnow, data_set: Json, decided: Decided, accepted: Json, second: SecondRound
) -> None:
    left = sum(data_set["counts"]["train"].values()) - len(decided.removed)
    assert second.run["version_id"] == accepted["current_version_id"]
    assert second.run["report"]["training_images"] == len(second.queue) == left
    cards = {card["image_id"]: card for card in second.queue}
    assert not cards.keys() & set(decided.removed)
    moved = decided.relabelled
    assert cards[moved["image_id"]]["label"] == moved["predicted"]
    # The API never gives an image's true label; the database does.
    ((truth,),) = winnow.rows(select(Image.true_label).where(Image.id == moved["image_id"]))
    mended = int(truth == moved["predicted"])
    assert (
        second.cleansing["verdict"]["planted"]
        == data_set["planted_count"] - len(decided.removed) - mended
    )


@WALKED_ONCE
def test_a_roll_back_leads_to_the_version_before(
    api: Api, cleaned: Cleaned, accepted: Json, second: SecondRound
) -> None:
    path, first = f"/cleansings/{second.cleansing['id']}", f"/cleansings/{cleaned.cleansing['id']}"

    def current() -> int:
        return int(api.get(f"/data-sets/{accepted['id']}")["current_version_id"])

    api.post(f"{path}/accept")
    assert current() == second.cleansing["version_id"]
    assert (
        "later version builds on this one" in api.post(f"{first}/roll-back", status=409)["detail"]
    )
    for _ in range(2):  # the second time changes nothing
        assert api.post(f"{path}/roll-back")["state"] == "rolled_back"
        assert current() == accepted["current_version_id"]
    assert api.post(f"{path}/accept")["state"] == "accepted"
    assert current() == second.cleansing["version_id"]


# Last, because downloads are of the newest scoring.
@WALKED_ONCE
def test_an_average_is_made_by_jobs_of_its_own_and_finds_the_planted_errors(
    api: Api, watched: Watched, planted: set[int]
) -> None:
    made = api.post(
        f"/runs/{watched.run['id']}/reviews",
        {"method": "marginal_influence", "runs": 3},
        status=202,
    )
    assert (made["job"], len(made["members"])) == (None, 3)
    address, deadline = f"/reviews/{made['id']}", time.monotonic() + 240
    while (now := api.get(address))["state"] != "ready":
        assert time.monotonic() < deadline, now
        assert {one["job"]["state"] for one in now["members"]} <= {"queued", "running", "done"}, now
        time.sleep(0.2)
    assert (
        len({one["run_id"] for one in now["members"]})
        == len({one["seed"] for one in now["members"]})
        == 3
    )
    (scoring,) = [
        one
        for review in api.get(f"/runs/{watched.run['id']}/reviews")["items"]
        if review["id"] == made["id"]
        for one in review["scorings"]
        if one["method"] == "marginal_influence"
    ]
    assert scoring["report"]["runs"] == 3
    assert any("The 3 runs agree" in sentence for sentence in scoring["report"]["trust"])
    first = api.get(f"{address}/suggestions", order="accuracy", limit=len(planted))["items"]
    assert len([card for card in first if card["image_id"] in planted]) > len(planted) / 3
