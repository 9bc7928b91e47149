"""Routes: one transaction an endpoint, the body first, numbers in the address as such."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property, wraps
from inspect import signature
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params, get_validation_alias
from fastapi.routing import APIRoute, APIRouter
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match
from starlette.types import Scope

from backend.core.errors import Forbidden, Unauthenticated
from backend.web.bodies import body_read, is_upload
from backend.web.cross_origin import SAFE_METHODS
from backend.web.transactions import Pending


class NumberConvertor(Convertor[int]):
    """A number that Python converts quickly; the database may still find it too large."""

    regex = "[0-9]{1,30}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", NumberConvertor())
API = "/api/v1"


class TransactionRoute(APIRoute):
    """A route whose endpoint, with its session, is one transaction in one thread."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(_with_numbers(path, endpoint), _in_transaction(endpoint), **options)

    @cached_property
    def query_names(self) -> dict[str, bool]:
        """Map names of query parameters to "is documented"."""
        parameters = [field for part in _parts(self.dependant) for field in part.query_params]
        return {
            get_validation_alias(field): getattr(field.field_info, "include_in_schema", True)
            for field in get_flat_params(Dependant(query_params=parameters))
        }

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()
        has_session = _has_session(self.endpoint)

        async def handle_with_body(request: Request) -> Any:
            request.state.is_checked = has_session and not is_upload(request)
            if request.method in SAFE_METHODS:
                return await _handle(handle, lambda: request)
            async with body_read(request) as read:
                return await _handle(handle, read)

        return handle_with_body


class TransactionRouter(APIRouter):
    """A feature's routes. Its addresses' first words spare requests for other features."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=TransactionRoute, **options)

    @cached_property
    def _words(self) -> set[str]:
        return {_first_word(route.path) for route in self.routes if isinstance(route, APIRoute)}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if _first_word(scope["path"]) not in self._words:
            return Match.NONE, {}
        return super().matches(scope)


def _first_word(path: str) -> str:
    return path.removeprefix(API).split("/", 2)[1] if path.startswith("/") else ""


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for other in dependant.dependencies:
        yield from _parts(other)


async def _handle(handle: Callable[[Request], Any], read: Callable[[], Request]) -> Any:
    """Handle a request; if its sender was remembered and is refused, look the sender up first."""
    request = read()
    try:
        return await handle(request)
    except (Unauthenticated, Forbidden):
        forget: Callable[[], None] | None = getattr(request.state, "forget_sender", None)
        if forget is None:
            raise
    forget()
    request.state.is_checked = False
    return await handle(read())


def _has_session(endpoint: Callable[..., Any]) -> bool:
    return "session" in signature(endpoint).parameters


def _with_numbers(path: str, endpoint: Callable[..., Any]) -> str:
    """Let only numbers match where the endpoint takes one: /runs/abc is no address."""
    parameters = signature(endpoint).parameters

    def typed(name: re.Match[str]) -> str:
        return f"{{{name[1]}:number}}" if parameters[name[1]].annotation is int else name[0]

    return re.sub(r"{(\w+)}", typed, path)


def _in_transaction(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if not _has_session(endpoint):
        return endpoint

    @wraps(endpoint)
    async def run(*, session: Pending, **values: Any) -> Any:
        return await session.run(lambda begun: endpoint(session=begun, **values))

    return run
