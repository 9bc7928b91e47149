"""A run of small digits that its own job has trained."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.core import queue
from backend.core.models import Job, Run
from backend.runs.schemas import RunOptions
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import work

SMALL: dict[str, Any] = {"network": "mnist", "epochs": 2, "learning_rate": 0.05, "batch_size": 32}


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario with a trained run; copied by each test."""
    home = tmp_path_factory.mktemp("trained")
    scenario = Scenario(home, flips=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "send", lambda *_: None)
        with scenario.database.transaction() as session:
            run = session.get_one(Run, scenario.run_id)
            run.recipe = RunOptions(**SMALL).recipe()
            job = Job(kind="train", title="Train", subject_id=run.id, data_set_id=run.data_set_id)
            session.add(job)
            session.flush()
            run.job_id = job.id
        work(scenario, job.id)
    scenario.close()
    return home


@pytest.fixture
def trained(
    trained_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scenario]:
    """The scenario, where messages are dropped: the job rows are the truth."""
    monkeypatch.setattr(queue, "send", lambda *_: None)
    home = tmp_path / "home"
    shutil.copytree(trained_home, home)
    scenario = Scenario.reopen(home)
    yield scenario
    scenario.close()
