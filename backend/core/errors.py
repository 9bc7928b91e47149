"""Errors that a person caused or can mend. Services raise them; backend.main renders them as a page or as problem details (RFC 9457)."""

from typing import Any


class AppError(Exception):
    """A clear sentence for the person, and the HTTP status that goes with it."""

    status = 400
    title = "That did not work"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.members: dict[str, Any] = {}  # what a program may want to know beside the sentence
        if status is not None:
            self.status = status


class NotFound(AppError):
    """The thing is not there, or not there for this person: both look the same."""

    status = 404
    title = "Not found"


class Conflict(AppError):
    """The thing is there but not in a state that allows this."""

    status = 409
    title = "Not possible right now"


class Invalid(AppError):
    """The input cannot be used as it is."""

    status = 422
    title = "Please check the input"


class Unauthenticated(AppError):
    """Nobody is signed in."""

    status = 401
    title = "Please sign in"


class Forbidden(AppError):
    """Somebody is signed in, but may not do this."""

    status = 403
    title = "Not allowed"


class Unavailable(AppError):
    """Something that the web needs is away."""

    status = 503
    title = "Not available right now"


class DiskFull(AppError):
    """No room for what was to be stored."""

    status = 507
    title = "The disk is full"

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full. Nothing was changed; the administrator must make room, then try again."
        )
