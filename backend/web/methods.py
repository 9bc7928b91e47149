"""Methods that an address takes, over all of its routes."""

from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def methods_at(request: Request) -> list[str]:
    """Return every method of the request's address, sorted."""
    path = request.scope["path"]
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path and compile_path(route.path)[0].match(path):
            found |= set(route.methods)
    return sorted(found)
