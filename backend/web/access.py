"""Roles and the actions they allow, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from backend.core.errors import Forbidden

Action = Literal[
    "import",  # start an import
    "edit",  # rename and delete data sets
    "inspect",  # see which label errors were planted
    "train",  # start a training
    "score",  # find harmful images
    "clean",  # clean, accept and roll back
    "steer",  # stop jobs and queue them again
    "arrange",  # ask for second opinions, and take another person's part away
    "review",  # decide on images, and all that serves it
]


@dataclass(frozen=True)
class Role:
    """A role's actions, and the sentence that tells people about them."""

    actions: frozenset[Action]
    sentence: str


ROLES: Mapping[str, Role] = {
    "owner": Role(frozenset(get_args(Action)), "You may do everything here."),
    "reviewer": Role(frozenset({"review"}), "You can look at everything and decide in reviews."),
}
LOOK_ONLY = Role(frozenset(), "You can look at everything.")


class HasRole(Protocol):
    """Anything with a role, such as a user."""

    @property
    def role(self) -> str: ...


def may(user: HasRole | None, action: Action) -> bool:
    """Return True if the user's role allows the action."""
    return user is not None and action in role_of(user).actions


def check(user: HasRole, action: Action) -> None:
    """Raise Forbidden, with who may and what the user may instead."""
    if not may(user, action):
        allowed = " or ".join(
            f"{_article(name)} {name}" for name, role in ROLES.items() if action in role.actions
        )
        raise Forbidden(f"Only {allowed} may do this. {role_of(user).sentence}")


def role_of(user: HasRole) -> Role:
    """Return the user's role; a name that is not in the table allows nothing."""
    return ROLES.get(user.role, LOOK_ONLY)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
