"""Errors as a page for people and as problem details (RFC 9457) for programs."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from backend.errors import AppError, Invalid, NotFound, Unauthenticated
from backend.rendering import page

logger = logging.getLogger(__name__)
UNEXPECTED = "Something went wrong on our side. Nothing of yours was changed; try again, and look at the web's log if it happens again."


def register_handlers(app: FastAPI) -> None:
    """Every failure ends in one function."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def respond(request: Request, error: AppError) -> Response:
    """The error as problem details under /api/, else as a page; who is not signed in is shown how."""
    if request.url.path.startswith("/api/") and request.url.path != "/api/docs":
        problem = {"type": "about:blank", "title": error.title, "status": error.status, "detail": error.message}
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse(problem, error.status, headers, media_type="application/problem+json")
    if isinstance(error, Unauthenticated) and request.method == "GET" and not request.query_params.get("token"):
        return RedirectResponse("/login", 303)
    return page(request, "error.html", status=error.status, title=error.title, message=error.message)


def _app_error(request: Request, error: Exception) -> Response:
    return respond(request, error if isinstance(error, AppError) else AppError(str(error)))


def _invalid(request: Request, error: Exception) -> Response:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    # An address like /runs/abc cannot exist: that is "not found" to a person.
    if details and all(detail["loc"][0] == "path" for detail in details):
        return respond(request, NotFound("There is nothing at this address."))
    sentences = [f"{'.'.join(str(part) for part in detail['loc'][1:]) or 'The input'}: {detail['msg']}" for detail in details]
    return respond(request, Invalid(". ".join(sentences) + "."))


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return respond(request, NotFound("There is nothing at this address."))
    failure = AppError(f"{HTTPStatus(status).phrase}.", status)
    response = respond(request, failure)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    failure = AppError(UNEXPECTED, 500)
    failure.title = "Something went wrong"
    return respond(request, failure)
