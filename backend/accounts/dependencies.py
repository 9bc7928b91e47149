"""Identify the user, and check access, in one place."""

import asyncio
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Annotated
from weakref import WeakValueDictionary

from cachetools import TTLCache
from fastapi import Depends, Request

from backend.accounts import service
from backend.core.errors import Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import User
from backend.web.access import Action, check
from backend.web.cross_origin import SAFE_METHODS, refuse_foreign
from backend.web.transactions import Transactions

COOKIE = "winnow_session"
# Names the user of decisions that a page sends later.
PAGE_OF = "X-Winnow-User"
# Pictures, a hundred on a page, skip the check this long.
RECENT_SECONDS = 1.0
# Endpoints' transactions check the sender, so a reading transaction before them is rarely needed.
KNOWN_SECONDS = 60.0
MOST_RECENT = 1000
_lock = Lock()  # signing out happens in a thread


@dataclass(frozen=True)
class SignedIn:
    """The user and the credential. `by_cookie`: forms must prove their origin."""

    user: User
    credential_id: int
    by_cookie: bool


async def identify(request: Request) -> SignedIn:
    """Identify the user by API token or session cookie. Raises Unauthenticated."""
    found = await find_sender(request)
    if found is not None:
        return found
    if _shown(request)[0] == "session":
        raise Unauthenticated("Please sign in.")
    raise Unauthenticated(
        f"This API token is not valid; make a new one in Winnow's folder: {winnow()} token create"
    )


async def find_sender(request: Request) -> SignedIn | None:
    """Find who sent the request, once a request, before any transaction that writes."""
    if not hasattr(request.state, "sender"):
        request.state.sender = _recall(request) or await _look_up(request)
    sender: SignedIn | None = request.state.sender
    if sender is not None:
        # An error page shows the name.
        request.state.user = sender.user
        request.state.check_sender = partial(
            service.check_credential, credential_id=sender.credential_id, user=sender.user
        )
    return sender


def _recall(request: Request) -> SignedIn | None:
    """Return a sender of the last minute, if the endpoint's transaction checks again."""
    if not getattr(request.state, "is_checked", False):
        return None
    known: TTLCache[bytes, SignedIn] = request.app.state.known_senders
    key = _key(request)
    with _lock:
        sender = known.get(key)
    if sender is not None:
        request.state.forget_sender = partial(_forget, request, key)
    return sender


def _forget(request: Request, key: bytes) -> None:
    with _lock:
        request.app.state.known_senders.pop(key, None)
    del request.state.sender, request.state.forget_sender


async def _look_up(request: Request) -> SignedIn | None:
    kind, secret = _shown(request)
    if not secret:
        return None
    transactions: Transactions = request.app.state.transactions
    found = await transactions.read(partial(service.authenticate, kind=kind, secret=secret))
    if found is None:
        return None
    sender = SignedIn(*found, by_cookie=kind == "session")
    with _lock:
        request.app.state.known_senders[_key(request)] = sender
    return sender


def _key(request: Request) -> bytes:
    return sha256(" ".join(_shown(request)).encode()).digest()


def _shown(request: Request) -> tuple[str, str]:
    """Return the kind of the request's credential, and its secret."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return "api_token", token.strip()
    return "session", request.cookies.get(COOKIE, "")


async def require_sign_in(request: Request) -> None:
    """Require a signed-in user; skips the database after a recent check.

    Raises:
        Unauthenticated: no user is signed in.
    """
    recent: TTLCache[bytes, bool] = request.app.state.recent_sign_ins
    key = _key(request)
    if _is_recent(recent, key):
        return
    asked: WeakValueDictionary[bytes, asyncio.Lock] = request.app.state.sign_ins_asked
    # A page's pictures come together: one asks, the others wait for its answer.
    async with asked.setdefault(key, asyncio.Lock()):
        if _is_recent(recent, key):
            return
        await identify(request)
        with _lock:
            recent[key] = True


def _is_recent(recent: "TTLCache[bytes, bool]", key: bytes) -> bool:
    with _lock:
        return key in recent


def forget_recent(request: Request) -> None:
    """Check everyone again: someone signed out, or a token was revoked."""
    with _lock:
        request.app.state.recent_sign_ins.clear()


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


async def perhaps_signed_in(request: Request) -> User | None:
    """Return the signed-in user, or None on a public page."""
    sender = await find_sender(request)
    return None if sender is None else sender.user


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
