"""What may be sent: fields that are asked for and no others, and nothing that a database refuses."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Body(BaseModel):
    """The base of every request body and form. A misspelt field must not silently mean "not asked for"."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any, info: ValidationInfo) -> Any:
        """No NUL, which PostgreSQL keeps in no text; and true is not the number 1 (no field here is a yes or no)."""
        for one in value if isinstance(value, list) else [value]:
            # Names are tidied (backend/core/text.py) instead.
            if isinstance(one, str) and "\0" in one and info.field_name != "name":
                raise PydanticCustomError("nul", "must not contain the character NUL")
            if isinstance(one, bool):
                raise PydanticCustomError("true_or_false", "must not be true or false")
        return value
