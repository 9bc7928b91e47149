"""Refuse unknown query parameters."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params, get_validation_alias
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from backend.web.validation_messages import unknown


# A plain function would cost a thread.
async def refuse_unknown(request: Request) -> None:
    """Refuse unknown names: a misspelt filter would mean "everything"."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    names = known(route.dependant)
    wrong = [name for name in dict.fromkeys(request.query_params) if name not in names]
    if wrong:
        told = [name for name, shown in names.items() if shown]
        raise RequestValidationError(
            [
                {"type": "unknown_query", "loc": ("query", name), "msg": unknown(told)}
                for name in wrong
            ]
        )


def known(dependant: Dependant) -> dict[str, bool]:
    """Map a route's query names to "is documented"."""
    fields = get_flat_params(
        Dependant(query_params=[field for part in _parts(dependant) for field in part.query_params])
    )
    return {
        get_validation_alias(field): getattr(field.field_info, "include_in_schema", True)
        for field in fields
    }


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for other in dependant.dependencies:
        yield from _parts(other)
