"""Speed of the web in a large review: pages of 100 suggestions, and thumbnails.

    python -m benchmarks.review_page [--images 50000] [--requests 200] [--decided 0.1]

`winnow serve` on SQLite in a process, and a single connection. `cpu` is the server's CPU time per
answer, nearly independent of load. The last line is a JSON object, in milliseconds.
Goals at 50,000: each kind of page p95 under 40, a thumbnail p95 under 2.
"""

import argparse
import hashlib
import http.client
import io
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image as Picture
from sqlalchemy import insert
from sqlalchemy.orm import Session

from backend import migrations
from backend.accounts import service as accounts
from backend.accounts.dependencies import COOKIE
from backend.core.db import Database
from backend.core.models import (
    DataSet,
    Decision,
    Image,
    Review,
    Run,
    Score,
    Scoring,
    Suggestion,
    User,
    Version,
    now,
)
from backend.core.settings import Settings
from backend.core.storage import Storage

CLASSES = 10
SIDE = 160  # a thumbnail's
PICTURES = 100
PAGE = 100
GOALS = {"page": 40.0, "thumbnail": 2.0}


def hash_of(row: int) -> str:
    return hashlib.sha256(str(row).encode()).hexdigest()


def write_pictures(storage: Storage, data_set_id: int, count: int = PICTURES) -> None:
    """Write the thumbnails of `count` images: as many pictures, again and again."""
    generator = np.random.default_rng(0)
    pictures = [encode(generator) for _ in range(PICTURES)]
    for row in range(count):
        path = storage.thumbnail(data_set_id, hash_of(row))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures[row % PICTURES])


def encode(generator: np.random.Generator) -> bytes:
    coarse = Picture.fromarray(generator.integers(0, 256, (10, 10, 3), dtype=np.uint8))
    encoded = io.BytesIO()
    coarse.resize((SIDE, SIDE), Picture.Resampling.BICUBIC).save(encoded, "WEBP", quality=80)
    return encoded.getvalue()


def fill(session: Session, count: int, decided: float) -> tuple[Review, User]:
    """Make a review of `count` images in random orders, partly decided."""
    user = accounts.create_user(session, "olga", "owner")
    names = [f"class {number}" for number in range(CLASSES)]
    data_set = DataSet(
        name="Benchmark",
        state="ready",
        class_names=names,
        height=32,
        width=32,
        channels=3,
        image_count=count,
    )
    session.add(data_set)
    session.flush()
    version = Version(data_set_id=data_set.id, number=1)
    session.add(version)
    session.flush()
    data_set.current_version_id = version.id
    run = Run(data_set_id=data_set.id, version_id=version.id, state="done")
    session.add(run)
    session.flush()
    review = Review(
        data_set_id=data_set.id,
        version_id=version.id,
        run_id=run.id,
        state="ready",
        suggestion_count=count,
    )
    session.add(review)
    session.flush()
    session.execute(insert(Image), list(images(data_set.id, count)))
    session.execute(insert(Suggestion), list(suggestions(review.id, user.id, count, decided)))
    decide(session, review, user)
    score(session, run, count)
    return review, user


def score(session: Session, run: Run, count: int) -> None:
    scoring = Scoring(run_id=run.id, method="forgetting", state="done")
    session.add(scoring)
    session.flush()
    ranks = random.Random(2).sample(range(1, count + 1), count)
    rows = [
        {"scoring_id": scoring.id, "image_id": row + 1, "value": float(rank), "rank": rank}
        for row, rank in enumerate(ranks)
    ]
    session.execute(insert(Score), rows)


def images(data_set_id: int, count: int) -> Iterator[dict[str, Any]]:
    for row in range(count):
        label = row % CLASSES
        values = {
            "id": row + 1,
            "data_set_id": data_set_id,
            "row": row,
            "label": label,
            "split": "train",
        }
        yield values | {
            "path": f"class {label}/{row:06d}.jpg",
            "content_hash": hash_of(row),
            "width": 32,
            "height": 32,
        }


