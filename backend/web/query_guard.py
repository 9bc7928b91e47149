"""Refuse unknown query parameters."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from backend.web.routes import TransactionRoute
from backend.web.validation_messages import unknown


# A plain function would cost a thread.
async def refuse_unknown(request: Request) -> None:
    """Refuse unknown names: a misspelt filter would mean "everything"."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, TransactionRoute):
        return
    names = route.query_names
    wrong = [name for name in dict.fromkeys(request.query_params) if name not in names]
    if wrong:
        told = [name for name, shown in names.items() if shown]
        raise RequestValidationError(
            [
                {"type": "unknown_query", "loc": ("query", name), "msg": unknown(told)}
                for name in wrong
            ]
        )
