"""Seconds, peak memory and outcome of hostile uploads; `--folder` adds archives of your own.

Each import runs in a process of its own, as a worker does it. Its memory is the greatest sum over
the process and its decoders, looked at twenty times a second.
"""

import argparse
import gzip
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

BOUND = 1 << 30
LONGEST = 600  # seconds
SIDE = 7000  # 49 megapixels

WORKER = """
import sys
from pathlib import Path
from backend.core import queue
from backend.core.db import Database
from backend.core.models import Base, DataSet, Job
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import jobs
queue.send = lambda job_id: None
settings = Settings(home=Path(sys.argv[1]), database_url="", heartbeat_seconds=1)
settings.home.mkdir()
database = Database(settings.database)
Base.metadata.create_all(database.engine)
with database.transaction() as session:
    source = {"kind": "zip", "path": sys.argv[2], "upload": False}
    data_set = DataSet(name="Hostile", source=source, seed=0)
    session.add(data_set)
    session.flush()
    job = Job(kind="import", title="Import", subject_id=data_set.id, data_set_id=data_set.id)
    session.add(job)
    session.flush()
jobs.perform(job.id, database, Storage(settings.files), settings)
with database.transaction(write=False) as session:
    job, data_set = session.get(Job, job.id), session.get(DataSet, data_set.id)
    print(job.state, "·", job.error or f"{data_set.image_count:,} images, "
          f"{data_set.refused_count:,} refused")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="folder with more archives (*.zip)")
    parser.add_argument("--only", default="", help="a part of the names to try")
    given = parser.parse_args()
    too_much = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| archive | kB | seconds | processor s | peak MB | outcome |")
        print("|---|---|---|---|---|---|")
        for path in archives(folder, given.folder, given.only):
            home = folder / f"home of {path.stem}"
            seconds, processor, peak, outcome = measure(home, path)
            too_much += peak > BOUND
            print(
                f"| {path.name} | {path.stat().st_size / 1e3:,.0f} | {seconds:.1f} | "
                f"{processor:.1f} | {peak / 1e6:,.0f} | {outcome[:200]} |",
                flush=True,
            )
    print(f"Over {BOUND / 1e6:,.0f} MB: {too_much}.")


def archives(folder: Path, more: Path | None, only: str) -> Iterator[Path]:
    """Make our own hostile archives, each when its turn comes, and add those of a folder."""
    for name, make in OWN.items():
        if only in name:
            path = folder / f"{name}.zip"
            make(path)
            yield path
    given = sorted(more.resolve().glob("*.zip")) if more else []
    yield from (path for path in given if only in path.name)


def measure(home: Path, archive: Path) -> tuple[float, float, int, str]:
    """Import; returns seconds, seconds of processor, peak bytes, and the outcome."""
    began, peak, processor = time.monotonic(), 0, 0.0
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(home), str(archive)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    process, spent = psutil.Process(worker.pid), {}
    while worker.poll() is None and time.monotonic() - began < LONGEST:
        total = 0
        try:
            for each in (process, *process.children(recursive=True)):
                total += each.memory_info().rss
                spent[each.pid] = sum(each.cpu_times()[:2])
        except psutil.Error:
            continue
        peak = max(peak, total)
        time.sleep(0.05)
    worker.kill()
    processor = sum(spent.values())
    outcome = (worker.communicate()[0] or "no answer").strip().splitlines()[-1]
    return time.monotonic() - began, processor, peak, outcome


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def good() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    return {
        f"{name}/{number}.png": png(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        for name in ("cat", "dog")
        for number in range(4)
    }


def write(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def copies(make: Callable[[], bytes], count: int, suffix: str) -> Callable[[Path], None]:
    """Put `count` pictures that differ in their last bytes among good pictures."""

    def write_them(path: Path) -> None:
        data = make()
        huge = {f"cat/x{n}.{suffix}": data + bytes([n]) for n in range(count)}
        write(path, {**good(), **huge}, zipfile.ZIP_DEFLATED)

    return write_them


def many_scans() -> bytes:
    """Repeat the last scan of a progressive JPEG thousands of times."""
    data = encoded(Image.linear_gradient("L").resize((6000, 4000)), "JPEG", progressive=True)
    start = data.rfind(b"\xff\xda")
    return data[:start] + data[start:-2] * min(12_000, 900_000 // (len(data) - start)) + data[-2:]


def tiny(value: bytes) -> bytes:
    """Make a PNG of 2 × 2 grey levels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" + value[:2] + b"\0" + value[2:4], 1)
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    )


def many_files(path: Path) -> None:
    write(
        path,
        {f"c{n % 10}/{n:06d}.png": tiny(struct.pack("<I", n)) for n in range(100_000)},
    )


def many_classes(path: Path) -> None:
    files = {f"train/c{n:05d}/0.png": tiny(struct.pack("<I", n)) for n in range(20_000)}
    for number, split in enumerate(("val", "test")):
        files[f"{split}/c00000/0.png"] = tiny(struct.pack("<I", 30_000 + number))
    write(path, files)


def idx(count: int, held: int) -> Callable[[Path], None]:
    """Pack IDX files that claim `count` images of a pixel."""

    def write_them(path: Path) -> None:
        images = struct.pack(">HBB3I", 0, 8, 3, count, 1, 1) + bytes(held)
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(held)
        write(
            path,
            {
                "train-images-idx3-ubyte.gz": gzip.compress(images),
                "train-labels-idx1-ubyte.gz": gzip.compress(labels),
            },
        )

    return write_them


def blank(mode: str) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE))


def sixteen_bits() -> bytes:
    values = np.zeros((SIDE, SIDE), np.uint16)
    values[::7] = 4000
    return encoded(Image.fromarray(values), "PNG", compress_level=1)


def fast_webp() -> bytes:
    return encoded(blank("RGBA"), "WEBP", lossless=True, quality=0, method=0)


OWN: dict[str, Callable[[Path], None]] = {
    "49-megapixel-webp": copies(fast_webp, 4, "webp"),
    "49-megapixel-bmp": copies(lambda: encoded(blank("RGB"), "BMP"), 6, "bmp"),
    "49-megapixel-rgba-png": copies(lambda: encoded(blank("RGBA"), "PNG"), 8, "png"),
    "49-megapixel-16-bit-png": copies(sixteen_bits, 8, "png"),
    "49-megapixel-float-tiff": copies(
        lambda: encoded(blank("F"), "TIFF", compression="tiff_deflate"), 6, "tif"
    ),
    "49-megapixel-line": copies(
        lambda: encoded(Image.new("RGB", (1, SIDE * SIDE)), "PNG"), 4, "png"
    ),
    "progressive-49-megapixel": copies(
        lambda: encoded(blank("RGB"), "JPEG", progressive=True, subsampling=0), 6, "jpg"
    ),
    "many-scans": copies(many_scans, 2, "jpg"),
    "idx-12-million": idx(12_000_000, 12_000_000),
    "idx-claims-only": idx(1_999_999, 10),
    "20000-classes": many_classes,
    "100000-tiny-files": many_files,
}


if __name__ == "__main__":
    os.environ.pop("WINNOW_DATABASE_URL", None)
    main()
