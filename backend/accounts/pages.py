"""Signing in and out, and one's own account."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from backend.accounts import service
from backend.accounts.dependencies import COOKIE, SignedInDep, UserDep
from backend.db import SessionDep
from backend.errors import Unauthenticated
from backend.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(request: Request, token: str = "") -> RedirectResponse:
    """The login link ends here; without one, the data sets."""
    response = RedirectResponse("/datasets", 303)
    # The address with the secret in it must not reach another site.
    response.headers["Referrer-Policy"] = "no-referrer"
    if token:
        _sign_in(request, response, token)
    return response


def _sign_in(request: Request, response: RedirectResponse, token: str) -> None:
    settings = request.app.state.settings
    try:
        with request.app.state.database.transaction() as session:
            secret = service.sign_in(session, token, settings.session_days)
    except Unauthenticated:
        if COOKIE in request.cookies:
            # A second click on a used link, by somebody who is signed in: nothing is wrong.
            return
        raise
    response.set_cookie(
        COOKIE, secret, max_age=settings.session_days * 86400, httponly=True, samesite="lax", secure=settings.secure_cookies
    )


@router.get("/login")
def login(request: Request) -> HTMLResponse:
    """Says how to get a login link."""
    return page(request, "login.html", message=None)


@router.post("/logout")
def logout(session: SessionDep, who: SignedInDep) -> RedirectResponse:
    """End this session."""
    service.sign_out(session, who.credential_id)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/account")
def account(request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """The person's API tokens."""
    return page(request, "account.html", tokens=service.list_tokens(session, user), secret=None)


@router.post("/account/tokens")
def create_token(request: Request, session: SessionDep, user: UserDep, name: Annotated[str, Form()] = "") -> HTMLResponse:
    """Make a token and show its secret, once."""
    secret = service.create_token(session, user, name)
    return page(request, "account.html", tokens=service.list_tokens(session, user), secret=secret)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(session: SessionDep, user: UserDep, token_id: int) -> RedirectResponse:
    """End a token."""
    service.revoke_token(session, user, token_id)
    return RedirectResponse("/account", 303)
