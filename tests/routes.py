"""Every address of the application: tests that use it cover new routes too."""

import re
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from backend.accounts.dependencies import Allowed
from backend.datasets.uploads import receive

# Public addresses.
PUBLIC = {"/", "/login", "/health", "/favicon.ico", "/api/docs", "/api/openapi.json", "/static"}
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# Every role may change its own sessions and tokens.
OWN_ACCOUNT = {
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/1"),
    ("POST", "/account/tokens"),
    ("POST", "/account/tokens/1/revoke"),
    ("POST", "/logout"),
}


def addresses(app: FastAPI, *methods: str, ids: int = 1) -> Iterator[tuple[str, str]]:
    """Return (method, path) of routes behind the login; `ids` fill the numbers of the path."""
    for route in iter_route_contexts(app.routes):
        path = route.path_format or ""
        if path in PUBLIC:
            continue
        for method in sorted(set(route.methods or ()) & set(methods)):
            filled = path.replace("{view}", "thumbnails").replace("{name}", "a" * 64)
            yield method, re.sub(r"{\w+}", str(ids), filled)


def asked_actions(app: FastAPI) -> dict[tuple[str, str], set[str]]:
    """Return the actions that each unsafe route asks for, by method and blanked path."""
    actions: dict[tuple[str, str], set[str]] = {}
    for route in iter_route_contexts(app.routes):
        found = _calls(getattr(route.original_route, "dependant", None))
        asked = {call.action for call in found if isinstance(call, Allowed)}
        asked |= {"import"} if receive in found else set()
        for method in set(route.methods or ()) & set(UNSAFE):
            actions[method, blanked(route.path_format or "")] = asked
    return actions


def blanked(path: str) -> str:
    """Return a path with {} for each number and each placeholder."""
    return "/".join(
        "{}" if part.isdigit() or part.startswith("{") else part for part in path.split("/")
    )


def _calls(dependant: object) -> set[object]:
    found = {getattr(dependant, "call", None)}
    for inner in getattr(dependant, "dependencies", []):
        found |= _calls(inner)
    return found
