"""Speed of a large review in Chromium: keys, opening pages, scrolling.

    python -m benchmarks.review_keys [--images 50000] [--decisions 200] [--tiles 5000]

The review of `benchmarks.review_page` behind `winnow serve`, in headless Chromium without GPU on
the same machine. Times are the browser's, from key event to painted frame with the next picture.
The last line is a JSON object: milliseconds, and KiB for scripts.
Goals: a key p95 under 100 ms, a page usable within 1,000 ms, scripts without charts under 150 KiB
compressed.
"""

import argparse
import gzip
import io
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from playwright.sync_api import Page, Response, sync_playwright
from sqlalchemy import select

from backend import migrations
from backend.accounts import service as accounts
from backend.accounts.dependencies import COOKIE
from backend.core.db import Database
from backend.core.models import Review, Suggestion
from backend.core.settings import Settings
from backend.core.storage import Storage
from benchmarks.review_page import fill, served, write_pictures

SIDE = 640  # of a full picture
DIFFERENT = 20  # pictures; the others are links
OPENINGS = 5
STEP = 60  # pixels a frame while scrolling
GOALS = {"key": 100.0, "usable": 1000.0, "scripts_kib": 150.0}

# Records the time from each key to the painted effect.
WATCH = """() => {
  globalThis.keys = [];
  globalThis.nextFrame = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  }));
  addEventListener("keydown", async ({ timeStamp }) => {
    const effect = EFFECT;
    await effect();
    await nextFrame();
    keys.push(performance.now() - timeStamp);
  }, { capture: true });
}"""
PICTURE = """(() => {
  const image = document.querySelector("[data-part=image]");
  const before = image.src;
  return async () => { while (image.src === before) await nextFrame(); await image.decode(); };
})()"""
TILE = """(() => {
  const tile = document.querySelector(".tile--here");
  const unmoved = () => document.querySelector(".tile--here") === tile;
  return async () => { while (!tile.dataset.decision || unmoved()) await nextFrame(); };
})()"""
# Resolves when the script runs and every visible picture is decoded.
USABLE = """async (taken) => {
  while (!document.querySelector(taken)) await new Promise(requestAnimationFrame);
  const visible = (image) => {
    const box = image.getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 0;
  };
  const images = [...document.querySelectorAll("main img")].filter(visible);
  await Promise.all(images.map((image) => image.decode()));
  return performance.now();
}"""
SCROLL = """async (step) => {
  const frames = [];
  let before = await new Promise(requestAnimationFrame);
  for (let y = 0; y < document.documentElement.scrollHeight - innerHeight; y += step) {
    scrollTo(0, y);
    const moment = await new Promise(requestAnimationFrame);
    frames.push(moment - before);
    before = moment;
  }
  return frames;
}"""


