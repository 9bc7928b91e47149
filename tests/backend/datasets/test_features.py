"""Backbones are listed, and a data set says which features it has."""

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.core import catalogue
from backend.core.storage import Storage
from tests.factories import a_data_set


def test_backbones_are_listed_with_side_size_and_licence(client: TestClient) -> None:
    (first, *_) = client.get("/api/v1/backbones").json()
    assert first["name"] == catalogue.DEFAULT_BACKBONE
    assert (first["side"], first["features"], first["licence"]) == (224, 1280, "Apache-2.0")
    assert first["megabytes"] == 18.8
    assert "model" not in first


def test_a_data_set_says_which_features_are_there(
    client: TestClient, session: Session, storage: Storage
) -> None:
    data_set = a_data_set(session)
    session.commit()
    address = f"/api/v1/data-sets/{data_set.id}"
    assert client.get(address).json()["features"] == []
    assert "Features by" not in client.get(f"/datasets/{data_set.id}").text
    facts = catalogue.BACKBONES[catalogue.DEFAULT_BACKBONE]
    folder = storage.features(data_set.id, facts.digest)
    folder.mkdir(parents=True)
    (folder / "features.json").write_text("{}")
    assert client.get(address).json()["features"] == [catalogue.DEFAULT_BACKBONE]
    page = client.get(f"/datasets/{data_set.id}").text
    assert "Features by EfficientNet-Lite0 are ready." in page
