"""The signed-in user, and API tokens."""

from functools import partial

from fastapi import Request

from backend.accounts import service
from backend.accounts.dependencies import UserDep, forget_recent
from backend.accounts.schemas import NewToken, Person, Token
from backend.core.db import after_commit
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(tags=["accounts"])


@router.get("/me", summary="Who is signed in")
def me(user: UserDep) -> Person:
    """Return the person whose token or session this is."""
    return Person.model_validate(user)


@router.get("/tokens", summary="List your API tokens")
def list_tokens(session: SessionDep, user: UserDep) -> list[Token]:
    """List your tokens, without secrets: each is shown once, when its token is made."""
    return [
        Token.model_validate(token, from_attributes=True)
        for token in service.list_tokens(session, user)
    ]


@router.post("/tokens", status_code=201, summary="Make an API token")
def create_token(session: SessionDep, user: UserDep, wanted: NewToken) -> Token:
    """Make a token. The answer holds its secret, which cannot be shown again."""
    secret = service.create_token(session, user, wanted.name)
    token = service.list_tokens(session, user)[-1]
    return Token(id=token.id, name=token.name, created_at=token.created_at, secret=secret)


@router.delete("/tokens/{token_id}", status_code=204, summary="Revoke an API token")
def revoke_token(request: Request, session: SessionDep, user: UserDep, token_id: int) -> None:
    """Revoke a token; it stops working at once."""
    service.revoke_token(session, user, token_id)
    after_commit(session, partial(forget_recent, request))
