"""Probes of supervisors: they ask the process itself, and load almost nothing."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from backend.core import liveness
from tests.running import ROOT, wait_until

# Beats like worker.app, without torch and broker.
WORKER = """
import sys, time
from pathlib import Path
from backend.core import liveness
liveness.BEAT_SECONDS = 0.05
with liveness.beating(Path(sys.argv[1]), "all jobs"):
    print("beats", flush=True)
    time.sleep(60)
"""


def probe(what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend.probe", what],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "beats\n"
        yield process
        process.kill()


def ages(home: Path, seconds: float) -> None:
    """Make every sign older, as if time had passed."""
    for path in (home / "run" / "workers").iterdir():
        moved = path.stat().st_mtime - seconds
        os.utime(path, (moved, moved))


def test_an_idle_worker_is_well_and_a_stopped_one_is_not(
    worker: subprocess.Popen[str], tmp_path: Path
) -> None:
    ages(tmp_path, liveness.SILENT_SECONDS + 5)
    wait_until(lambda: liveness.signs(tmp_path)[0].is_fresh, 30, "the next sign of life")
    assert probe("worker", WINNOW_HOME=str(tmp_path)).returncode == 0
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: stopped(worker.pid), 30, "the process to stop")
    ages(tmp_path, liveness.SILENT_SECONDS + 5)
    done = probe("worker", WINNOW_HOME=str(tmp_path))
    assert done.returncode == 1
    assert re.search(
        rf"Not well: worker {worker.pid} gave its last sign of life [34]\d s ago", done.stderr
    )
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: liveness.signs(tmp_path)[0].is_fresh, 30, "the sign after that")


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_killed_worker_is_not_well_and_its_sign_goes_with_the_next(
    worker: subprocess.Popen[str], tmp_path: Path
) -> None:
    worker.kill()
    worker.wait()
    ages(tmp_path, liveness.SILENT_SECONDS + 5)
    assert probe("worker", WINNOW_HOME=str(tmp_path)).returncode == 1
    with liveness.beating(tmp_path, "short jobs"):
        assert [(sign.pid, sign.work) for sign in liveness.signs(tmp_path)] == [
            (os.getpid(), "short jobs")
        ]
    assert liveness.signs(tmp_path) == []


def test_another_hosts_worker_says_nothing_of_this_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another.host")
        beating = liveness.beating(tmp_path, "all jobs")
        beating.__enter__()
    assert [sign.host for sign in liveness.signs(tmp_path)] == ["another.host"]
    assert liveness.own_sign(tmp_path) is None
    with liveness.beating(tmp_path, "all jobs"):  # leaves the other's sign
        assert len(liveness.signs(tmp_path)) == 2
    beating.__exit__(None, None, None)


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_web_is_well_where_health_is_answered_well(status: int, code: int) -> None:
    with HTTPServer(("127.0.0.1", 0), type("Answer", (Answer,), {"status": status})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = probe("web", WINNOW_PORT=str(server.server_port), WINNOW_HOST="0.0.0.0")
        server.shutdown()
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("what", "environment", "code", "sentence"),
    [
        ("web", {"WINNOW_PORT": "1"}, 1, "Not well: [Errno 111] Connection refused"),
        ("web", {"WINNOW_PORT": "many"}, 1, "Not well: "),
        ("worker", {"WINNOW_HOME": "/nowhere"}, 1, "no worker of this host runs in this folder"),
        ("weather", {}, 2, "Say what to ask"),
    ],
)
def test_what_is_not_there_is_a_sentence(
    what: str, environment: dict[str, str], code: int, sentence: str
) -> None:
    done = probe(what, **environment)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_probe_takes_no_more_than_a_start_of_python(tmp_path: Path) -> None:
    """It loads the standard library only; CPU seconds are those that the machine gives it."""
    code = "import sys, backend.probe; print(sorted(m for m in sys.modules if m in sys.argv))"
    heavy = ["pydantic", "sqlalchemy", "typer", "celery", "httpx2", "http.client", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    probe("worker", WINNOW_HOME=str(tmp_path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 1.0
