"""Users and their credentials.

Only SHA-256 hashes of secrets are stored; 256 random bits need no slow hash.
"""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import ColumnElement, bindparam, delete, or_, select, update
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, Invalid, NotFound, Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import Credential, User, now
from backend.core.text import tidy
from backend.web.access import ROLES

LINK_LIFETIME = timedelta(hours=24)
USED_LINK = (
    "This login link was used already or is too old. "
    f"Get a new one on the server, in Winnow's folder: {winnow()} login-link"
)


def create_user(session: Session, name: str, role: str = "reviewer") -> User:
    """Add a user. Raises Invalid for an empty name or unknown role, Conflict for a taken name."""
    name = tidy(name)
    if not 0 < len(name) <= 100:
        raise Invalid("A person needs a name of 1 to 100 characters.")
    if role not in ROLES:
        raise Invalid(f"There is no role {role!r}; there are {' and '.join(ROLES)}.")
    if session.scalar(select(User.id).where(User.name == name)) is not None:
        raise Conflict(f"There is already a person called {name}.")
    user = User(name=name, role=role)
    session.add(user)
    session.flush()
    return user


def list_users(session: Session) -> list[User]:
    """List all users, oldest first."""
    return list(session.scalars(select(User).order_by(User.id)))


def find_user(session: Session, name: str) -> User:
    """Return the user of that name. Raises NotFound."""
    user = session.scalar(select(User).where(User.name == tidy(name)))
    if user is None:
        raise NotFound(f"There is nobody called {name}. See who there is: winnow user list")
    return user


def first_owner(session: Session) -> User:
    """Return the first owner; add one if missing."""
    owner = session.scalar(select(User).where(User.role == "owner").order_by(User.id).limit(1))
    return owner or create_user(session, "me", "owner")


def remove_user(session: Session, user: User) -> None:
    """Remove a user and credentials; decisions stay. Raises Conflict for the last owner."""
    owners = session.scalars(select(User.id).where(User.role == "owner")).all()
    if list(owners) == [user.id]:
        raise Conflict("This is the only owner; make another person an owner first.")
    session.execute(delete(User).where(User.id == user.id))


def issue_login_link(session: Session, user: User) -> str:
    """Return the secret of a link that signs in once, within a day."""
    return _issue(session, user, "login_link", "", LINK_LIFETIME)


def create_token(session: Session, user: User, name: str) -> str:
    """Return the secret of a new API token, which works until revoked."""
    return _issue(session, user, "api_token", tidy(name)[:100] or "token", None)


def list_tokens(session: Session, user: User) -> list[Credential]:
    """List the user's API tokens, without secrets."""
    own = (Credential.user_id == user.id, Credential.kind == "api_token")
    return list(session.scalars(select(Credential).where(*own).order_by(Credential.id)))


def revoke_token(session: Session, user: User, token_id: int) -> None:
    """Delete the user's own API token. Raises NotFound."""
    own = (Credential.id == token_id, Credential.user_id == user.id, Credential.kind == "api_token")
    if session.execute(delete(Credential).where(*own).returning(Credential.id)).first() is None:
        raise NotFound("There is no such token.")


def find_invited(session: Session, link_secret: str) -> User | None:
    """Return whom a login link would sign in, detached; None where it is used or too old."""
    wanted = select(User).join(Credential, Credential.user_id == User.id)
    user = session.scalar(wanted.where(*_unused(link_secret)))
    if user is not None:
        session.expunge(user)
    return user


def sign_in(session: Session, link_secret: str, session_days: int) -> str:
    """Trade a login link's secret for a session's. Raises Unauthenticated for a bad link."""
    # Only one of two concurrent requests passes.
    user_id = session.scalar(
        update(Credential)
        .where(*_unused(link_secret))
        .values(used_at=now())
        .returning(Credential.user_id)
    )
    if user_id is None:
        raise Unauthenticated(USED_LINK)
    _forget_old(session)
    return _issue(
        session, session.get_one(User, user_id), "session", "", timedelta(days=session_days)
    )


def sign_out(session: Session, credential_id: int) -> None:
    session.execute(delete(Credential).where(Credential.id == credential_id))


def authenticate(session: Session, kind: str, secret: str) -> tuple[User, int] | None:
    """Find the user, detached, and the credential's id of a secret, or None."""
    values = {"secret_hash": _hash(secret), "kind": kind, "moment": now()}
    row = session.execute(_BY_SECRET, values).first()
    if row is None:
        return None
    session.expunge(row[0])
    return row[0], row[1]


def check_credential(session: Session, credential_id: int, user: User) -> None:
    """Raise Unauthenticated unless the credential counts and the user is unchanged."""
    row = session.execute(_BY_ID, {"credential_id": credential_id, "moment": now()}).first()
    if row != (user.name, user.role):
        raise Unauthenticated("You were signed out meanwhile. Sign in again.")


# Every request asks these: built once.
_IN_FORCE = or_(Credential.expires_at.is_(None), Credential.expires_at > bindparam("moment"))
_BY_SECRET = (
    select(User, Credential.id)
    .join(Credential, Credential.user_id == User.id)
    .where(Credential.secret_hash == bindparam("secret_hash"))
    .where(Credential.kind == bindparam("kind"), _IN_FORCE)
)
_users, _credentials = User.__table__, Credential.__table__
_BY_ID = (
    select(_users.c.name, _users.c.role)
    .select_from(_users.join(_credentials, _credentials.c.user_id == _users.c.id))
    .where(_credentials.c.id == bindparam("credential_id"))
    .where(
        or_(_credentials.c.expires_at.is_(None), _credentials.c.expires_at > bindparam("moment"))
    )
)


def _unused(link_secret: str) -> tuple[ColumnElement[bool], ...]:
    return (
        Credential.secret_hash == _hash(link_secret),
        Credential.kind == "login_link",
        Credential.used_at.is_(None),
        Credential.expires_at > now(),
    )


def _issue(session: Session, user: User, kind: str, name: str, lifetime: timedelta | None) -> str:
    secret = secrets.token_urlsafe(32)
    expires_at = now() + lifetime if lifetime else None
    session.add(
        Credential(
            user_id=user.id, kind=kind, name=name, secret_hash=_hash(secret), expires_at=expires_at
        )
    )
    session.flush()
    return secret


def _forget_old(session: Session) -> None:
    session.execute(delete(Credential).where(Credential.expires_at < now() - timedelta(days=1)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
