"""Errors for users, shown as a page or problem details (RFC 9457)."""

from typing import Any


class AppError(Exception):
    """A sentence for the user, and its HTTP status."""

    status = 400
    title = "That did not work"
    retry_after: int | None = None  # seconds

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.members: dict[str, Any] = {}  # further facts for programs
        if status is not None:
            self.status = status


class NotFound(AppError):
    """It does not exist, or not for this user: both look the same."""

    status = 404
    title = "Not found"


class Conflict(AppError):
    """Its state does not allow this."""

    status = 409
    title = "Not possible right now"


class Invalid(AppError):
    """The input cannot be used as it is."""

    status = 422
    title = "Please check the input"


class Unauthenticated(AppError):
    """No user is signed in."""

    status = 401
    title = "Please sign in"


class Forbidden(AppError):
    """The user may not do this."""

    status = 403
    title = "Not allowed"


class Unavailable(AppError):
    """A part that the web needs is away."""

    status = 503
    title = "Not available right now"
    retry_after = 5


class DiskFull(AppError):
    """No room to store it."""

    status = 507
    title = "The disk is full"

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full. Nothing was changed; the administrator must make room, "
            "then try again."
        )
