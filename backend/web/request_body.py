"""Base of request bodies."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

# A name's sign that is left after tidying (backend/core/text.py).
NAMED: JsonDict = {"pattern": r"[^\s\u0000-\u001f\u007f-\u009f]"}


class Body(BaseModel):
    """Base of request bodies and forms. A misspelt field must not be ignored silently."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """State in the document what `_storable` refuses."""
        schema = handler(core_schema)
        for name, field in handler.resolve_ref_schema(schema).get("properties", {}).items():
            for part in field.get("anyOf", [field]):
                if part.get("type") == "string" and "enum" not in part and name != "name":
                    part.setdefault("pattern", "^[^\\u0000]*$")
        return schema

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse NUL, which PostgreSQL cannot keep, and true as the number 1."""
        assert info.field_name is not None
        is_flag = cls.model_fields[info.field_name].annotation is bool
        for one in value if isinstance(value, list) else [value]:
            # Names are tidied (backend/core/text.py) instead.
            if isinstance(one, str) and "\0" in one and info.field_name != "name":
                raise PydanticCustomError("nul", "must not contain the character NUL")
            if isinstance(one, bool) and not is_flag:
                raise PydanticCustomError("true_or_false", "must not be true or false")
        return value
