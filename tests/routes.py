"""Every address of the application, to be asked in turn: nobody can forget one that is added later."""

import re
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

# What nobody needs to sign in for.
PUBLIC = {"/", "/login", "/health", "/favicon.ico", "/api/docs", "/api/openapi.json", "/static"}
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def addresses(app: FastAPI, *methods: str, ids: int = 1) -> Iterator[tuple[str, str]]:
    """(method, path) of each route behind the login, the path's placeholders filled in: `ids` for numbers, a thumbnail for images."""
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if path in PUBLIC:
            continue
        for method in sorted(set(route.methods or ()) & set(methods)):
            filled = path.replace("{view}", "thumbnails").replace("{name}", "a" * 64)
            yield method, re.sub(r"{\w+}", str(ids), filled)
