"""Data sets as JSON."""

import shutil
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import OwnerDep, UserDep
from backend.datasets import service
from backend.datasets.schemas import DataSetOut, DataSetPage, NewDataSet, Planted, RefusalOut, RefusalPage, Rename, Source, VersionOut
from backend.db import SessionDep
from backend.downloads import csv_download
from backend.models import DataSet, User
from backend.storage import Storage

router = APIRouter(prefix="/data-sets", tags=["data sets"])
After = Annotated[int | None, Query(description="Cursor: `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("", summary="List data sets")
def list_data_sets(session: SessionDep, user: UserDep, after: After = None, limit: Limit = 50) -> DataSetPage:
    """Newest first."""
    found, following = service.page(session, after=after, limit=limit)
    return DataSetPage(items=[_out(session, data_set) for data_set in found], next=str(following) if following else None)


@router.post("", status_code=202, summary="Import from the server")
def create_data_set(request: Request, session: SessionDep, user: OwnerDep, wanted: NewDataSet) -> DataSetOut:
    """Starts the import of the sample, or of a folder or file on the server."""
    source = wanted.source
    if source.kind != "sample":
        source = Source(kind=source.kind, path=str(service.check_path(request.app.state.settings, source.path)))
    return _out(session, service.create_import(session, user, name=wanted.name, source=source, seed=wanted.seed, side=wanted.side))


@router.post("/upload", status_code=202, summary="Upload and import an archive")
def upload_data_set(
    request: Request,
    session: SessionDep,
    user: OwnerDep,
    file: Annotated[UploadFile, File(description="A zip of class folders, or with a CSV manifest, or with MNIST's IDX files.")],
    name: Annotated[str, Form(max_length=200)] = "",
    seed: Annotated[int, Form(ge=0, lt=2**31)] = 0,
    side: Annotated[int | None, Form(ge=8, le=224)] = None,
) -> DataSetOut:
    """Starts the import of an uploaded archive."""
    return _out(session, save_upload(session, user, request.app.state.storage, file, name=name, seed=seed, side=side))


def save_upload(session: Session, user: User, storage: Storage, file: UploadFile, *, name: str, seed: int, side: int | None) -> DataSet:
    """Keep the uploaded file and queue its import."""
    path = storage.new_upload(".zip")
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target, 1 << 20)
    name = name.strip() or (file.filename or "").rsplit("/", 1)[-1].removesuffix(".zip")
    return service.create_import(session, user, name=name, source=Source(kind="zip", path=str(path)), seed=seed, side=side, upload=True)


@router.get("/{data_set_id}", summary="One data set")
def show_data_set(data_set_id: int, session: SessionDep, user: UserDep) -> DataSetOut:
    """What the import found, class by class."""
    return _out(session, service.get(session, user, data_set_id))


@router.patch("/{data_set_id}", summary="Rename a data set")
def rename_data_set(data_set_id: int, session: SessionDep, user: OwnerDep, wanted: Rename) -> DataSetOut:
    """Changes the name only."""
    return _out(session, service.rename(session, service.get(session, user, data_set_id), wanted.name))


@router.delete("/{data_set_id}", status_code=204, summary="Delete a data set")
def delete_data_set(request: Request, data_set_id: int, session: SessionDep, user: OwnerDep) -> None:
    """With its images, versions, runs, reviews and verdicts."""
    service.remove(session, service.get(session, user, data_set_id), request.app.state.storage)


@router.get("/{data_set_id}/refusals", summary="Refused files")
def list_refusals(data_set_id: int, session: SessionDep, user: UserDep, after: After = None, limit: Limit = 100) -> RefusalPage:
    """Each with its reason."""
    found, following = service.refusals(session, service.get(session, user, data_set_id), after=after or 0, limit=limit)
    return RefusalPage(items=[RefusalOut.model_validate(one) for one in found], next=str(following) if following else None)


@router.get("/{data_set_id}/refusals.csv", summary="Refused files as CSV")
def refusals_csv(data_set_id: int, session: SessionDep, user: UserDep) -> Response:
    """All of them."""
    data_set = service.get(session, user, data_set_id)
    found, _ = service.refusals(session, data_set, limit=10_000_000)
    return csv_download(f"data-set-{data_set.id}-refused.csv", ("path", "reason"), [(one.path, one.reason) for one in found])


@router.get("/{data_set_id}/versions", summary="Versions")
def list_versions(data_set_id: int, session: SessionDep, user: UserDep) -> list[VersionOut]:
    """Newest first."""
    data_set = service.get(session, user, data_set_id)
    return [VersionOut.model_validate(version) for version in service.versions(session, data_set)]


@router.get("/{data_set_id}/planted", summary="Planted label errors")
def list_planted(data_set_id: int, session: SessionDep, user: OwnerDep) -> Planted:
    """The training images whose label was made wrong on purpose; empty for real data."""
    return Planted(image_ids=service.planted(session, service.get(session, user, data_set_id)))


def _out(session: Session, data_set: DataSet) -> DataSetOut:
    return DataSetOut.model_validate(service.describe(session, data_set), from_attributes=True)
