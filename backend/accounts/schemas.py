"""Shapes of people and tokens."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from backend.web.request_body import Body


class Person(BaseModel):
    """The signed-in user."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    role: str


class NewToken(Body):
    """A token to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "nightly script"}]})

    name: str = Field("token", min_length=1, max_length=100)


class Token(BaseModel):
    """An API token; only the answer that made it has its `secret`."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    created_at: datetime
    secret: str | None = None
