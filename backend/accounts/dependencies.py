"""Who is asking, and may they: the one place where access and cross-site requests are checked."""

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request
from itsdangerous import BadSignature, URLSafeSerializer

from backend.accounts import service
from backend.core.db import SessionDep
from backend.core.errors import Forbidden, Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import User
from backend.web.access import Action, check

COOKIE = "winnow_session"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
# For pictures alone: whose sign-in was valid this many seconds ago is not asked again. A page has a hundred of them.
RECENT_SECONDS = 10.0
MOST_RECENT = 1000


@dataclass(frozen=True)
class SignedIn:
    """The person, and the credential that says so. `by_cookie`: a browser sends it by itself, so a form must prove where it comes from."""

    user: User
    credential_id: int
    by_cookie: bool


def identify(request: Request, session: SessionDep) -> SignedIn:
    """Who is asking, by API token or session cookie. Raises Unauthenticated."""
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
            else f"This API token is not valid; make a new one in Winnow's folder: {winnow()} token create"
        )
        raise Unauthenticated(message)
    user, credential = found
    # An error page shows the name after the transaction was rolled back, which would empty what is still attached.
    session.expunge(user)
    request.state.user = user
    request.state.csrf_token = csrf_token(request, credential.id)
    return SignedIn(user, credential.id, by_cookie)


def require_sign_in(request: Request) -> None:
    """Only that somebody is signed in, for pictures: without a transaction where that was so moments ago. Raises Unauthenticated."""
    recent: dict[bytes, float] = request.app.state.recent_sign_ins
    shown = f"{request.headers.get('Authorization', '')} {request.cookies.get(COOKIE, '')}"
    key = sha256(shown.encode()).digest()
    if recent.get(key, 0.0) > time.monotonic():
        return
    with request.app.state.database.transaction(write=False) as session:
        identify(request, session)
    if len(recent) >= MOST_RECENT:
        recent.clear()
    recent[key] = time.monotonic() + RECENT_SECONDS


def csrf_token(request: Request, credential_id: int) -> str:
    """What a form of this session must bring along."""
    return str(_signer(request).dumps(credential_id))


def refuse_foreign(request: Request) -> None:
    """Refuse what a page of another site made a browser send; browsers say so. Raises Forbidden."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This request came from another site.")


async def verify(request: Request, who: Annotated[SignedIn, Depends(identify)]) -> SignedIn:
    """Refuse unsafe requests that do not prove that they come from a page of ours. Raises Forbidden."""
    if not who.by_cookie or request.method in SAFE_METHODS:
        return who
    refuse_foreign(request)
    token = request.headers.get("X-CSRF-Token") or await _form_token(request)
    try:
        valid = token is not None and _signer(request).loads(token) == who.credential_id
    except BadSignature:
        valid = False
    if not valid:
        raise Forbidden("This form is out of date. Load the page again and repeat what you did.")
    return who


async def _form_token(request: Request) -> str | None:
    """The token in a form. An upload was read before, into a file, and has left its token behind (backend/datasets/uploads.py)."""
    if hasattr(request.state, "form_token"):
        return str(request.state.form_token)
    if request.headers.get("Content-Type", "").partition(";")[0] not in FORM_TYPES:
        return None
    # FastAPI has parsed the form already where the route declares one; Starlette keeps what was parsed.
    value = (await request.form()).get("csrf_token")
    return value if isinstance(value, str) else None


# Async, because FastAPI would send a plain function to another thread, which costs more than the function does.
async def signed_in_user(who: Annotated[SignedIn, Depends(verify)]) -> User:
    """Anybody who is signed in."""
    return who.user


@dataclass(frozen=True)
class Allowed:
    """Dependency that returns the signed-in user if the role allows the action."""

    action: Action

    async def __call__(self, who: Annotated[SignedIn, Depends(verify)]) -> User:
        check(who.user, self.action)
        return who.user


def perhaps_signed_in(request: Request, session: SessionDep) -> User | None:
    """Whoever is signed in, for pages that everybody may see."""
    try:
        return identify(request, session).user
    except Unauthenticated:
        return None


def _signer(request: Request) -> URLSafeSerializer:
    signer: URLSafeSerializer = request.app.state.csrf_signer
    return signer


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
