"""Pages for signing in and out, and for the account."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from backend.accounts import service
from backend.accounts.dependencies import (
    COOKIE,
    SignedIn,
    SignedInDep,
    UserDep,
    VisitorDep,
    find_sender,
    forget_recent,
)
from backend.core.db import after_commit
from backend.core.errors import Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import User
from backend.core.settings import Settings
from backend.web.access import role_of
from backend.web.cross_origin import refuse_foreign
from backend.web.redirects import own_path
from backend.web.rendering import page
from backend.web.routes import TransactionRoute
from backend.web.transactions import SessionDep, Transactions

router = APIRouter(route_class=TransactionRoute, include_in_schema=False)

COME_BACK = "winnow_next"
COME_BACK_SECONDS = 86400  # as long as a login link works


@router.get("/")
async def home(request: Request, token: str = "") -> Response:
    """Open the login link; without a token, go to the data sets."""
    if not token:
        return RedirectResponse("/datasets", 303)
    # Prefetching chat programs and browsers must not spend a single-use link.
    if request.headers.get("Sec-Fetch-Mode") == "navigate" and "Sec-Purpose" not in request.headers:
        return await _sign_in(request, token)
    # "no-referrer" would give the button's request the origin "null".
    return _secretive(page(request, "login.html", token=token), "strict-origin")


# HEAD for monitors and link previews.
@router.api_route("/login", methods=["GET", "HEAD"])
def login(
    request: Request,
    user: VisitorDep,
    next: str = "",  # noqa: A002 - the word in the address
) -> Response:
    """Explain how to get a login link, and remember where to go afterwards."""
    back = own_path(next, "")
    if user is not None:
        return RedirectResponse(back or "/datasets", 303)
    response = page(request, "login.html", token="", command=winnow())
    if back:
        _set_cookie(request, response, COME_BACK, back, COME_BACK_SECONDS)
    return response


@router.post("/login")
async def open_link(request: Request, token: Annotated[str, Form()] = "") -> Response:
    """Sign in by button, where a program may have opened the link."""
    refuse_foreign(request)
    return await _sign_in(request, token)


async def _sign_in(request: Request, token: str) -> Response:
    settings: Settings = request.app.state.settings
    transactions: Transactions = request.app.state.transactions
    response = _secretive(
        RedirectResponse(own_path(request.cookies.get(COME_BACK, ""), "/datasets"), 303)
    )
    before = await find_sender(request)
    try:
        # Strangers with a wrong link never wait among the writers.
        await transactions.read(partial(service.check_link, link_secret=token))
        secret = await transactions.write(partial(_exchange, token, settings, before))
    except Unauthenticated:
        if before is None or not before.by_cookie:
            raise
        # A second click on a used link is no error.
        return response
    forget_recent(request)
    _set_cookie(request, response, COOKIE, secret, settings.session_days * 86400)
    response.delete_cookie(COME_BACK)
    return response


def _exchange(token: str, settings: Settings, before: SignedIn | None, session: Session) -> str:
    """Trade a link for a session, which replaces the browser's session before."""
    secret = service.sign_in(session, token, settings.session_days)
    if before is not None and before.by_cookie:
        service.sign_out(session, before.credential_id)
    return secret


def _secretive(response: Response, policy: str = "no-referrer") -> Response:
    """Keep the address with its secret from other sites."""
    response.headers["Referrer-Policy"] = policy
    return response


def _set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    secure = request.app.state.settings.secure_cookies
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)


@router.post("/logout")
def logout(request: Request, session: SessionDep, who: SignedInDep) -> RedirectResponse:
    service.sign_out(session, who.credential_id)
    after_commit(session, partial(forget_recent, request))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    # Images are cached for a year.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@router.get("/account")
def account(request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show the user's API tokens."""
    return _account(request, session, user)


@router.post("/account/tokens")
def create_token(
    request: Request, session: SessionDep, user: UserDep, name: Annotated[str, Form()] = ""
) -> HTMLResponse:
    """Make a token and show its secret, once."""
    secret = service.create_token(session, user, name)
    return _account(request, session, user, secret)


def _account(
    request: Request, session: Session, user: User, secret: str | None = None
) -> HTMLResponse:
    tokens = service.list_tokens(session, user)
    abilities = role_of(user).sentence
    return page(request, "account.html", abilities=abilities, tokens=tokens, secret=secret)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(
    request: Request, session: SessionDep, user: UserDep, token_id: int
) -> RedirectResponse:
    service.revoke_token(session, user, token_id)
    after_commit(session, partial(forget_recent, request))
    return RedirectResponse("/account", 303)
