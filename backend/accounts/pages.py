"""Pages for signing in and out, and for the account."""

from functools import partial
from typing import Annotated

from fastapi import Form, Request
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
from backend.review import service as reviews
from backend.web.access import may, role_of
from backend.web.cross_origin import refuse_foreign
from backend.web.redirects import own_path
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep, Transactions

router = TransactionRouter(include_in_schema=False)

COME_BACK = "winnow_next"
LOCAL = ("localhost", "127.0.0.1", "::1")
COME_BACK_SECONDS = 86400  # as long as a login link works


# HEAD for monitors and link previews.
@router.api_route("/", methods=["GET", "HEAD"])
async def home(request: Request, token: str = "") -> Response:
    """Ask before a login link is used; without a token, go to the data sets.

    Mail scanners open links in real browsers, so opening alone signs nobody in.
    """
    if not token:
        return RedirectResponse("/datasets", 303)
    invited, sender = await _find_invited(request, token), await find_sender(request)
    return _refuse(request, sender) if invited is None else _ask(request, token, invited)


async def _find_invited(request: Request, token: str) -> User | None:
    transactions: Transactions = request.app.state.transactions
    return await transactions.read(partial(service.find_invited, link_secret=token))


def _ask(request: Request, token: str, invited: User) -> Response:
    """Show the button that uses the link up, for whom it is, and whom it signs out."""
    response = page(
        request, "login.html", token=token, invited=invited, come_back=_come_back(request)
    )
    # "no-referrer" would give the button's request the origin "null".
    return _secretive(response, "strict-origin")


def _refuse(request: Request, sender: SignedIn | None) -> Response:
    """Lead a signed-in person on, past a used link. Raises Unauthenticated for a stranger."""
    if sender is None or not sender.by_cookie:
        raise Unauthenticated(service.USED_LINK)
    return RedirectResponse(_come_back(request), 303)


def _come_back(request: Request, otherwise: str = "/datasets") -> str:
    return own_path(request.cookies.get(COME_BACK, ""), otherwise)


def _find_work(session: Session, user: User) -> str:
    """Return where a person works: reviewers at the review, owners at the data sets."""
    review = None if may(user, "import") else reviews.find_work(session)
    return f"/reviews/{review.id}" if review else "/datasets"


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
async def open_link(
    request: Request,
    token: Annotated[str, Form()] = "",
    replaces: Annotated[str, Form()] = "",
) -> Response:
    """Use a login link up, by its button.

    Args:
        token: the link's secret.
        replaces: id of the user whom the page named as signed in; empty for none.
    """
    refuse_foreign(request)
    # Strangers with a wrong link never wait among the writers.
    invited, before = await _find_invited(request, token), await find_sender(request)
    if invited is None:
        return _refuse(request, before)
    if before and before.user.id != invited.id and str(before.user.id) != replaces:
        return _ask(request, token, invited)
    settings: Settings = request.app.state.settings
    transactions: Transactions = request.app.state.transactions
    secret, work = await transactions.write(
        partial(_exchange, token, settings.session_days, before, invited)
    )
    forget_recent(request)
    response = _secretive(RedirectResponse(_come_back(request, work), 303))
    _set_cookie(request, response, COOKIE, secret, settings.session_days * 86400)
    response.delete_cookie(COME_BACK)
    return response


def _exchange(
    token: str, days: int, before: SignedIn | None, invited: User, session: Session
) -> tuple[str, str]:
    """Trade a link for a session, which replaces the one before; return where to work, too."""
    secret = service.sign_in(session, token, days)
    if before is not None and before.by_cookie:
        service.sign_out(session, before.credential_id)
    return secret, _find_work(session, invited)


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
    # Images are cached for a year. Browsers object to the header where the origin is insecure.
    if request.url.hostname in LOCAL or request.app.state.settings.secure_cookies:
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
