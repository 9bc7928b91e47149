"""Reviewers at once: how fast their decisions are answered, and that none is lost.

    python -m benchmarks.reviewers_load [--reviewers 20 50 120 500] [--seconds 60]
        [--databases sqlite postgresql] [--images 15000] [--processes 1]

`winnow serve` with its processes; the reviewers in another, on the same cores. A reviewer opens a
page of 50, loads its thumbnails, decides about once a second on 20 images, asks for others' changes
every 3 seconds, and opens the next page. Afterwards the table of decisions is compared with the
answers.
Prints requests per second and, for each kind of request, milliseconds; the last line is JSON.
Goals: no status 500, no decision lost, and p95 of a decision at most 150 ms at 50 reviewers.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from backend import migrations
from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.models import Decision
from backend.core.settings import Settings
from backend.core.storage import Storage
from benchmarks.review_page import fill, served, write_pictures
from tests import servers

GOAL_MS, GOAL_REVIEWERS = 150.0, 50
PAGE, DECIDED_A_PAGE = 50, 20
THINKING = (0.5, 1.5)
CHANGES_SECONDS = 3.0
PATIENCE = 40.0
CONNECTIONS = 6  # a browser's
THUMBNAIL = re.compile(rb"/images/\d+/thumbnails/[0-9a-f]{64}\.webp")


class Refused(Exception):
    """A status of 400 or more."""


class Line:
    """A connection that is kept, as a browser's."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return the answer's status and body; a kept connection may have been closed."""
        kept = self._streams is not None
        try:
            return await asyncio.wait_for(self._ask(method, path, body), PATIENCE)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            if not kept:
                raise
        return await asyncio.wait_for(self._ask(method, path, body), PATIENCE)

    async def _ask(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\ncontent-length: (\d+)", head)
        answer = await reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(b" ", 2)[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class Reviewer:
    """A person at a browser, and what the answers took."""

    def __init__(self, port: int, token: str, review_id: int, number: int, log: "Log") -> None:
        self._lines = [Line(port, token) for _ in range(CONNECTIONS)]
        self._review_id = review_id
        self._dice = random.Random(number)
        self._page = PAGE * number
        self._seen: set[bytes] = set()
        self._since, self._polled = 0, 0.0
        self._log = log

    async def work(self, end: float, most: int) -> None:
        await asyncio.sleep(self._dice.uniform(0, CHANGES_SECONDS))
        while time.perf_counter() < end:
            await self._review_page(end)
            self._page = (self._page + PAGE) % most
        for line in self._lines:
            line.close()

    async def _review_page(self, end: float) -> None:
        where = f"/reviews/{self._review_id}?after={self._page}&size={PAGE}"
        grid = await self._ask("page", "GET", where)
        if grid is None:
            await asyncio.sleep(1)
            return
        new = sorted(set(THUMBNAIL.findall(grid)) - self._seen)
        self._seen |= set(new)
        parts = [new[start::CONNECTIONS] for start in range(CONNECTIONS)]
        await asyncio.gather(
            *(self._load(line, part) for line, part in zip(self._lines, parts, strict=True))
        )
        api = f"/api/v1/reviews/{self._review_id}"
        listed = await self._ask(
            "list", "GET", f"{api}/suggestions?after={self._page}&limit={PAGE}"
        )
        items = json.loads(listed)["items"][:DECIDED_A_PAGE] if listed else []
        for item in items:
            await asyncio.sleep(self._dice.uniform(*THINKING))
            if time.perf_counter() > end:
                return
            await self._decide(api, item["image_id"])
            if time.perf_counter() - self._polled > CHANGES_SECONDS:
                await self._poll(api)

    async def _load(self, line: Line, addresses: list[bytes]) -> None:
        for address in addresses:
            await self._ask("thumbnail", "GET", address.decode(), line=line)

    async def _decide(self, api: str, image_id: int) -> None:
        key, action = str(uuid.uuid4()), self._dice.choice(["keep", "remove", "unsure"])
        body = {"client_key": key, "image_id": image_id, "action": action}
        if await self._ask("decision", "POST", f"{api}/decisions", json.dumps(body).encode()):
            self._log.decided[key] = (image_id, action)

    async def _poll(self, api: str) -> None:
        self._polled = time.perf_counter()
        changes = await self._ask("changes", "GET", f"{api}/changes?since={self._since}")
        if changes is not None:
            self._since = json.loads(changes)["last_change"]

    async def _ask(
        self, kind: str, method: str, path: str, body: bytes = b"", line: Line | None = None
    ) -> bytes | None:
        began = time.perf_counter()
        line = line or self._lines[0]
        try:
            status, answer = await line.ask(method, path, body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            line.close()
            self._log.errors[type(error).__name__] += 1
            return None
        self._log.seconds[kind].append(time.perf_counter() - began)
        if status >= 400:
            self._log.errors[str(status)] += 1
            return None
        return answer


class Log:
    """Seconds by kind of request, errors by kind, and acknowledged decisions by key."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.decided: dict[str, tuple[int, str]] = {}

    def figures(self, seconds: float) -> dict[str, Any]:
        kinds = {kind: quantiles(found) for kind, found in sorted(self.seconds.items())}
        count = sum(len(found) for found in self.seconds.values())
        return {
            "requests_per_second": round(count / seconds, 1),
            "milliseconds": kinds,
            "errors": dict(self.errors),
            "decisions": len(self.decided),
        }


