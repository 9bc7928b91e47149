"""Identify the user, and check access, in one place."""

from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Annotated

from cachetools import TTLCache
from fastapi import Depends, Request

from backend.accounts import service
from backend.core.db import SessionDep
from backend.core.errors import Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import User
from backend.web.access import Action, check
from backend.web.cross_origin import SAFE_METHODS, refuse_foreign

COOKIE = "winnow_session"
# Names the user of decisions that a page sends later.
PAGE_OF = "X-Winnow-User"
# Pictures, a hundred on a page, skip the check this long.
RECENT_SECONDS = 10.0
MOST_RECENT = 1000
_recent_lock = Lock()  # pictures use several threads


@dataclass(frozen=True)
class SignedIn:
    """The user and the credential. `by_cookie`: forms must prove their origin."""

    user: User
    credential_id: int
    by_cookie: bool


def identify(request: Request, session: SessionDep) -> SignedIn:
    """Identify the user by API token or session cookie. Raises Unauthenticated."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    by_cookie = scheme.lower() != "bearer"
    secret = request.cookies.get(COOKIE, "") if by_cookie else token.strip()
    found = (
        service.authenticate(session, "session" if by_cookie else "api_token", secret)
        if secret
        else None
    )
    if found is None:
        message = (
            "Please sign in."
            if by_cookie
            else f"This API token is not valid; make a new one in Winnow's folder: "
            f"{winnow()} token create"
        )
        raise Unauthenticated(message)
    user, credential = found
    # A rollback empties attached objects, but an error page shows the name.
    session.expunge(user)
    request.state.user = user
    return SignedIn(user, credential.id, by_cookie)


def require_sign_in(request: Request) -> None:
    """Require a signed-in user; skips the database after a recent check.

    Raises:
        Unauthenticated: no user is signed in.
    """
    recent: TTLCache[bytes, bool] = request.app.state.recent_sign_ins
    shown = f"{request.headers.get('Authorization', '')} {request.cookies.get(COOKIE, '')}"
    key = sha256(shown.encode()).digest()
    with _recent_lock:
        if key in recent:
            return
    with request.app.state.database.transaction(write=False) as session:
        identify(request, session)
    with _recent_lock:
        recent[key] = True


async def verify(request: Request, who: Annotated[SignedIn, Depends(identify)]) -> SignedIn:
    """Refuse unsafe requests of another origin, or of another user's page.

    Raises:
        Forbidden: another origin's request.
        Unauthenticated: the page's user is signed out.
    """
    if not who.by_cookie or request.method in SAFE_METHODS:
        return who
    refuse_foreign(request)
    if request.headers.get(PAGE_OF, str(who.user.id)) != str(who.user.id):
        raise Unauthenticated("Someone else is signed in now. Sign in again.")
    return who


# A plain function would cost a thread.
async def signed_in_user(who: Annotated[SignedIn, Depends(verify)]) -> User:
    """Return any signed-in user."""
    return who.user


@dataclass(frozen=True)
class Allowed:
    """Dependency: the signed-in user, if the role allows the action."""

    action: Action

    async def __call__(self, who: Annotated[SignedIn, Depends(verify)]) -> User:
        check(who.user, self.action)
        return who.user


def perhaps_signed_in(request: Request, session: SessionDep) -> User | None:
    """Return the signed-in user, or None on a public page."""
    try:
        return identify(request, session).user
    except Unauthenticated:
        return None


SignedInDep = Annotated[SignedIn, Depends(verify)]
UserDep = Annotated[User, Depends(signed_in_user)]
MayImport = Annotated[User, Depends(Allowed("import"))]
MayEdit = Annotated[User, Depends(Allowed("edit"))]
MayInspect = Annotated[User, Depends(Allowed("inspect"))]
MayTrain = Annotated[User, Depends(Allowed("train"))]
MayScore = Annotated[User, Depends(Allowed("score"))]
MayClean = Annotated[User, Depends(Allowed("clean"))]
MaySteer = Annotated[User, Depends(Allowed("steer"))]
MayArrange = Annotated[User, Depends(Allowed("arrange"))]
MayReview = Annotated[User, Depends(Allowed("review"))]
VisitorDep = Annotated[User | None, Depends(perhaps_signed_in)]
