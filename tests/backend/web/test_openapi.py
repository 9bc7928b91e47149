"""The API's document: valid, described, with working examples, on a page without other hosts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.openapi.models import OpenAPI
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import User
from backend.core.storage import Storage
from backend.web.openapi import Problem, shape_of
from tests.routes import UNSAFE, addresses
from tests.world import World, a_world

JSON = "application/json"


@pytest.fixture
def document(anonymous_client: TestClient) -> dict[str, Any]:
    answer = anonymous_client.get("/api/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(part: Any) -> Iterator[str]:
    """Every $ref in it."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_document_is_valid_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    read = OpenAPI.model_validate(document)
    assert read.openapi.startswith("3.1")
    assert read.info.title == "Winnow"
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_operation_is_named_summed_up_described_and_sorted(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    names = []
    for path, method, operation in operations(document):
        names.append(operation["operationId"])
        assert operation["summary"][0].isupper(), path
        assert not operation["summary"].endswith("."), path
        assert len(operation["summary"]) < 50, path
        assert operation["description"].endswith("."), (method, path)
        assert set(operation["tags"]) <= tags, path
        assert len(operation["tags"]) == 1, path
    assert len(names) == len(set(names)) > 35
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_every_placeholder_of_an_address_is_a_parameter(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert set(re.findall(r"{(\w+)}", path)) == named, path


def test_every_operation_says_how_one_signs_in_and_what_a_refusal_looks_like(
    document: dict[str, Any],
) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, _, operation in operations(document):
        assert operation["security"] == [{"HTTPBearer": []}], path
        refusal = operation["responses"]["4XX"]
        assert refusal["content"]["application/problem+json"]["schema"] == {
            "$ref": "#/components/schemas/Problem"
        }, path
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_no_page_is_in_the_document(document: dict[str, Any]) -> None:
    assert all(path.startswith("/api/v1/") for path in document["paths"])


def test_refusals_are_as_described(client: TestClient) -> None:
    for answer in (
        client.get("/api/v1/jobs/99"),
        client.get("/api/v1/jobs?limit=0"),
        client.get("/api/v1/nowhere"),
        client.put("/api/v1/jobs"),
    ):
        problem = Problem.model_validate(answer.json())
        assert set(answer.json()) <= set(Problem.model_fields)
        assert (problem.status, problem.errors is not None) == (
            answer.status_code,
            answer.status_code == 422,
        )


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
            if kind == JSON:
                assert shape_of(document, body["schema"]).get("examples"), path


def test_no_body_takes_a_field_that_is_not_documented(document: dict[str, Any]) -> None:
    """A misspelt filter must not mean "no filter"."""
    for path, _, operation in operations(document):
        for body in operation.get("requestBody", {"content": {}})["content"].values():
            shape = shape_of(document, body["schema"])
            for part in (shape, *_shapes_inside(document, shape)):
                assert part["additionalProperties"] is False, (path, part["title"])


def test_no_route_takes_a_query_name_that_it_does_not_know(
    app: FastAPI, api_client: TestClient
) -> None:
    for method, path in addresses(app, "GET", *UNSAFE):
        if path.startswith("/api/v1/"):
            answer = api_client.request(method, path, params={"lable": "3"})
            assert answer.status_code == 422, (method, path, answer.text)
            assert answer.json()["detail"].startswith("lable: there is no such parameter"), (
                method,
                path,
            )
            assert [one["field"] for one in answer.json()["errors"]] == ["lable"]


@pytest.mark.slow
def test_a_documented_query_name_is_never_refused_as_unknown(
    app: FastAPI, api_client: TestClient, document: dict[str, Any]
) -> None:
    for path, method, operation in operations(document):
        names = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
        answer = api_client.request(
            method, re.sub(r"{\w+}", "1", path), params=dict.fromkeys(names, "1")
        )
        assert "no such parameter" not in answer.text, (method, path)


def _shapes_inside(document: dict[str, Any], shape: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for reference in references(shape["properties"]):
        inner = shape_of(document, {"$ref": reference})
        yield inner
        yield from _shapes_inside(document, inner)


@pytest.mark.slow
def test_every_example_can_be_sent(
    app: FastAPI,
    client: TestClient,
    document: dict[str, Any],
    database: Database,
    storage: Storage,
    owner: User,
    reviewer: User,
) -> None:
    with database.transaction() as session:
        world = a_world(session, storage, owner, reviewer)
    sent = 0
    for path, method, operation in operations(document):
        for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
            if kind != JSON:
                continue
            for example in shape_of(document, body["schema"])["examples"]:
                answer = client.request(method, _address(path, world), json=example)
                # It may not be the moment for it; but it is understood.
                assert answer.status_code < 500, (path, answer.text)
                assert "errors" not in answer.json() if answer.content else True, (
                    path,
                    answer.text,
                )
                sent += 1
    assert sent >= 9


def _address(path: str, world: World) -> str:
    return re.sub(r"{(\w+)}", lambda found: str(world.ids.get(found[1], [1])[-1]), path)


@pytest.mark.slow
def test_answers_are_of_the_kind_that_is_documented(
    client: TestClient,
    document: dict[str, Any],
    database: Database,
    storage: Storage,
    owner: User,
    reviewer: User,
) -> None:
    with database.transaction() as session:
        world = a_world(session, storage, owner, reviewer)
    scored = client.get(f"/api/v1/reviews/{world.ids['review_id'][-1]}").json()["run_id"]
    world.ids["run_id"] = [scored]
    world.ids["data_set_id"], world.ids["number"] = world.ids["data_set_id"][:1], [1]
    for path, method, operation in operations(document):
        if method == "get" and "image_id" not in {
            one["name"] for one in operation.get("parameters", []) if one["required"]
        }:
            answer = client.get(_address(path, world))
            kinds = operation["responses"][str(answer.status_code)]["content"]
            assert answer.headers["content-type"].partition(";")[0] in kinds, path


# ── the page ──────────────────────────────────────────────────────────────────────────────────────


def test_the_page_shows_every_operation_with_its_fields_and_examples(
    anonymous_client: TestClient, document: dict[str, Any]
) -> None:
    text = anonymous_client.get("/api/docs").text
    for path, _, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in text, path
        assert operation["summary"] in text.replace("&#39;", "'"), path
    assert "Step size η." in text
    assert (
        "mnist, cifar, resnet18, resnet34, resnet50, mobilenet_v3, convnext_tiny, vit_b_16, "
        "linear_head or null" in re.sub(r"\s+", " ", text)
    )
    assert "&#34;nightly script&#34;" in text or '"nightly script"' in text


def test_the_page_needs_nothing_from_another_host(anonymous_client: TestClient) -> None:
    text = anonymous_client.get("/api/docs").text
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert address.startswith(("/", "#")), address
        assert not address.startswith("//")
        if address.startswith("/static/"):
            assert anonymous_client.get(address).status_code == 200, address


def test_who_is_signed_in_finds_the_way_back_from_the_page(
    client: TestClient, anonymous_client: TestClient
) -> None:
    assert 'aria-label="Main"' in client.get("/api/docs").text
    assert 'aria-label="Main"' not in anonymous_client.get("/api/docs").text


def test_no_framework_page_is_left_on(anonymous_client: TestClient) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert anonymous_client.get(path).status_code == 404
