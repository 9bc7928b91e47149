"""Slow, silent and greedy clients, on a real server."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from backend import migrations
from backend.core.settings import Settings
from tests.running import wait_until
from tests.serving import Served, served

MOST = 50
HEADER_SECONDS = 1.0
BODY_SECONDS = 1.0
START = b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: "
POST = (
    b"POST %s HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    migrations.upgrade(settings)
    with served(
        settings,
        WINNOW_MAX_CONNECTIONS=str(MOST),
        WINNOW_HEADER_SECONDS=str(HEADER_SECONDS),
        WINNOW_BODY_SECONDS=str(BODY_SECONDS),
    ) as web:
        yield web


def connected(web: Served, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=20)
    connection.sendall(data)
    return connection


def healthy(web: Served) -> bool:
    return httpx2.get(f"{web.address}/health", timeout=5, trust_env=False).status_code == 200


def answer(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    found = b""
    try:
        while part := connection.recv(2**16):
            found += part
    except ConnectionResetError:
        pass
    return found


def takes(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("start", [b"", b"G", START, b"\r\n", b"\r\n\r\n"])
def test_headers_that_do_not_come_close_the_connection(web: Served, start: bytes) -> None:
    with connected(web, start) as connection:
        began = time.monotonic()
        assert answer(connection) == b""
        assert time.monotonic() - began < HEADER_SECONDS + 2


def test_headers_that_drip_close_the_connection_too(web: Served) -> None:
    with connected(web, START) as connection:
        wait_until(lambda: not takes(connection, b"a"), HEADER_SECONDS + 2, "the connection's end")


def test_a_second_request_has_the_deadline_too(web: Served) -> None:
    with connected(web, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        connection.sendall(START)
        began = time.monotonic()
        assert b"HTTP/1.1" not in answer(connection)
        assert time.monotonic() - began < HEADER_SECONDS + 2


def test_headers_without_end_are_refused(web: Served) -> None:
    with connected(web, START) as connection:
        takes(connection, b"a" * 2_000_000)
        said = b"The headers of this request are too large."
        wait_until(lambda: said in web.log.read_bytes(), 10, "the log to say so")
        assert b"200 OK" not in answer(connection)


def test_more_half_open_connections_than_allowed_keep_nobody_out(web: Served) -> None:
    held = [connected(web, START) for _ in range(3 * MOST)]
    try:
        assert all(healthy(web) for _ in range(5))
        assert web.process.num_fds() < MOST + 256
    finally:
        for connection in held:
            connection.close()


def test_a_body_that_does_not_come_is_answered_and_closed(web: Served) -> None:
    with connected(web, POST % (b"/login", 40) + b"token=") as connection:
        found = connection.recv(2**16)
        assert found.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 1 seconds" in found or b"did not arrive" in answer(
            connection
        )


def test_a_strangers_body_is_not_waited_for(web: Served) -> None:
    with connected(web, POST % (b"/account/tokens", 2_000_000) + b"a" * 1000) as connection:
        assert connection.recv(2**16).startswith(b"HTTP/1.1 401")
        # The rest may come, for a while; it is dropped.
        connection.sendall(b"a" * 1_999_000)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: b"200 OK" in connection.recv(2**16), 10, "the next answer")


def test_bodies_of_strangers_stay_out_of_memory(web: Served) -> None:
    healthy(web)
    before = web.process.memory_info().rss
    held = []
    try:
        for _ in range(MOST - 10):
            for path in (b"/login", b"/account/tokens", b"/datasets"):
                connection = connected(web)
                connection.setblocking(False)
                held.append(connection)
                with suppress(BlockingIOError):
                    connection.send(POST % (path, 2_000_000) + b"a" * 1_900_000)
        time.sleep(0.5)
        grown = web.process.memory_info().rss - before
        assert healthy(web)
        assert grown < 30 * 2**20
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_accepts_no_answer_is_let_go(web: Served) -> None:
    before = len(web.process.net_connections())
    page = b"GET /static/js/vendor/chart-4.6.1.umd.min.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(web, page * 100):
        wait_until(lambda: len(web.process.net_connections()) > before, 5, "the connection")
        wait_until(lambda: len(web.process.net_connections()) <= before, 10, "its end")
