"""Errors as pages for people, and problem details (RFC 9457) for programs."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DatabaseError, DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException

from backend.core.db import DAMAGED, is_damage
from backend.core.errors import AppError, DiskFull, Invalid, NotFound, Unauthenticated, Unavailable
from backend.web.methods import methods_at
from backend.web.redirects import login_address, path_asked, path_of
from backend.web.rendering import page
from backend.web.validation_messages import wrong

logger = logging.getLogger(__name__)
NOTHING_HERE = "There is nothing at this address."
UNEXPECTED = (
    "Something went wrong on our side. Nothing of yours was changed; try again, and look at the "
    "web's log if it happens again."
)
UNSTORABLE = (
    "Something here cannot be stored: a number is too large, or a text holds a character that no "
    "database takes."
)
TOO_LARGE = "There is nothing of so large a number."
OUT_OF_RANGE = "22003"  # SQL's code for a number that does not fit its column
NO_ANSWER = (
    "The database does not answer. Nothing was changed; try again in a minute. "
    "The web's log says more."
)
LOCKED = (
    "Winnow is busy: a job is writing many rows. Nothing was changed; try again in a few seconds."
)


def register_handlers(app: FastAPI, visitor: Callable[[Request], Awaitable[object]]) -> None:
    """Send every failure to `respond`; `visitor` identifies the user, or returns None."""
    app.state.visitor = visitor
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(NoConnection, _database)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(DatabaseError, _damaged)
    app.add_exception_handler(OverflowError, _too_large_a_number)


def respond(request: Request, error: AppError, **members: Any) -> Response:
    """Answer with problem details under /api/, else with a page or the login."""
    response = _answer(request, error, members)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.REQUEST_TIMEOUT:
        response.headers["Connection"] = "close"
    return response


def _answer(request: Request, error: AppError, members: dict[str, Any]) -> Response:
    path: str = request.scope["path"]
    if path.startswith("/api/") and path != "/api/docs":
        problem = {
            "type": "about:blank",
            "title": error.title,
            "status": error.status,
            "detail": error.message,
            **members,
        }
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse(problem, error.status, headers, media_type="application/problem+json")
    if isinstance(error, Unauthenticated) and (answer := _to_login(request)) is not None:
        return answer
    return page(
        request,
        "error.html",
        status=error.status,
        title=error.title,
        message=error.message,
        code=error.status,
    )


def unexpected(request: Request, error: Exception) -> Response:
    """Log an unforeseen error in full; show the user a sentence."""
    logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    failure = AppError(UNEXPECTED, 500)
    failure.title = "Something went wrong"
    return respond(request, failure)


def _to_login(request: Request) -> Response | None:
    """Redirect an opened page to the login; None for scripts, forms and images."""
    if request.headers.get("HX-Request"):
        # htmx would insert the login page; with this header it opens the page.
        return Response(
            status_code=401,
            headers={
                "HX-Redirect": login_address(path_of(request.headers.get("HX-Current-URL", "")))
            },
        )
    opened = (
        request.method == "GET" and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    )
    if not opened or request.query_params.get("token"):
        return None
    return RedirectResponse(login_address(path_asked(request)), 303)


async def _app_error(request: Request, error: Exception) -> Response:
    found = error if isinstance(error, AppError) else AppError(str(error))
    return respond(request, found, **found.members)


async def _invalid(request: Request, error: Exception) -> Response:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    # Addresses like /runs/abc lead nowhere.
    if details and all(detail["loc"][0] == "path" for detail in details):
        return respond(request, NotFound(NOTHING_HERE))
    errors = [_one_invalid(detail) for detail in details]
    sentence = ". ".join(f"{error['field'] or 'The input'}: {error['message']}" for error in errors)
    return respond(request, Invalid(f"{sentence}."), errors=errors)


def _one_invalid(detail: dict[str, Any]) -> dict[str, str]:
    if detail["type"] == "json_invalid":
        return {
            "field": "",
            "message": f"this is not JSON, from character {detail['loc'][-1]} on "
            f"({detail['ctx']['error']})",
        }
    return {"field": ".".join(str(part) for part in detail["loc"][1:]), "message": wrong(detail)}


async def _http(request: Request, error: Exception) -> Response:
    status, detail = (
        (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    )
    if status == 404:
        await _recognise(request)
        return respond(request, NotFound(NOTHING_HERE))
    sentence = (
        f"This address does not take {request.method} requests"
        if status == 405
        else detail or HTTPStatus(status).phrase
    )
    response = respond(request, AppError(f"{sentence.removesuffix('.')}.", status))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    if status == 405:
        response.headers["Allow"] = ", ".join(methods_at(request)) or "GET, HEAD"
    return response


async def _recognise(request: Request) -> None:
    """Look up the user whom an error page names."""
    with suppress(OperationalError, Unavailable):
        await request.app.state.visitor(request)


async def _database(request: Request, error: Exception) -> Response:
    logger.error(
        "%s %s: the database failed", request.method, request.scope["path"], exc_info=error
    )
    full = any(words in str(error) for words in ("disk is full", "No space left"))
    return respond(request, DiskFull() if full else Unavailable(NO_ANSWER))


async def _damaged(request: Request, error: Exception) -> Response:
    """Say that SQLite's file is damaged; other errors are unforeseen."""
    if not isinstance(error, DatabaseError) or not is_damage(error):
        raise error
    note_damage(request.app, str(error.orig))
    return respond(request, Unavailable(DAMAGED))


def note_damage(app: FastAPI, found: str) -> None:
    """Let the health check say it, and the log once."""
    if app.state.damage is None:
        logger.error("SQLite's file is damaged: %s. %s", found, DAMAGED)
    app.state.damage = found


async def _unstorable(request: Request, error: Exception) -> Response:
    """Answer addresses that PostgreSQL refuses; bodies were checked."""
    if isinstance(error, DataError) and getattr(error.orig, "sqlstate", "") == OUT_OF_RANGE:
        return respond(request, NotFound(TOO_LARGE))
    logger.warning(
        "%s %s: the database refused a value: %s", request.method, request.scope["path"], error
    )
    return respond(request, Invalid(UNSTORABLE))


async def _too_large_a_number(request: Request, error: Exception) -> Response:
    """Answer numbers beyond SQLite's 2⁶³."""
    if "SQLite INTEGER" not in str(error):
        raise error
    return respond(request, NotFound(TOO_LARGE))
