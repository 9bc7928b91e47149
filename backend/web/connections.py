"""Connections with deadlines and a limit: a slow or silent client costs nobody else anything."""

import asyncio
import resource
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from backend.core.settings import Settings

# For the database, logs, and files being sent.
OTHER_DESCRIPTORS = 256
MOST_HEADER_BYTES = PART_BYTES = 2**16
# A page keeps its connection between decisions; idle connections make room for new ones.
KEEP_ALIVE_SECONDS = 30
TOO_LARGE = "The headers of this request are too large."
SENTENCE = b"Winnow has too many connections. Try again in a few seconds."
CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
    % (len(SENTENCE), SENTENCE)
)


@dataclass
class Limits:
    """Limits that all connections share, and those that wait for a request, longest first."""

    most: int
    header_seconds: float
    body_seconds: float
    waiting: dict["Connection", None] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Allow this process its share of the settings' connections, if its open files do."""
        most = settings.max_connections // settings.web_processes
        most = min(most, raise_open_files() - OTHER_DESCRIPTORS)
        return cls(max(most, 1), settings.header_seconds, settings.body_seconds)


def raise_open_files() -> int:
    """Raise this process's limit of open files as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 65_536 if soft == resource.RLIM_INFINITY else soft


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which is closed if headers or acknowledgements do not come.

    Bodies have their deadline where they are read (backend/web/bodies.py).
    """

    def __init__(self, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._has_whole_request = True
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = PART_BYTES  # type: ignore[attr-defined] # asyncio's own, 256 KiB
        if len(self.connections) > self._limits.most and not self._make_room():
            transport.write(CROWDED)
            transport.close()
            self._give_up_writing()
            return
        self._wait_for_request(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._cancel_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        between_requests = self._is_idle() and self._has_whole_request
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._is_idle():
            # Until the application asks for the body: its sender may be nobody.
            if not self._has_whole_request:
                self.flow.pause_reading()
            return
        # uvicorn stops its own timer at the first byte, and counts no bytes.
        if self._reading is None:
            self._wait_for_request(self._limits.header_seconds)
        if between_requests and self._has_whole_request:
            self._header_bytes += len(data)
            if self._header_bytes > MOST_HEADER_BYTES:
                self.logger.warning(TOO_LARGE)
                self.send_400_response(TOO_LARGE)
                self._give_up_writing()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._has_whole_request = False
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_whole_request = True
        super().on_message_complete()
        if self._is_idle():
            self._stop_waiting()
            self._wait_for_request(self._limits.header_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._give_up_writing()
        elif self._is_idle():
            self.cycle.body = bytearray()  # what nobody read
            if self._has_whole_request:
                self._limits.waiting[self] = None
            else:
                self._wait_for_request(self._limits.body_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._give_up_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._give_up_writing()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request, if any."""
        longest = next(iter(self._limits.waiting), None)
        if longest is not None:
            longest.abort()
        return longest is not None

    def abort(self) -> None:
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _wait_for_request(self, seconds: float) -> None:
        self._limits.waiting[self] = None
        self._reading = self.loop.call_later(seconds, self.abort)

    def _stop_waiting(self) -> None:
        self._limits.waiting.pop(self, None)
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _give_up_writing(self) -> None:
        """Close the connection unless the client accepts the answer in time."""
        self._cancel_writing()
        self._writing = self.loop.call_later(self._limits.body_seconds, self.abort)

    def _cancel_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
