"""Requests that schemathesis makes of the API's document: what it promises is true."""

import warnings
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings

from backend.core.catalogue import METHODS
from backend.core.db import Database
from backend.core.models import User
from backend.core.storage import Storage
from tests.world import a_world

EXAMPLES = 5  # an operation
AN_ARCHIVE = b"PK\5\6" + bytes(18)
MODES = ("positive", "negative")


@pytest.fixture
def _world(database: Database, storage: Storage, owner: User, reviewer: User) -> None:
    with database.transaction() as session:
        a_world(session, storage, owner, reviewer)


def near(case: Any) -> Any:
    """Use what exists: the document cannot say which rows there are, nor what is in a file."""
    for name, value in (case.path_parameters or {}).items():
        if isinstance(value, int) and 0 <= value < 2**31:
            case.path_parameters[name] = 1 + value % 3
    body = case.body if isinstance(case.body, dict) else {}
    if "file" in body:
        body["file"] = AN_ARCHIVE
    for values in (case.query, body, body.get("filter")):
        if isinstance(values, dict):
            _name_what_exists(values)
    return case


def _name_what_exists(values: dict[str, Any]) -> None:
    for name, first, count in (
        ("label", 0, 3),
        ("predicted", 0, 3),
        ("by", 1, 2),
        ("not_by", 1, 2),
        ("part", 1, 2),
    ):
        if type(values.get(name)) is int:
            values[name] = first + values[name] % count
    values.pop("selection", None)
    if values.get("order") in METHODS:
        values["order"] = "queue"
    for name in ("accuracy", "label"):
        bounds = [values.get(f"{name}_min"), values.get(f"{name}_max")]
        if all(isinstance(bound, int | float) for bound in bounds):
            values[f"{name}_min"], values[f"{name}_max"] = sorted(bounds)


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize("mode", MODES)
def test_every_operation_keeps_what_the_document_promises(
    app: FastAPI, api_client: TestClient, mode: str
) -> None:
    import schemathesis  # slow
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    faults: list[str] = []
    for operation in sorted(operations, key=lambda one: one.method.upper() == "DELETE"):

        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        def check(case: Any) -> None:
            answer = near(case).call(headers={"Authorization": api_client.headers["Authorization"]})
            case.validate_response(answer)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of schemathesis
                check()
        except (Exception, BaseExceptionGroup) as fault:
            faults.append(f"{operation.label}: {fault} {getattr(fault, 'exceptions', '')}")
    assert len(operations) > 50
    assert not faults, "\n\n".join(faults)
