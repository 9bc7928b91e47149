"""Many requests at once, on a real server: nobody waits long, and nothing stands still."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from uuid import uuid4

import httpx2
import pytest
import sqlalchemy as sa

from backend import migrations
from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.settings import Settings
from backend.web.transactions import LONGEST_WAIT_SECONDS
from tests.reviewing import a_ready_review, images_of
from tests.serving import Served, served

WRITES, STRANGERS = 100, 200
LONGEST_SECONDS = 5.0

pytestmark = pytest.mark.slow


@dataclass
class Crowd:
    """A served Winnow with a review, and a reviewer's token."""

    web: Served
    database: Database
    review_id: int
    images: list[int]
    token: str


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], scope="module"
)
def crowd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crowd]:
    url = "" if request.param == "sqlite" else another(request.getfixturevalue("postgres_server"))
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=url)
    migrations.upgrade(settings)
    database = Database(settings.database)
    with database.transaction() as session:
        token = accounts.create_token(
            session, accounts.create_user(session, str(uuid4()), "owner"), "tests"
        )
        review = a_ready_review(session)
        images = images_of(session, review, 42)
    with served(settings) as web:
        yield Crowd(web, database, review.id, images, token)
    database.close()


def another(server: str) -> str:
    """Make a database of its own; other tests' has no revision."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"load_{uuid4().hex}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return engine.url.set(database=name).render_as_string(hide_password=False)


async def timed(answer: Awaitable[httpx2.Response]) -> tuple[int, float]:
    began = time.perf_counter()
    status = (await answer).status_code
    return status, time.perf_counter() - began


async def at_once(
    client: httpx2.AsyncClient, answers: list[Awaitable[httpx2.Response]]
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Return statuses and seconds of all requests at once, and of health checks meanwhile."""
    checks: list[tuple[int, float]] = []

    async def check() -> None:
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as other:
            while True:
                checks.append(await timed(other.get(str(client.base_url.join("/health")))))
                await asyncio.sleep(0.05)

    checking = asyncio.create_task(check())
    found = await asyncio.gather(*(timed(answer) for answer in answers))
    checking.cancel()
    return list(found), checks


async def longest(ask: Callable[[], Awaitable[httpx2.Response]], count: int) -> float:
    """Return the seconds that `count` requests at once may take: more on a busy machine."""
    alone = [(await timed(ask()))[1] for _ in range(9)]
    return max(LONGEST_SECONDS, 2 * count * statistics.median(alone))


def a_client(crowd: Crowd, **headers: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=STRANGERS)
    return httpx2.AsyncClient(
        base_url=crowd.web.address, headers=headers, timeout=60, limits=limits, trust_env=False
    )


def test_a_hundred_decisions_at_once_are_all_kept_within_seconds(crowd: Crowd) -> None:
    async def decide() -> None:
        async with a_client(crowd, Authorization=f"Bearer {crowd.token}") as client:
            address = f"/api/v1/reviews/{crowd.review_id}/decisions"
            images = cycle(crowd.images)

            def post() -> Awaitable[httpx2.Response]:
                body = {"client_key": str(uuid4()), "image_id": next(images), "action": "keep"}
                return client.post(address, json=body)

            most = await longest(post, WRITES)
            answers, checks = await at_once(client, [post() for _ in range(WRITES)])
        # A machine too busy for a hundred within the longest wait says so, in time.
        expected = {200} if most < LONGEST_WAIT_SECONDS else {200, 503}
        assert {status for status, _ in answers} <= expected
        assert max(seconds for _, seconds in answers) < most
        assert {status for status, _ in checks} == {200}
        assert max(seconds for _, seconds in checks) < most / 2

    asyncio.run(decide())


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer made up"}, {"Cookie": "winnow_session=made-up"}]
)
def test_two_hundred_strangers_at_once_are_refused_within_seconds(
    crowd: Crowd, headers: dict[str, str]
) -> None:
    async def knock() -> None:
        async with a_client(crowd, **headers) as client:
            most = 2 * await longest(lambda: client.post("/api/v1/tokens", json={}), STRANGERS)
            answers, checks = await at_once(
                client, [client.post("/api/v1/tokens", json={}) for _ in range(STRANGERS)]
            )
        assert Counter(status for status, _ in answers) == {401: STRANGERS}
        assert max(seconds for _, seconds in answers) < most
        assert {status for status, _ in checks} == {200}

    asyncio.run(knock())


def test_strangers_with_made_up_links_never_wait_among_the_writers(crowd: Crowd) -> None:
    async def knock() -> None:
        async with a_client(crowd, **{"Sec-Fetch-Site": "same-origin"}) as client:
            form = {"token": "made up"}
            most = await longest(lambda: client.post("/login", data=form), STRANGERS)
            answers, checks = await at_once(
                client, [client.post("/login", data=form) for _ in range(STRANGERS)]
            )
        assert Counter(status for status, _ in answers) == {401: STRANGERS}
        assert max(seconds for _, seconds in answers) < most
        assert {status for status, _ in checks} == {200}

    # A job may write meanwhile: who does not write does not wait for it.
    with crowd.database.transaction() as session:
        session.connection()
        asyncio.run(knock())


def test_readers_are_answered_while_a_job_writes(crowd: Crowd) -> None:
    async def look() -> None:
        async with a_client(crowd, Authorization=f"Bearer {crowd.token}") as client:
            address = f"/api/v1/reviews/{crowd.review_id}/decisions"
            waiting = [
                asyncio.ensure_future(
                    client.post(
                        address,
                        json={"client_key": str(uuid4()), "image_id": image, "action": "keep"},
                    )
                )
                for image in crowd.images
            ]
            await asyncio.sleep(0.2)
            most = await longest(lambda: client.get("/api/v1/me"), 50)
            answers, checks = await at_once(client, [client.get("/api/v1/me") for _ in range(50)])
            assert {status for status, _ in [*answers, *checks]} == {200}
            assert max(seconds for _, seconds in answers) < most
            writer.close()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}

    writer = crowd.database.engine.connect()
    writer.begin()
    asyncio.run(look())
