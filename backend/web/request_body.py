"""Base of request bodies."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Body(BaseModel):
    """Base of request bodies and forms. A misspelt field must not be ignored silently."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse NUL, which PostgreSQL cannot keep, and true as the number 1."""
        for one in value if isinstance(value, list) else [value]:
            # Names are tidied (backend/core/text.py) instead.
            if isinstance(one, str) and "\0" in one and info.field_name != "name":
                raise PydanticCustomError("nul", "must not contain the character NUL")
            if isinstance(one, bool):
                raise PydanticCustomError("true_or_false", "must not be true or false")
        return value
