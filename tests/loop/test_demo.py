"""`winnow demo` and `make loop` as a user starts them: output, kept state, nothing left running."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.running import COMMAND, ROOT, wait_until

pytestmark = pytest.mark.slow

DEMO = (*COMMAND, "demo")
LOOP = (sys.executable, "-m", "benchmarks.loop")
MARK = "WINNOW_TESTS_STARTED_THIS"
FIGURES = ["before", "cleaned", "random", "difference", "ci95"]
QUESTION = {"accuracy": FIGURES, "loss": FIGURES}
PROMISED = {
    "data_set": None,
    "planted": None,
    "removed": None,
    "found": None,
    "same_seed": QUESTION,
    "fresh_seeds": QUESTION,
    "seconds": ["train", "score", "retrain", "total"],
}


class Demo:
    """A command in its own session, as a terminal starts it.

    Its environment marks all its descendants.
    """

    def __init__(self, scratch: Path, *command: str, **environment: str) -> None:
        self.scratch = scratch
        self.mark = uuid.uuid4().hex
        self.output, self.errors = scratch / f"{self.mark}.out", scratch / f"{self.mark}.err"
        temporary = scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        known = {
            name: value for name, value in os.environ.items() if not name.startswith("WINNOW_")
        }
        own = {MARK: self.mark, "TMPDIR": str(temporary), **environment}
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=known | own,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def printed(self) -> list[str]:
        return self.output.read_text().splitlines()

    @property
    def said(self) -> str:
        return self.errors.read_text()

    def running(self) -> list[list[str]]:
        """List the command lines of its living processes, including orphans."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process.cmdline())
            except psutil.Error:
                continue
        return found

    def wait_for_link(self, seconds: float) -> str:
        """The login link, once it is printed."""
        wait_until(
            lambda: bool(self.printed) or self.process.poll() is not None,
            seconds,
            f"the link; it says {self.said}",
        )
        assert self.printed, self.said
        return self.printed[0]

    def interrupt(self) -> int:
        """Send Ctrl-C to the foreground group, like a terminal; returns the exit status.

        Broker, web and worker end within ten seconds; the supervisor may still be deleting files.
        """
        os.killpg(self.process.pid, signal.SIGINT)
        wait_until(lambda: len(self.running()) <= 1, 10, "broker, web and worker to end")
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its children die with it
            self.process.wait()
        print(self.said[-3000:])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """start(*command, **environment): a process that ends with the test at the latest."""
    started: list[Demo] = []

    def starter(*command: str, **environment: str) -> Demo:
        started.append(Demo(tmp_path, *command, **environment))
        return started[-1]

    yield starter
    for demo in started:
        demo.close()


def a_browser() -> httpx2.Client:
    return httpx2.Client(trust_env=False)


def press_sign_in(browser: httpx2.Client, link: str) -> httpx2.Response:
    """Press the button of a login link's page, like a person."""
    home, _, token = link.partition("?token=")
    assert "This link signs you in, once." in browser.get(link).text
    own_page = {"Sec-Fetch-Site": "same-origin"}
    return browser.post(f"{home}login", data={"token": token}, headers=own_page)


def keys(value: Any) -> Any:
    """The names in a JSON object, as deep as they go; a list where nothing lies below them."""
    if not isinstance(value, dict):
        return None
    below = {name: keys(inner) for name, inner in value.items()}
    return below if any(below.values()) else list(below)


@pytest.mark.timeout(1000)
def test_the_unattended_loop_by_default_finds_the_errors_gains_accuracy_and_leaves_nothing(
    start: Any, tmp_path: Path
) -> None:
    """90 % of the planted errors lie in the first 20 % of the default queue."""
    demo = start(*LOOP)
    wait_until(lambda: len(demo.running()) >= 4, 30, "supervisor, broker, web and worker")
    assert demo.process.wait(900) == 0  # about a minute on an idle machine
    assert demo.running() == []
    assert list((tmp_path / "tmp").glob("winnow-*")) == []
    result = json.loads(demo.printed[-1])
    assert keys(result) == PROMISED
    assert list(result) == list(PROMISED)
    assert result["found"] == result["removed"] >= 0.9 * result["planted"] > 0
    assert result["fresh_seeds"]["accuracy"]["difference"] >= 0.01
    for question in ("same_seed", "fresh_seeds"):
        accuracy, loss = result[question]["accuracy"], result[question]["loss"]
        assert all(0 <= accuracy[arm] <= 1 for arm in ("before", "cleaned", "random"))
        for figures in (accuracy, loss):
            assert figures["difference"] == pytest.approx(figures["cleaned"] - figures["before"])
            assert figures["ci95"][0] <= figures["difference"] <= figures["ci95"][1]
    seconds = result["seconds"]
    assert seconds["total"] >= seconds["train"] + seconds["score"] + seconds["retrain"] > 0


def test_a_step_that_fails_ends_the_unattended_loop_with_its_reason(
    start: Any, tmp_path: Path
) -> None:
    demo = start(*LOOP, "--epochs", "1", "--learning-rate", "100")
    assert demo.process.wait(120) == 1
    assert demo.printed == []
    assert "The training diverged in epoch 1" in " ".join(demo.said.split())
    assert demo.running() == []
    assert list((tmp_path / "tmp").glob("winnow-*")) == []


def test_an_interrupted_unattended_loop_leaves_nothing(start: Any, tmp_path: Path) -> None:
    demo = start(*LOOP, "--epochs", "500")
    wait_until(lambda: "Import" in demo.said, 60, "the import to be over")
    assert demo.interrupt() == 130
    assert demo.printed == []
    assert demo.running() == []
    assert list((tmp_path / "tmp").glob("winnow-*")) == []


def test_the_demo_prints_one_link_and_a_second_start_keeps_all_state(
    start: Any, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first = start(*DEMO, "--port", "0", WINNOW_HOME=str(home))
    link = first.wait_for_link(120)
    with a_browser() as browser, a_browser() as another:
        assert press_sign_in(browser, link).headers["location"] == "/datasets"
        assert another.get(link).status_code == 401
        assert "used already" in another.get(link).text
        page = browser.get(link.split("?")[0] + "datasets").text
        assert "Handwritten digits (sample)" in page
        review = browser.get(link.split("?")[0] + "reviews/1").text
        assert "Which of these images do not belong?" in review
    assert len(first.printed) == 1
    assert first.interrupt() == 0
    assert first.running() == []

    second = start(*DEMO, "--port", "0", WINNOW_HOME=str(home))
    link = second.wait_for_link(120)
    with a_browser() as browser:
        press_sign_in(browser, link)
        base = link.split("?")[0]
        jobs = browser.get(f"{base}api/v1/jobs").json()["items"]  # nothing was done again
        assert [(job["kind"], job["state"], job["attempts"]) for job in jobs] == [
            (k, "done", 1) for k in ("score", "train", "import")
        ]
        assert (
            browser.get(f"{base}reviews/1").text.count('class="tile"')
            == review.count('class="tile"')
            > 0
        )
    assert second.interrupt() == 0
    assert second.running() == []


def test_a_port_in_use_is_one_clear_sentence(start: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(*DEMO, "--port", str(port), WINNOW_HOME=str(tmp_path / "home"))
        assert demo.process.wait(30) == 1
    expected = (
        f"Port {port} on 127.0.0.1 is in use by another program. Stop it, or choose another "
        f"port: PORT={port + 1}"
    )
    assert demo.said.split() == expected.split()
    assert demo.printed == []
    assert demo.running() == []