def quantiles(seconds: list[float]) -> dict[str, float]:
    found = sorted(1000 * one for one in seconds)
    cuts = statistics.quantiles(found, n=100) if len(found) > 1 else found * 99
    shown = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": found[-1]}
    return {"count": len(found)} | {name: round(value, 1) for name, value in shown.items()}


async def load(port: int, tokens: list[str], review_id: int, seconds: float, most: int) -> Log:
    log = Log()
    end = time.perf_counter() + seconds
    reviewers = [
        Reviewer(port, token, review_id, number, log) for number, token in enumerate(tokens)
    ]
    await asyncio.gather(*(reviewer.work(end, most) for reviewer in reviewers))
    return log


def lost(database: Database, decided: dict[str, tuple[int, str]]) -> int:
    """Count acknowledged decisions that the table lacks or has otherwise."""
    with database.transaction(write=False) as session:
        columns = select(Decision.client_key, Decision.image_id, Decision.action)
        stored = {row[0]: (row[1], row[2]) for row in session.execute(columns)}
    return sum(stored.get(key) != act for key, act in decided.items())


@contextmanager
def database_url(kind: str) -> Iterator[str]:
    with servers.postgres(durable=True) if kind == "postgresql" else nullcontext("") as url:
        yield url


def cpu_seconds(server: psutil.Process) -> float:
    """Sum the processor time of the web's processes."""
    times = [process.cpu_times() for process in [server, *server.children()]]
    return sum(one.user + one.system for one in times)


def measure(kind: str, count: int, seconds: float, images: int, processes: int) -> dict[str, Any]:
    """Return the figures of `count` reviewers on a fresh database."""
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder, database_url(kind) as url:
        settings = Settings(home=Path(folder), database_url=url, web_processes=processes)
        migrations.upgrade(settings)
        database = Database(settings.database)
        with database.transaction() as session:
            review, _ = fill(session, images, 0.0)
            people = [accounts.create_user(session, f"reviewer {one}") for one in range(count)]
            tokens = [accounts.create_token(session, person, "load") for person in people]
        write_pictures(Storage(settings.files), review.data_set_id, images)
        with served(settings) as (connection, server):
            before = cpu_seconds(server)
            log = asyncio.run(load(connection.port, tokens, review.id, seconds, images - PAGE))
            after = cpu_seconds(server)
        figures = log.figures(seconds)
        figures["web_cpu"] = round((after - before) / seconds, 2)
        figures["lost"] = lost(database, log.decided)
        database.close()
    return figures


def show(kind: str, count: int, figures: dict[str, Any]) -> None:
    print(
        f"{kind}, {count} reviewers: {figures['requests_per_second']} requests/s, "
        f"{figures['decisions']} decisions, {figures['lost']} lost, errors "
        f"{figures['errors'] or 'none'}, web's CPU {figures['web_cpu']:.0%} of a core"
    )
    for name, found in figures["milliseconds"].items():
        print(
            f"  {name:<10} {found['count']:6} p50 {found['p50']:8.1f}   p95 {found['p95']:8.1f}   "
            f"p99 {found['p99']:8.1f}   max {found['max']:8.1f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviewers", type=int, nargs="+", default=[20, 50, 120, 500])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--images", type=int, default=15_000)
    parser.add_argument("--processes", type=int, default=1, help="of the web")
    asked = parser.parse_args()
    found: dict[str, dict[int, Any]] = {}
    for kind in asked.databases:
        found[kind] = {}
        for count in asked.reviewers:
            found[kind][count] = measure(kind, count, asked.seconds, asked.images, asked.processes)
            show(kind, count, found[kind][count])
    runs = [(count, figures) for by in found.values() for count, figures in by.items()]
    met = {
        "no_500": all("500" not in figures["errors"] for _, figures in runs),
        "nothing_lost": all(figures["lost"] == 0 for _, figures in runs),
        "decision_p95": all(
            figures["milliseconds"].get("decision", {"p95": 1e9})["p95"] <= GOAL_MS
            for count, figures in runs
            if count == GOAL_REVIEWERS
        ),
    }
    print(json.dumps({"seconds": asked.seconds, "databases": found, "met": met}))
    sys.exit(0 if met["no_500"] and met["nothing_lost"] else 1)


if __name__ == "__main__":
    main()
