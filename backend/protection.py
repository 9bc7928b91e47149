"""What every response and every request must keep to: security headers, and the limit of an upload."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response
from secure import ContentSecurityPolicy, ReferrerPolicy, Secure, XContentTypeOptions, XFrameOptions
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import AppError
from backend.failures import respond
from backend.settings import Settings

# Requests that carry no upload stay small, whatever they are.
ORDINARY_BYTES = 2 * 2**20

_headers = Secure(
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


class TooLarge(AppError):
    """More bytes than are allowed."""

    status = 413
    title = "Too large"


def protect(app: FastAPI, settings: Settings) -> None:
    """Add both middlewares."""
    app.add_middleware(LimitBody, limit=settings.max_upload_bytes)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _headers.headers.items():
            response.headers.setdefault(name, value)
        # A page shows what is private and may change any moment; what is immutable says so itself.
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class LimitBody:
    """Refuses a body that is larger than allowed, by its announced length or, where that is missing or wrong, as it arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        upload = request.headers.get("content-type", "").startswith(("multipart/form-data", "application/octet-stream", "application/zip"))
        limit = self.limit if upload else min(self.limit, ORDINARY_BYTES)
        if int(request.headers.get("content-length") or 0) > limit:
            await respond(request, _too_large(limit))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        await self.app(scope, counted, send)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"This is more than the {limit:,} bytes that are allowed. The administrator can raise WINNOW_MAX_UPLOAD_BYTES.")
