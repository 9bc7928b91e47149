"""Transactions wait in turn, outside of threads, and stay in one."""

import asyncio
import threading
from collections.abc import Callable
from threading import Event, get_ident

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from backend.core.db import Database, after_commit
from backend.core.settings import Settings
from backend.web import transactions
from backend.web.transactions import READERS, Busy, SessionDep, Transactions

Act = Callable[[Session], None]


@pytest.fixture
def turns(database: Database) -> Transactions:
    return Transactions(database)


@pytest.fixture
def places(database: Database) -> int:
    return READERS[database.engine.dialect.name]


def waits(until: Event) -> Act:
    def wait(_: Session) -> None:
        assert until.wait(10)

    return wait


async def soon(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def test_a_transaction_begins_works_and_ends_in_one_thread(
    app: FastAPI, client: TestClient, database: Database
) -> None:
    seen: list[tuple[str, int]] = []

    def works(session: SessionDep) -> None:
        assert session.is_active
        seen.append(("work", get_ident()))

    for name in ("begin", "commit"):
        event.listen(database.engine, name, lambda _, name=name: seen.append((name, get_ident())))
    app.add_api_route("/works", works, methods=["GET", "POST"])
    for method in ("GET", "POST"):
        seen.clear()
        assert client.request(method, "/works").status_code == 200
        assert [name for name, _ in seen[-3:]] == ["begin", "work", "commit"]
        assert len({thread for _, thread in seen[-3:]}) == 1


def test_as_many_read_at_once_as_there_are_places_and_no_more(
    turns: Transactions, places: int
) -> None:
    going, inside = Event(), []

    def stay(_: Session) -> None:
        inside.append(get_ident())
        assert going.wait(10)

    async def crowd() -> None:
        readers = [asyncio.create_task(turns.read(stay)) for _ in range(3 * places)]
        await soon(lambda: len(inside) == places)
        await asyncio.sleep(0.05)
        assert len(inside) == places
        await asyncio.wait_for(turns.check(), 1)
        going.set()
        await asyncio.gather(*readers)
        assert len(inside) == 3 * places

    asyncio.run(crowd())


def test_writers_come_in_turn_and_leave_readers_their_places(
    turns: Transactions, places: int, settings: Settings
) -> None:
    if settings.database_url:
        pytest.skip("PostgreSQL lets several write at once")
    going, order = Event(), []

    async def crowd() -> None:
        first = asyncio.create_task(turns.write(waits(going)))
        await asyncio.sleep(0.05)
        others = [
            asyncio.create_task(turns.write(lambda _, number=number: order.append(number)))
            for number in range(3 * places)
        ]
        await asyncio.sleep(0.05)
        assert order == []
        assert await asyncio.wait_for(turns.read(lambda _: "read"), 1) == "read"
        going.set()
        await asyncio.gather(first, *others)
        assert order == list(range(3 * places))

    asyncio.run(crowd())


def test_who_comes_where_too_many_wait_is_sent_away(
    turns: Transactions, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_WAITING", 5)
    going = Event()

    async def crowd() -> None:
        readers = [asyncio.create_task(turns.read(waits(going))) for _ in range(places + 5)]
        await asyncio.sleep(0.05)
        with pytest.raises(Busy) as refused:
            await turns.read(waits(going))
        assert (refused.value.status, refused.value.retry_after) == (503, 2)
        going.set()
        await asyncio.gather(*readers)

    asyncio.run(crowd())


def test_nobody_waits_for_ever(
    turns: Transactions, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LONGEST_WAIT_SECONDS", 0.1)
    going = Event()

    async def crowd() -> None:
        readers = [asyncio.create_task(turns.read(waits(going))) for _ in range(places)]
        await asyncio.sleep(0.05)
        with pytest.raises(Busy):
            await turns.read(waits(going))
        going.set()
        await asyncio.gather(*readers)
        # Whoever gave up left no place taken.
        await asyncio.gather(*(turns.read(lambda _: None) for _ in range(places)))

    asyncio.run(crowd())


def test_a_busy_web_says_so_in_plain_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_WAITING", 0)
    answer = client.get("/api/v1/me")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "too many requests are waiting" in answer.json()["detail"]
    assert client.get("/static/css/base.css").status_code == 200


def test_what_follows_a_commit_keeps_no_writer_waiting(turns: Transactions) -> None:
    going = Event()

    def act(session: Session) -> None:
        after_commit(session, lambda: (going.wait(10), None)[1])

    async def crowd() -> None:
        slow = asyncio.create_task(turns.write(act))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(turns.write(lambda _: None), 1)
        assert not slow.done()
        going.set()
        await slow

    asyncio.run(crowd())


def test_strangers_without_a_credential_open_no_transaction(
    app: FastAPI, anonymous_client: TestClient, database: Database
) -> None:
    begun: list[str] = []
    event.listen(database.engine, "begin", lambda _: begun.append(threading.current_thread().name))
    for path in ("/api/v1/tokens", "/datasets", "/reviews/1/decide", "/logout"):
        assert anonymous_client.post(path, data={"name": "x"}).status_code == 401
    assert begun == []
