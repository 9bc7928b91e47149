"""Forms that are validated as a whole, as JSON bodies are."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

Shape = TypeVar("Shape", bound=BaseModel)


def read_form(shape: type[Shape], values: Mapping[str, Any]) -> Shape:
    """The form's fields as `shape` has them; what was left empty counts as left out. Raises what FastAPI's own parsing raises."""
    try:
        return shape.model_validate({name: value for name, value in values.items() if value != ""})
    except ValidationError as error:
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()]
        ) from error
