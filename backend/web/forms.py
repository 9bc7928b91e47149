"""Forms, validated like JSON bodies."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

Shape = TypeVar("Shape", bound=BaseModel)


def read_form(shape: type[Shape], values: Mapping[str, Any]) -> Shape:
    """Validate a form; empty fields are left out. Raises as FastAPI's parsing does."""
    try:
        return shape.model_validate({name: value for name, value in values.items() if value != ""})
    except ValidationError as error:
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()]
        ) from error


def form_fields(shape: type[BaseModel]) -> dict[str, Any]:
    """Describe a form's fields for the document; a form has no null, but leaves a field out."""
    fields: dict[str, Any] = shape.model_json_schema()["properties"]
    for field in fields.values():
        kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
        if len(kinds) == 1:
            field |= kinds[0]
            del field["anyOf"]
    return fields
