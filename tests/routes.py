"""Every address of the application: tests that use it cover new routes too."""

import re
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

# Public addresses.
PUBLIC = {"/", "/login", "/health", "/favicon.ico", "/api/docs", "/api/openapi.json", "/static"}
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def addresses(app: FastAPI, *methods: str, ids: int = 1) -> Iterator[tuple[str, str]]:
    """Return (method, path) of routes behind the login; `ids` fill the numbers of the path."""
    for route in iter_route_contexts(app.routes):
        path = route.path_format or ""
        if path in PUBLIC:
            continue
        for method in sorted(set(route.methods or ()) & set(methods)):
            filled = path.replace("{view}", "thumbnails").replace("{name}", "a" * 64)
            yield method, re.sub(r"{\w+}", str(ids), filled)
