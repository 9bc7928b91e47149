"""A worker whose trainings are resumable chains of hashes, done in half a second.

python -m tests.faults.counting
"""

import hashlib
import os
import time
from dataclasses import replace

from backend.core.job_kinds import KINDS
from backend.core.models import JobLogLine
from worker import app
from worker.jobs import JobContext

STEPS = 20


def count(context: JobContext) -> None:
    """Hash STEPS times, keep the newest hash in a file, and log the result."""
    folder = context.storage.run(context.subject_id)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "chain"
    step, value = kept.read_text().split() if kept.exists() else ("0", f"{context.subject_id}")
    for done in range(int(step), STEPS):
        value = hashlib.sha256(value.encode()).hexdigest()
        (folder / "new").write_text(f"{done + 1} {value}")
        os.replace(folder / "new", kept)
        time.sleep(0.025)
        context.progress(done + 1, STEPS)
        context.note_safe_point()
    with context.finish() as session:
        session.add(JobLogLine(job_id=context.job_id, message=f"result {value}"))


def compute(context: JobContext) -> None:
    """Compute for hours in native code, which no signal interrupts."""
    hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)


def expected(subject_id: int) -> str:
    """Compute the result of an uninterrupted chain."""
    value = f"{subject_id}"
    for _ in range(STEPS):
        value = hashlib.sha256(value.encode()).hexdigest()
    return value


if __name__ == "__main__":
    KINDS["train"] = replace(KINDS["train"], pipeline="tests.faults.counting:count")
    KINDS["score"] = replace(KINDS["score"], pipeline="tests.faults.counting:compute")
    app.main()