def suggestions(
    review_id: int, user_id: int, count: int, decided: float
) -> Iterator[dict[str, Any]]:
    chance = random.Random(0)
    orders = [chance.sample(range(1, count + 1), count) for _ in range(3)]
    for row in range(count):
        position, accuracy_rank, label_rank = (order[row] for order in orders)
        label = row % CLASSES
        done = position <= count / 2 and chance.random() < 2 * decided
        yield {
            "review_id": review_id,
            "image_id": row + 1,
            "position": position,
            "accuracy_rank": accuracy_rank,
            "label_rank": label_rank,
            "accuracy_value": accuracy_rank - count / 2,
            "label_value": label_rank - count / 2,
            "brought_by": chance.choice(["accuracy", "label", "both"]),
            "label": label,
            "predicted": label if chance.random() < 0.5 else chance.randrange(CLASSES),
            "confidence": chance.random(),
            "label_confidence": chance.random(),
            "content_hash": hash_of(row),
            "path": f"class {label}/{row:06d}.jpg",
            "row": row,
            "decision": chance.choice(["remove", "keep"]) if done else None,
            "decided_by": user_id if done else None,
            "decided_at": now() if done else None,
            "change": position if done else 0,
        }


def decide(session: Session, review: Review, user: User) -> None:
    """Add the acts behind the decisions."""
    rows = (
        session.query(Suggestion.image_id, Suggestion.decision, Suggestion.change)
        .where(Suggestion.decision.is_not(None))
        .all()
    )
    shared = {"review_id": review.id, "user_id": user.id}
    acts = [
        shared
        | {"image_id": row.image_id, "client_key": f"key-{row.image_id}", "action": row.decision}
        for row in rows
    ]
    if acts:
        session.execute(insert(Decision), acts)
    review.last_change = max((row.change for row in rows), default=0)


