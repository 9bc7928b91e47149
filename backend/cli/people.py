"""Commands for users, login links and API tokens."""

from typing import Annotated

import typer

from backend.accounts import service as accounts
from backend.cli.console import say, show
from backend.cli.journey import login_link as make_link
from backend.cli.opening import acting, make_settings, opened, serving, transaction

users = typer.Typer(no_args_is_help=True, help="The people who may sign in.")
tokens = typer.Typer(no_args_is_help=True, help="Tokens for programs that use the API.")


def login_link(
    user: Annotated[
        str | None, typer.Argument(help="Whom it signs in; the first owner unless named.")
    ] = None,
) -> None:
    """Print a link whose button signs one person in, once, within a day."""
    settings = make_settings()
    with opened(settings) as database:
        print(make_link(serving(settings), database, user))


@users.command("add")
def add_user(
    name: str,
    role: Annotated[
        str, typer.Option(help="owner (everything) or reviewer (look and decide).")
    ] = "reviewer",
) -> None:
    """Add a person, and print a login link."""
    settings = make_settings()
    with opened(settings) as database:
        with database.transaction() as session:
            user = accounts.create_user(session, name, role)
        print(make_link(serving(settings), database, user.name))


@users.command("list")
def list_users() -> None:
    """List everybody with their roles."""
    with transaction(write=False) as session:
        show(("name", "role"), [(user.name, user.role) for user in accounts.list_users(session)])


@users.command("remove")
def remove_user(name: str) -> None:
    """Remove a person; what they decided stays."""
    with transaction() as session:
        accounts.remove_user(session, accounts.find_user(session, name))
    say(f"{name} can no longer sign in.")


@tokens.command("create")
def create_token(
    user: Annotated[
        str | None, typer.Argument(help="Whose it is; the first owner's unless named.")
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
) -> None:
    """Print a new API token; it is shown this once."""
    with transaction() as session:
        print(
            accounts.create_token(
                session, accounts.find_user(session, user) if user else acting(session), name
            )
        )
