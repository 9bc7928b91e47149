"""Speed and memory of importing a zip of images.

    python -m benchmarks.import_speed [zip] [--cores 2]

Default: cifar10.zip (60,000 JPEG files of 32 × 32) in WINNOW_REAL_DATA (default ../shared/data).
The real import job runs in a scratch home; TMPDIR chooses the file system, which matters. Memory:
worker and children, sampled twenty times a second. The last line is a JSON object.
Goals: 1,500 images/s on two cores, under 1 GB.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from backend.core import queue
from backend.core.db import Database
from backend.core.models import Base, DataSet, Job
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker.jobs import perform

LOOK_SECONDS = 0.05


class Memory:
    """Peak memory of this process and its children."""

    def __init__(self) -> None:
        self.peak = 0
        self.processes = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._look, args=(done,), daemon=True)
        thread.start()
        yield
        done.set()
        thread.join()

    def _look(self, done: threading.Event) -> None:
        me = psutil.Process()
        while not done.wait(LOOK_SECONDS):
            held = [me.memory_info().rss]
            for child in me.children(recursive=True):
                try:
                    held.append(child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.peak, self.processes = max(self.peak, sum(held)), max(self.processes, len(held))


def archive(asked: Path | None) -> Path:
    """Return the zip, or exit; as a failure only if the user named it."""
    path = asked or Path(os.environ.get("WINNOW_REAL_DATA", "../shared/data")) / "cifar10.zip"
    if path.is_file():
        return path
    print(
        f"There is no {path}. Name a zip of class folders, or set WINNOW_REAL_DATA to the folder "
        "that has cifar10.zip.",
        file=sys.stderr,
    )
    raise SystemExit(0 if asked is None else 1)


def measure(path: Path, home: Path) -> dict[str, object]:
    settings = Settings(home=home)
    database = Database(settings.database)
    Base.metadata.create_all(database.engine)
    with database.transaction() as session:
        data_set = DataSet(
            name=path.stem, source={"kind": "zip", "path": str(path), "upload": False}
        )
        session.add(data_set)
        session.flush()
        job = Job(kind="import", title="Import", subject_id=data_set.id, data_set_id=data_set.id)
        session.add(job)
    memory, before = Memory(), _cpu_seconds()
    with memory.watched():
        perform(job.id, database, Storage(settings.files), settings)
    cpu = _cpu_seconds() - before
    with database.transaction(write=False) as session:
        ended, data_set = session.get_one(Job, job.id), session.get_one(DataSet, data_set.id)
    database.close()
    if ended.state != "done" or ended.started_at is None or ended.finished_at is None:
        raise SystemExit(f"The import failed: {ended.error}")
    seconds = (ended.finished_at - ended.started_at).total_seconds()
    return {
        "data": path.name,
        "images": data_set.image_count,
        "refused": data_set.refused_count,
        "images_per_second": round(data_set.image_count / seconds),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_memory_bytes": memory.peak,
        "processes": memory.processes,
        "stored_bytes": data_set.report["bytes"],
    }


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zip", type=Path, nargs="?")
    parser.add_argument("--cores", type=int, default=2, help="cores that the import may use")
    asked = parser.parse_args()
    path = archive(asked.zip)
    queue.send = lambda *_: None  # no broker: the job runs here
    cores = sorted(os.sched_getaffinity(0))[: asked.cores]
    os.sched_setaffinity(0, cores)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="winnow-import-") as home:
        figures = measure(path, Path(home))
    # Figures of a busy machine mean nothing.
    machine = {
        "cores": len(cores),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "load_before": round(load, 2),
    }
    print(
        json.dumps(
            {
                **figures,
                "goal_images_per_second": 1500,
                "goal_memory_bytes": 10**9,
                "machine": machine,
            }
        )
    )


if __name__ == "__main__":
    main()