@contextmanager
def served(settings: Settings) -> Iterator[tuple[http.client.HTTPConnection, psutil.Process]]:
    """Run `winnow serve` on a free port; yields connection and process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "backend.cli", "serve", "--socket", str(listener.fileno())]
        environment = {
            **os.environ,
            "WINNOW_HOME": str(settings.home),
            "WINNOW_DATABASE_URL": settings.database_url,
            "WINNOW_WEB_PROCESSES": str(settings.web_processes),
        }
        with open(settings.home / "web.log", "wb") as log:
            process = subprocess.Popen(
                command, pass_fds=[listener.fileno()], env=environment, stdout=log, stderr=log
            )
        try:
            connection = http.client.HTTPConnection(
                "127.0.0.1", listener.getsockname()[1], timeout=60
            )
            connection.request("GET", "/health")
            connection.getresponse().read()
            yield connection, psutil.Process(process.pid)
            connection.close()
        finally:
            process.terminate()
            process.wait(20)


def ask(connection: http.client.HTTPConnection, cookie: str, path: str) -> tuple[float, int]:
    """Return milliseconds until the whole answer, and its bytes."""
    started = time.perf_counter()
    connection.request("GET", path, headers={"Cookie": f"{COOKIE}={cookie}"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}; the web's log says why.")
    return 1000 * (time.perf_counter() - started), len(body)


def kinds(
    count: int, review_id: int, data_set_id: int
) -> dict[str, Callable[[random.Random], str]]:
    """Return functions that draw an address, by name."""
    page = f"/reviews/{review_id}?size={PAGE}"

    def after(chance: random.Random) -> int:
        return chance.randrange(count // 2, count - PAGE)

    return {
        "first": lambda _: page,
        "deep": lambda chance: f"{page}&after={after(chance)}",
        "deep, backwards": lambda chance: f"{page}&before={after(chance)}",
        "deep, by accuracy": lambda chance: f"{page}&order=accuracy&after={after(chance)}",
        "a class, undecided": lambda chance: (
            f"{page}&label={chance.randrange(CLASSES)}&decision=undecided"
        ),
        "a class, deep, by label": lambda chance: (
            f"{page}&order=label&label={chance.randrange(CLASSES)}&after={after(chance)}"
        ),
        "a pair of classes, deep": lambda chance: (
            f"{page}&label={chance.randrange(CLASSES)}&predicted=3&after={count // 2}"
        ),
        "decided": lambda _: f"{page}&decision=decided",
        "removed": lambda _: f"{page}&decision=remove",
        "removed, by accuracy": lambda _: f"{page}&decision=remove&order=accuracy",
        "by a method, deep": lambda chance: f"{page}&order=forgetting&after={after(chance)}",
        "by a method, removed": lambda _: f"{page}&order=forgetting&decision=remove",
        "by a method, a pair": lambda chance: (
            f"{page}&order=forgetting&label={chance.randrange(CLASSES)}&predicted=3"
        ),
        "by one person": lambda _: f"{page}&by=1",
        "hurts most": lambda chance: f"{page}&accuracy_min={99 + chance.random():.2f}",
        "hurts most, by label": lambda chance: (
            f"{page}&accuracy_min={99 + chance.random():.2f}&order=label"
        ),
        "hurts most, by a method": lambda chance: (
            f"{page}&accuracy_min={99 + chance.random():.2f}&order=forgetting"
        ),
        "hurts and looks right": lambda chance: (
            f"{page}&accuracy_min={80 + 10 * chance.random():.2f}&label_max=50"
        ),
        "in the middle, undecided": lambda _: (
            f"{page}&label_min=20&label_max=80&decision=undecided"
        ),
        "thumbnail": lambda chance: (
            f"/images/{data_set_id}/thumbnails/{hash_of(chance.randrange(PICTURES))}.webp"
        ),
    }


def measure(
    asking: Callable[[str], tuple[float, int]], server: psutil.Process, paths: list[str]
) -> dict[str, float]:
    """Return p50, p95 and CPU milliseconds, and mean KiB."""
    for warming in paths[:10]:
        asking(warming)
    before = server.cpu_times()
    times, sizes = zip(*(asking(one) for one in paths), strict=True)
    after = server.cpu_times()
    cpu = 1000 * (after.user + after.system - before.user - before.system) / len(paths)
    found = {
        "p50": statistics.median(times),
        "p95": statistics.quantiles(times, n=20)[-1],
        "cpu": cpu,
        "kib": statistics.mean(sizes) / 1024,
    }
    return {name: round(value, 2) for name, value in found.items()}


def line(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:<26} p50 {found['p50']:7.2f} ms   p95 {found['p95']:7.2f} ms   cpu "
        f"{found['cpu']:6.2f} ms   {found['kib']:6.1f} KiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument(
        "--decided",
        type=float,
        default=0.1,
        help="share of all images that are decided, at most 0.5",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        settings = Settings(home=Path(folder))
        migrations.upgrade(settings)
        database = Database(settings.database)
        with database.transaction() as session:
            review, user = fill(session, asked.images, asked.decided)
            cookie = accounts.sign_in(session, accounts.issue_login_link(session, user), 1)
        database.close()
        write_pictures(Storage(settings.files), review.data_set_id)
        found = {}
        with served(settings) as (connection, server):
            for name, path in kinds(asked.images, review.id, review.data_set_id).items():
                chance = random.Random(1)
                paths = [path(chance) for _ in range(asked.requests)]
                found[name] = measure(lambda one: ask(connection, cookie, one), server, paths)
                print(line(name, found[name]), flush=True)
    worst = max(result["p95"] for name, result in found.items() if name != "thumbnail")
    met = {
        "page": worst <= GOALS["page"],
        "thumbnail": found["thumbnail"]["p95"] <= GOALS["thumbnail"],
    }
    print(
        json.dumps(
            {
                "images": asked.images,
                "milliseconds": found,
                "worst_page_p95": worst,
                "goals": GOALS,
                "met": met,
            }
        )
    )


if __name__ == "__main__":
    main()
