"""Roles and the actions they allow, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from backend.core.errors import Forbidden

Action = Literal[
    "import",
    "edit",
    "inspect",  # see planted label errors
    "train",
    "score",  # find harmful images
    "clean",  # accept and roll back too
    "steer",  # stop and requeue jobs
    "arrange",  # second opinions, another user's part
    "review",  # decide on images
]


@dataclass(frozen=True)
class Role:
    actions: frozenset[Action]
    sentence: str


ROLES: Mapping[str, Role] = {
    "owner": Role(frozenset(get_args(Action)), "You may do everything here."),
    "reviewer": Role(frozenset({"review"}), "You can look at everything and decide in reviews."),
}
LOOK_ONLY = Role(frozenset(), "You can look at everything.")


class HasRole(Protocol):
    @property
    def role(self) -> str: ...


def may(user: HasRole | None, action: Action) -> bool:
    return user is not None and action in role_of(user).actions


def check(user: HasRole, action: Action) -> None:
    """Raise Forbidden, naming who may and what the user may do instead."""
    if not may(user, action):
        allowed = " or ".join(
            f"{_article(name)} {name}" for name, role in ROLES.items() if action in role.actions
        )
        raise Forbidden(f"Only {allowed} may do this. {role_of(user).sentence}")


def role_of(user: HasRole) -> Role:
    """Return the user's role; an unknown role allows nothing."""
    return ROLES.get(user.role, LOOK_ONLY)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
