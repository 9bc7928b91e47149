"""The supervisor, with real processes: nothing is left running, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from backend.cli.supervisor import (
    LOG_BYTES,
    LONGEST_PAUSE,
    Child,
    Supervisor,
    _log_file,
    _note_address,
    _only_one,
    broker_command,
    children,
    listen,
    running_address,
    up,
)
from backend.core.errors import Conflict
from backend.core.settings import Settings

# A supervisor of two children, one of which has started a child of its own; each writes its pid.
SUPERVISE = """
import sys
from pathlib import Path
from backend.cli.supervisor import Child, Supervisor
home = Path(sys.argv[1])
sleeper = "import os, subprocess, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()} '); "
alone = sleeper + "time.sleep(600)"
child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
parent = sleeper + child + "time.sleep(600)"
made = [
    Child(name, [sys.executable, "-c", code, str(home / name)], home / f"{name}.log", {})
    for name, code in (("broker", alone), ("web", parent))
]
supervisor = Supervisor(made, lambda sentence: print(sentence, flush=True))
supervisor.run(lambda: print("ready", flush=True))
"""


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


def pids(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()] if file.exists() else []


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SUPERVISE, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: pids(tmp_path / "broker") and pids(tmp_path / "web"), 20, "both children")
    wait_until(
        lambda: len(psutil.Process(process.pid).children(recursive=True)) == 3,
        20,
        "the child's own child",
    )
    family = psutil.Process(process.pid).children(recursive=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    for left in family:
        with suppress(psutil.NoSuchProcess):
            left.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_children_and_theirs_within_seconds(
    supervisor: subprocess.Popen[str], number: signal.Signals
) -> None:
    family = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.send_signal(number)
    assert supervisor.wait(5) == 0
    # A zombie grandchild may remain for a moment; it no longer runs.
    assert [member for member in family if alive(member)] == []


@pytest.mark.slow
def test_a_supervisor_that_is_killed_without_warning_takes_its_children_with_it(
    supervisor: subprocess.Popen[str],
) -> None:
    children = psutil.Process(supervisor.pid).children()
    supervisor.kill()
    supervisor.wait()
    # A zombie orphan may remain for a moment; it no longer runs.
    wait_until(lambda: not any(alive(child) for child in children), 5, "the children's end")


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_a_crashed_child_starts_again_and_the_reason_is_said(
    supervisor: subprocess.Popen[str], tmp_path: Path
) -> None:
    (first,) = pids(tmp_path / "web")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(pids(tmp_path / "web")) == 2, 10, "the second web")
    supervisor.terminate()
    said = supervisor.communicate()[0]
    assert "The web ended (by signal 9); it starts again in 0.5 s." in said
    assert "broker ended" not in said


def test_a_child_that_keeps_crashing_starts_at_growing_intervals(tmp_path: Path) -> None:
    child = Child("web", ["false"], tmp_path / "log", {}, started=time.monotonic())
    pauses = [child.plan_restart() for _ in range(8)]
    assert pauses[:4] == [0.5, 1, 2, 4]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_child_that_crashes_after_a_long_life_starts_at_once(tmp_path: Path) -> None:
    child = Child(
        "web", ["false"], tmp_path / "log", {}, started=time.monotonic() - 3600, crashes=5
    )
    assert child.plan_restart() == 0
    assert child.crashes == 0


def test_a_port_in_use_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Conflict,
            match=f"Port {port} on 127.0.0.1 is in use by another program.*PORT={port + 1}",
        ):
            up(
                Settings(home=tmp_path, port=port),
                print,
                lambda *_: pytest.fail("something was started"),
            )
    assert not (tmp_path / "logs").exists()


def test_an_address_of_another_machine_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(Conflict, match=r"This machine has no address 192\.0\.2\.1"),
        listen("192.0.2.1", 0),
    ):
        pass


def test_a_second_start_on_the_same_folder_names_the_first(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port=0)
    with _only_one(settings):
        _note_address(settings.model_copy(update={"port": 8123}))
        assert running_address(settings) == "http://127.0.0.1:8123"
        with pytest.raises(Conflict, match=r"already runs on .*http://127\.0\.0\.1:8123"):
            up(settings, print)
    assert running_address(settings) is None


def test_a_home_too_deep_for_a_socket_gets_a_private_folder_elsewhere(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("deep" * 30))
    command = broker_command(settings)
    assert len(str(settings.broker_socket)) < 100
    assert str(settings.broker_socket) in command
    assert settings.broker_socket.parent.stat().st_mode & 0o777 == 0o700
    settings.broker_socket.parent.rmdir()


def test_the_embedded_broker_listens_on_its_socket_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker = Child("broker", broker_command(settings), tmp_path / "broker.log", dict(os.environ))
    broker.start()
    try:
        wait_until(settings.broker_socket.exists, 5, "the socket")
        assert broker.process is not None
        listening = psutil.Process(broker.process.pid).net_connections(kind="inet")
        assert listening == []
    finally:
        broker.terminate()
        broker.kill(5)


def test_a_big_log_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    _log_file(log).close()
    assert log.stat().st_size == 0
    assert (tmp_path / "web.log.1").stat().st_size == LOG_BYTES


@pytest.mark.parametrize("quick", [True, False])
def test_a_second_worker_takes_quick_jobs_alone_unless_it_is_not_wanted(
    tmp_path: Path, quick: bool
) -> None:
    settings = Settings(home=tmp_path, quick_worker=quick)
    with listen("127.0.0.1", 0) as door:
        made = {child.name: child for child in children(settings, door)}
    assert ("quick worker" in made) == quick
    assert "WINNOW_LANE" not in made["worker"].environment
    if quick:
        assert made["quick worker"].environment["WINNOW_LANE"] == "quick"
        assert made["quick worker"].log.name == "quick-worker.log"


def test_a_log_that_floods_is_put_aside_while_its_writer_runs(tmp_path: Path) -> None:
    flood = "import sys, time\nfor _ in range(60): print('x' * 200_000, flush=True)\ntime.sleep(60)"
    log = tmp_path / "web.log"
    child = Child("web", [sys.executable, "-c", flood], log, dict(os.environ))
    supervisor = Supervisor([child], lambda _: None)
    watching = threading.Thread(target=until_put_aside, args=(log, supervisor))
    watching.start()
    supervisor.run()
    watching.join()
    before = log.with_suffix(".log.1")
    assert 0 < before.stat().st_size <= LOG_BYTES
    assert log.stat().st_size <= 12_000_000 - LOG_BYTES
    assert set(before.read_bytes()) <= set(b"x\n")


def until_put_aside(log: Path, supervisor: Supervisor) -> None:
    try:
        wait_until(lambda: log.with_suffix(".log.1").exists(), 20, "the second log")
    finally:
        supervisor.stop()
