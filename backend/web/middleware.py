"""Security headers for responses, and size limits for requests."""

from fastapi import FastAPI, Request
from fastapi.responses import Response
from secure import ContentSecurityPolicy, ReferrerPolicy, Secure, XContentTypeOptions, XFrameOptions
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.core.errors import AppError
from backend.core.settings import Settings
from backend.web import error_handlers
from backend.web.cross_origin import SAFE_METHODS

# Without an upload.
ORDINARY_BYTES = 2 * 2**20
# These check the user before reading into a file (backend/datasets/uploads.py).
UPLOADS = ("/datasets", "/api/v1/data-sets/upload")

_secure = Secure(
    csp=ContentSecurityPolicy()
    .default_src("'self'")
    .script_src("'self'")
    .style_src("'self'")
    .img_src("'self'", "data:", "blob:")
    .object_src("'none'")
    .base_uri("'none'")
    .form_action("'self'")
    .frame_ancestors("'none'"),
    xcto=XContentTypeOptions().nosniff(),
    xfo=XFrameOptions().deny(),
    referrer=ReferrerPolicy().same_origin(),
)
# Immutable responses override this.
HEADERS = {**_secure.headers, "Cache-Control": "no-store"}


class TooLarge(AppError):
    status = 413
    title = "Too large"


def protect(app: FastAPI) -> None:
    """Add both middlewares, and headers to the response outside of them."""
    app.add_middleware(LimitBody)
    app.add_middleware(AddHeaders)
    app.add_exception_handler(Exception, _unexpected)


def _unexpected(request: Request, error: Exception) -> Response:
    response = error_handlers.unexpected(request, error)
    _add(response.headers)
    return response


def _add(headers: MutableHeaders) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


class AddHeaders:
    """Adds the headers to responses that do not set them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_with_headers)


class LimitBody:
    """Refuses too large a body, by its announced length or as it arrives.

    Ordinary bodies are read first: no transaction waits for a slow sender.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        upload = scope["path"] in UPLOADS and request.headers.get("content-type", "").startswith(
            "multipart/form-data"
        )
        replay: Receive | None
        try:
            if upload:
                settings: Settings = request.app.state.settings
                _check(_announced(request), settings.max_upload_bytes, TOO_LARGE_UPLOAD)
                replay = _counted(receive, settings.max_upload_bytes)
            else:
                _check(_announced(request), ORDINARY_BYTES, TOO_LARGE)
                replay = await _whole(receive)
        except TooLarge as error:
            await error_handlers.respond(request, error)(scope, receive, send)
            return
        if replay is not None:
            await self.app(scope, replay, send)


TOO_LARGE = (
    "This request is larger than the {limit:,} bytes that it may have. "
    "Archives are uploaded as a form, on the page of data sets."
)
TOO_LARGE_UPLOAD = (
    "This upload is larger than the {limit:,} bytes that are allowed. "
    "The administrator can raise WINNOW_MAX_UPLOAD_BYTES."
)


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def _check(size: int, limit: int, sentence: str) -> None:
    if size > limit:
        raise TooLarge(sentence.format(limit=limit))


def _counted(receive: Receive, limit: int) -> Receive:
    """Count the bytes read. Raises TooLarge."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        _check(seen, limit, TOO_LARGE_UPLOAD)
        return message

    return counted


async def _whole(receive: Receive) -> Receive | None:
    """Read the body; None if the sender has gone. Raises TooLarge."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        _check(len(body), ORDINARY_BYTES, TOO_LARGE)
        more = message.get("more_body", False)
    unread = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