def link_pictures(storage: Storage, review: Review, hashes: list[str]) -> None:
    generator = np.random.default_rng(1)
    first = storage.full_image(review.data_set_id, hashes[0])
    first.parent.mkdir(parents=True, exist_ok=True)
    originals = []
    for number in range(DIFFERENT):
        coarse = Picture.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        sizes = []
        for side in (SIDE, 160):
            encoded = io.BytesIO()
            coarse.resize((side, side), Picture.Resampling.BICUBIC).save(
                encoded, "WEBP", quality=80
            )
            path = storage.data_set(review.data_set_id) / f"picture-{number}-{side}.webp"
            path.write_bytes(encoded.getvalue())
            sizes.append(path)
        originals.append(sizes)
    for number, name in enumerate(hashes):
        full, thumbnail = originals[number % DIFFERENT]
        for original, path in (
            (full, storage.full_image(review.data_set_id, name)),
            (thumbnail, storage.thumbnail(review.data_set_id, name)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                os.link(original, path)


@contextmanager
def a_page(address: str, cookie: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        path = os.environ.get("WINNOW_CHROMIUM", "/usr/bin/chromium")
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        context = chromium.new_context(
            base_url=address, viewport={"width": 1280, "height": 800}, bypass_csp=True
        )
        context.add_cookies([{"name": COOKIE, "value": cookie, "url": address}])
        yield context.new_page()
        chromium.close()


class Working:
    """CPU time of the page's main thread, nearly independent of load."""

    def __init__(self, page: Page) -> None:
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._before = self._seconds()

    def _seconds(self) -> float:
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    def milliseconds(self, count: int) -> float:
        """Return the mean over `count` actions."""
        return round(1000 * (self._seconds() - self._before) / count, 2)


def spread(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(statistics.median(values), 1),
        "p95": round(statistics.quantiles(values, n=20)[-1], 1),
        "most": round(max(values), 1),
    }


def press_keys(page: Page, path: str, taken: str, effect: str, count: int) -> dict[str, float]:
    """Decide `count` times, each after the last effect is visible."""
    page.goto(path)
    page.wait_for_selector(taken)
    page.wait_for_load_state("networkidle")
    page.evaluate(WATCH.replace("EFFECT", effect))
    working = Working(page)
    for number in range(count):
        page.keyboard.press("ek"[number % 2])
        page.wait_for_function("wanted => keys.length === wanted", arg=number + 1)
    page.wait_for_function(
        "!Object.keys(localStorage).some(name => name.startsWith('winnow:outbox:'))"
    )
    return {**spread(page.evaluate("keys")), "main_thread": working.milliseconds(count)}


def open_page(page: Page, path: str, taken: str) -> dict[str, float]:
    """Return milliseconds from request to a usable page with pictures."""
    times = []
    for _ in range(OPENINGS):
        page.goto("about:blank")
        page.goto(path, wait_until="commit")
        times.append(page.evaluate(USABLE, taken))
    return {
        "first": round(times[0], 1),
        "p50": round(statistics.median(times), 1),
        "most": round(max(times), 1),
    }


def scripts(page: Page, paths: list[str]) -> dict[str, float]:
    """Return the number and compressed size of the pages' scripts."""
    found: dict[str, bytes] = {}

    def note(response: Response) -> None:
        if response.request.resource_type == "script" and response.ok:
            found[response.url] = response.body()

    page.on("response", note)
    for path in paths:
        page.goto(path)
        page.wait_for_load_state("networkidle")
    page.remove_listener("response", note)
    return {
        "files": len(found),
        "kib": round(sum(len(gzip.compress(body)) for body in found.values()) / 1024, 1),
    }


def scroll(page: Page, path: str, wanted: int) -> dict[str, float]:
    """Load this many tiles, then scroll through all; returns ms per frame."""
    page.goto(path)
    page.wait_for_selector(".tile--here")
    last_rank = (
        "Number(document.querySelector('[data-part=last-rank]').textContent.replaceAll(',', ''))"
    )
    while (loaded := int(page.evaluate(last_rank))) < wanted:
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_function(f"{last_rank} > {loaded}")
    page.wait_for_load_state("networkidle")
    working = Working(page)
    frames = page.evaluate(SCROLL, STEP)
    busy = working.milliseconds(len(frames))
    late = round(sum(frame > 33.4 for frame in frames) / len(frames), 4)
    return {
        "tiles": loaded,
        "frames": len(frames),
        **spread(frames),
        "over_33": late,
        "main_thread": busy,
    }


def measure(page: Page, review_id: int, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    own = f"/reviews/{review_id}"
    focus, grid = f"{own}/focus", f"{own}?size=100"
    ready = "[data-part=show-keys]:not([hidden])"
    found: dict[str, dict[str, float]] = {}
    steps = {
        "scripts": lambda: scripts(page, [grid, focus]),
        "open grid": lambda: open_page(page, grid, ".tile--here"),
        "open focus": lambda: open_page(page, focus, ready),
        "key, focus": lambda: press_keys(page, focus, ready, PICTURE, asked.decisions),
        "key, grid": lambda: press_keys(
            page, f"{grid}&decision=undecided", ".tile--here", TILE, 99
        ),
        "scroll": lambda: scroll(page, f"{own}?size=all", asked.tiles),
    }
    for name, step in steps.items():
        found[name] = step()
        print(f"{name:<12} {found[name]}", flush=True)
    return found


def prepare(settings: Settings, asked: argparse.Namespace) -> tuple[Review, str]:
    migrations.upgrade(settings)
    database = Database(settings.database)
    with database.transaction() as session:
        review, user = fill(session, asked.images, 0.1)
        cookie = accounts.sign_in(session, accounts.issue_login_link(session, user), 1)
        seen = (
            select(Suggestion.content_hash)
            .where(Suggestion.review_id == review.id)
            .order_by(Suggestion.position)
        )
        hashes = list(session.scalars(seen.limit(asked.tiles + asked.decisions + 200)))
    database.close()
    storage = Storage(settings.files)
    write_pictures(storage, review.data_set_id)
    link_pictures(storage, review, hashes)
    return review, cookie


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--tiles", type=int, default=5_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        settings = Settings(home=Path(folder))
        review, cookie = prepare(settings, asked)
        with (
            served(settings) as (connection, _),
            a_page(f"http://127.0.0.1:{connection.port}", cookie) as page,
        ):
            found = measure(page, review.id, asked)
    key = max(found["key, focus"]["p95"], found["key, grid"]["p95"])
    usable = max(found["open grid"]["p50"], found["open focus"]["p50"])
    met = {
        "key": key <= GOALS["key"],
        "usable": usable <= GOALS["usable"],
        "scripts_kib": found["scripts"]["kib"] <= GOALS["scripts_kib"],
    }
    print(json.dumps({"images": asked.images, "found": found, "goals": GOALS, "met": met}))


if __name__ == "__main__":
    main()
