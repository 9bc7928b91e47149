"""Shapes of people and tokens."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from backend.web.request_body import Body


class Person(BaseModel):
    """Who is signed in."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    role: str


class NewToken(Body):
    """A token to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "nightly script"}]})

    name: str = Field("token", min_length=1, max_length=100)


class Token(BaseModel):
    """An API token; its secret is in `secret` only in the answer that made it."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    created_at: datetime
    secret: str | None = None
