"""The worker's log: each line has its time, and an outage is a line, no traceback."""

import logging
import re

import pytest

from worker import logs


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.set_up()
    lines: list[str] = []
    try:
        logging.getLogger("worker.jobs").info("Job %s (%s) done after %.1f s", 7, "Train", 12.0)
        logging.getLogger("celery.app.trace").info("Task winnow.perform succeeded in 12 s")
        try:
            raise ConnectionError("Connection closed by server.")
        except ConnectionError:
            logging.getLogger("celery.worker.consumer.consumer").warning(
                "\nconsumer: Connection to broker lost.\n", exc_info=True
            )
        try:
            raise KeyError("a fault of ours")
        except KeyError:
            logging.getLogger("worker.jobs").exception("Job 8 failed unexpectedly")
        lines += capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(capture=False)
    return lines


def test_each_event_has_its_time_and_a_job_its_true_end(written: list[str]) -> None:
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d [\d:,]+ INFO Job 7 \(Train\) done after 12.0 s", written[0]
    )
    assert not any("succeeded" in line for line in written)


def test_a_lost_broker_is_a_single_line_and_a_fault_of_ours_has_its_traceback(
    written: list[str],
) -> None:
    (lost,) = [line for line in written if "broker" in line]
    assert lost.endswith("Connection to broker lost. (Connection closed by server.)")
    assert "Connection closed" not in "\n".join(line for line in written if line != lost)
    assert "KeyError: 'a fault of ours'" in written
