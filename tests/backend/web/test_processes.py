"""Several web processes on one address: they share the work, and none is left behind."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx2
import psutil
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from backend import migrations
from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.models import Decision, Review, Suggestion
from backend.core.settings import Settings
from backend.web.connections import Limits
from tests.reviewing import a_ready_review, images_of
from tests.serving import Served, served

DECISIONS = 40


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(home=tmp_path, web_processes=2)
    migrations.upgrade(found)
    return found


@pytest.fixture
def web(settings: Settings) -> Iterator[Served]:
    with served(settings, WINNOW_WEB_PROCESSES="2") as made:
        wait_until(lambda: len(serving(made)) == 2, "both processes")
        yield made


def serving(web: Served) -> list[psutil.Process]:
    """List the processes that have opened the database: those that answer."""
    found = []
    for child in web.process.children():
        with suppress(psutil.NoSuchProcess):
            if any("winnow.db" in file.path for file in child.open_files()):
                found.append(child)
    return found


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def is_well(web: Served) -> bool:
    return httpx2.get(f"{web.address}/health", timeout=30, trust_env=False).is_success


def running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_a_process_that_is_killed_starts_again_and_the_other_answers_meanwhile(web: Served) -> None:
    first, second = serving(web)
    first.kill()
    assert is_well(web)
    wait_until(lambda: len(serving(web)) == 2, "the next process")
    assert second in serving(web)
    assert b"by signal 9" in web.log.read_bytes()


@pytest.mark.slow
def test_a_signal_ends_every_process(web: Served) -> None:
    both = serving(web)
    web.process.terminate()
    assert web.process.wait(20) == 0
    assert not any(running(one) for one in both)


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_is_killed(web: Served) -> None:
    both = serving(web)
    os.kill(web.process.pid, signal.SIGKILL)
    wait_until(lambda: not any(running(one) for one in both), "the processes' end")


@pytest.mark.slow
def test_decisions_of_several_processes_are_all_kept_and_numbered_without_gaps(
    settings: Settings, web: Served
) -> None:
    database = Database(settings.database)
    with database.transaction() as session:
        user = accounts.create_user(session, "olga", "owner")
        token = accounts.create_token(session, user, "tests")
        review = a_ready_review(session)
        images = images_of(session, review, DECISIONS)
    statuses = asyncio.run(decide(web, token, review.id, images))
    assert statuses == [200] * DECISIONS
    with database.transaction(write=False) as session:
        changes = session.scalars(
            select(Suggestion.change)
            .where(Suggestion.review_id == review.id, Suggestion.change > 0)
            .order_by(Suggestion.change)
        ).all()
        assert list(changes) == list(range(1, DECISIONS + 1))
        assert session.get_one(Review, review.id).last_change == DECISIONS
        assert len(session.scalars(select(Decision.id)).all()) == DECISIONS
    database.close()


async def decide(web: Served, token: str, review_id: int, images: list[int]) -> list[int]:
    """Decide on all images at once, each by a connection of its own; return the statuses."""

    async def one(image_id: int) -> int:
        body = {"client_key": str(uuid4()), "image_id": image_id, "action": "keep"}
        address = f"{web.address}/api/v1/reviews/{review_id}/decisions"
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return (await client.post(address, json=body, headers=headers)).status_code

    return list(await asyncio.gather(*(one(image_id) for image_id in images)))


def test_processes_share_the_limit_of_connections() -> None:
    alone, shared = (Limits.of(Settings(web_processes=number)).most for number in (1, 4))
    assert shared == alone // 4


def test_without_a_process_there_is_no_web() -> None:
    with pytest.raises(ValidationError):
        Settings(web_processes=0)
