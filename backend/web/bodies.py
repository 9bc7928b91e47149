"""Bodies of requests: read once the sender is known, within limits and a deadline."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import fail_after
from fastapi import Request
from starlette.types import Message, Receive

from backend.core.errors import AppError, Unavailable
from backend.core.settings import Settings

# These check the user before reading into a file (backend/datasets/uploads.py).
UPLOADS = ("/datasets", "/api/v1/data-sets/upload")
# Everyone may send these; a login link's secret has 43 characters.
OPEN = ("/login",)
STRANGERS_BYTES = 4096

CROWDED = (
    "Winnow is busy: too many large requests arrive at once. Nothing was changed; try again in a "
    "few seconds."
)
TOO_LARGE = (
    "This request is larger than the {limit:,} bytes that it may have. "
    "Archives are uploaded as a form, on the page of data sets."
)
TOO_LARGE_UPLOAD = (
    "This upload is larger than the {limit:,} bytes that are allowed. "
    "The administrator can raise WINNOW_MAX_UPLOAD_BYTES."
)


class TooLarge(AppError):
    status = 413
    title = "Too large"


class TooSlow(AppError):
    status = 408
    title = "Too slow"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"This request did not arrive within {seconds:g} seconds. Send it again.")


class Bodies:
    """Counts the bytes of ordinary bodies in memory, of all senders together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int, seconds: float) -> AsyncIterator[bytes]:
        """Read a body and count it until the request ends.

        Raises:
            TooLarge: longer than `limit` bytes.
            TooSlow: not there after `seconds`.
            Unavailable: all bodies together would be too large.
        """
        body = bytearray()
        try:
            try:
                with fail_after(seconds):
                    async for part in _parts(request):
                        _check(len(body) + len(part), limit, TOO_LARGE)
                        self._hold(len(part))
                        body += part
            except TimeoutError:
                raise TooSlow(seconds) from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    def _hold(self, size: int) -> None:
        if self._held + size > self._most:
            raise Unavailable(CROWDED)
        self._held += size


@asynccontextmanager
async def body_read(request: Request) -> AsyncIterator[Callable[[], Request]]:
    """Yield what makes requests with the body: read, streamed for an upload, empty for a stranger.

    Ordinary bodies are read first: no transaction waits for a slow sender.
    """
    settings: Settings = request.app.state.settings
    if is_upload(request):
        _check(_announced(request), settings.max_upload_bytes, TOO_LARGE_UPLOAD)
        streamed = Request(request.scope, _counted(request, settings))
        yield lambda: streamed
        return
    limit = settings.max_request_bytes
    if await request.app.state.visitor(request) is None:
        if request.scope["path"] not in OPEN:
            yield lambda: Request(request.scope, _replay(request, b""))
            return
        limit = STRANGERS_BYTES
    _check(_announced(request), limit, TOO_LARGE)
    bodies: Bodies = request.app.state.bodies
    async with bodies.read(request, limit, settings.body_seconds) as body:
        yield lambda: Request(request.scope, _replay(request, body))


def is_upload(request: Request) -> bool:
    form = request.headers.get("content-type", "").startswith("multipart/form-data")
    return form and request.scope["path"] in UPLOADS


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _check(size: int, limit: int, sentence: str) -> None:
    if size > limit:
        raise TooLarge(sentence.format(limit=limit))


async def _parts(request: Request) -> AsyncIterator[bytes]:
    """Yield a body's parts. Raises AppError if the sender goes away."""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise AppError("The sender went away.")
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _replay(request: Request, body: bytes) -> Receive:
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await request.receive()

    return replay


def _counted(request: Request, settings: Settings) -> Receive:
    """Read an upload part by part. Raises TooLarge, or TooSlow where nothing arrives."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        try:
            with fail_after(settings.body_seconds):
                message = await request.receive()
        except TimeoutError:
            raise TooSlow(settings.body_seconds) from None
        seen += len(message.get("body", b""))
        _check(seen, settings.max_upload_bytes, TOO_LARGE_UPLOAD)
        return message

    return counted
