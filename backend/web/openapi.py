"""The API's OpenAPI document, with errors and sign-in added."""

from typing import Any

from fastapi import FastAPI
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

TAGS = [
    {"name": "accounts", "description": "Who is asking, and tokens for programs."},
    {"name": "data sets", "description": "Imports, and what they found."},
    {"name": "runs", "description": "Trainings, and the scorings that find harmful images."},
    {"name": "review", "description": "Suggestions and decisions."},
    {"name": "cleansing", "description": "Decisions → new version → retraining → verdict."},
    {"name": "jobs", "description": "Queued work with progress."},
]


class WrongField(BaseModel):
    """A field of the request that cannot be used, and the reason."""

    field: str
    message: str


class Problem(BaseModel):
    """Any refusal, as problem details (RFC 9457). `detail` is a sentence for people."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[WrongField] | None = Field(
        None, description="Only for 422: each field that cannot be used."
    )


# Documentation only: backend.accounts.dependencies identifies the user.
bearer = HTTPBearer(
    auto_error=False, description="An API token, from the account page or `winnow token create`."
)

_problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; `detail` says why and how to fix it", "content": _problem}
}


def table(kind: str) -> dict[int | str, dict[str, Any]]:
    """Describe a download's response."""
    return {
        200: {
            "description": "The table",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}}},
        }
    }


def shape_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Resolve a schema behind a reference or next to null."""
    (schema,) = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    shapes: dict[str, dict[str, Any]] = document["components"]["schemas"]
    return shapes[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


class Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        shapes = document["components"]["schemas"]
        if "Problem" not in shapes:
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes |= schema.pop("$defs")
            shapes["Problem"] = schema
        return document
