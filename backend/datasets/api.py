"""Data sets as JSON."""

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayEdit, MayImport, MayInspect, UserDep
from backend.core.errors import Invalid
from backend.core.models import DataSet, User, Version
from backend.core.text import tidy
from backend.datasets import service, versions
from backend.datasets.schemas import (
    Answer,
    DataSetOut,
    DataSetSummary,
    ImportOptions,
    NewDataSet,
    Planted,
    RefusalOut,
    Rename,
    Source,
    VersionChangeOut,
    VersionOut,
)
from backend.datasets.uploads import UploadDep, UploadedForm, check_zip
from backend.web.exports import CHUNK, ReaderParameter, csv_download, in_chunks
from backend.web.forms import form_fields, read_form
from backend.web.openapi import table
from backend.web.pagination import After, LongLimit, Page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(prefix="/data-sets", tags=["data sets"])
Kind = Annotated[
    versions.Kind | None,
    Query(description="Only the images that left, that got another label, or that are back."),
]

_file = {
    "type": "string",
    "format": "binary",
    "description": "A zip of class folders, or with a CSV manifest, or with MNIST's IDX files.",
}
_fields = form_fields(ImportOptions)
_form = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": _file, **_fields},
    "additionalProperties": False,
}
UPLOAD_BODY = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form}}}
}


@router.get("", summary="List data sets")
def list_data_sets(
    session: SessionDep, user: UserDep, after: After = None, limit: LongLimit = 50
) -> Page[DataSetSummary]:
    """List data sets, newest first."""
    found, following = service.page(session, after=after, limit=limit)
    jobs = service.import_jobs(session, found)
    described = [service.describe(data_set, jobs.get(data_set.id)) for data_set in found]
    return Page[DataSetSummary].of(described, following)


@router.post("", status_code=202, summary="Import from the server")
def create_data_set(
    request: Request, session: SessionDep, user: MayImport, wanted: NewDataSet
) -> DataSetOut:
    """Start the import of the sample, or of a folder or file on the server.

    While the same import is queued or runs, the answer is its data set. A taken name gets a
    number behind it.
    """
    source = wanted.source
    if source.kind != "sample":
        source = Source(
            kind=source.kind, path=str(service.check_path(request.app.state.settings, source.path))
        )
    return _out(request, session, service.create_import(session, user, source, wanted))


@router.post(
    "/upload", status_code=202, summary="Upload and import an archive", openapi_extra=UPLOAD_BODY
)
def upload_data_set(
    request: Request, form: UploadDep, session: SessionDep, user: MayImport
) -> DataSetOut:
    """Start the import of an uploaded zip: class folders, a CSV manifest, or MNIST's IDX files."""
    if form.file is None:
        raise Invalid("The archive is missing; send it in the form's field “file”.")
    return _out(
        request, session, import_upload(session, user, form, read_form(ImportOptions, form.fields))
    )


def import_upload(
    session: Session, user: User, form: UploadedForm, wanted: ImportOptions
) -> DataSet:
    """Keep the uploaded file and queue its import. Raises Invalid without a zip."""
    if form.file is None:
        raise Invalid("Choose a zip file first.")
    check_zip(form.file)
    archive = PurePosixPath(form.file_name.replace("\\", "/")).name.removesuffix(".zip")
    name = tidy(wanted.name) or tidy(archive) or "Unnamed"
    source = Source(kind="zip", path=str(form.keep()))
    named = wanted.model_copy(update={"name": name})
    return service.create_import(session, user, source, named, upload=True)


@router.get("/{data_set_id}", summary="One data set")
def show_data_set(
    request: Request, data_set_id: int, session: SessionDep, user: UserDep
) -> DataSetOut:
    """Return what the import found, class by class."""
    return _out(request, session, service.get(session, user, data_set_id))


@router.post("/{data_set_id}/answer", status_code=202, summary="Answer an import's question")
def answer_import(
    request: Request, data_set_id: int, session: SessionDep, user: MayImport, wanted: Answer
) -> DataSetOut:
    """Continue an import that is `asking`, by a choice of `report.question`; may be repeated."""
    data_set = service.get(session, user, data_set_id)
    return _out(request, session, service.answer(session, user, data_set, wanted.answer))


@router.patch("/{data_set_id}", summary="Rename a data set")
def rename_data_set(
    request: Request, data_set_id: int, session: SessionDep, user: MayEdit, wanted: Rename
) -> DataSetOut:
    """Rename a data set. A taken name is refused with 409."""
    return _out(
        request,
        session,
        service.rename(session, service.get(session, user, data_set_id), wanted.name),
    )


@router.delete("/{data_set_id}", status_code=204, summary="Delete a data set")
def delete_data_set(request: Request, data_set_id: int, session: SessionDep, user: MayEdit) -> None:
    """Delete a data set with its images, versions, runs, reviews and verdicts."""
    service.remove(session, service.get(session, user, data_set_id), request.app.state.storage)


@router.get("/{data_set_id}/refusals", summary="Refused files")
def list_refusals(
    data_set_id: int,
    session: SessionDep,
    user: UserDep,
    after: After = None,
    limit: LongLimit = 100,
) -> Page[RefusalOut]:
    """List refused files with reasons."""
    found, following = service.refusals(
        session, service.get(session, user, data_set_id), after=after, limit=limit
    )
    return Page[RefusalOut].of(found, following)


@router.get(
    "/{data_set_id}/refusals.csv",
    summary="Refused files as CSV",
    response_class=Response,
    responses=table("text/csv"),
)
def refusals_csv(
    request: Request,
    data_set_id: int,
    session: SessionDep,
    user: UserDep,
    reader: ReaderParameter = "programs",
) -> Response:
    """Download all refused files with reasons."""
    data_set = service.get(session, user, data_set_id)
    found = in_chunks(
        request.app.state.database, partial(service.refusals, data_set=data_set, limit=CHUNK)
    )
    rows = ((one.path, one.reason) for one in found)
    return csv_download(f"data-set-{data_set.id}-refused", ("path", "reason"), rows, reader)


@router.get("/{data_set_id}/versions", summary="Versions")
def list_versions(data_set_id: int, session: SessionDep, user: UserDep) -> list[VersionOut]:
    """List versions, newest first."""
    data_set = service.get(session, user, data_set_id)
    return [_version(step) for step in versions.history(session, data_set)]


@router.get("/{data_set_id}/versions/{number}", summary="One version")
def show_version(data_set_id: int, number: int, session: SessionDep, user: UserDep) -> VersionOut:
    """Return a version, with counts of its changes."""
    return _version(versions.step(session, service.get(session, user, data_set_id), number))


@router.get(
    "/{data_set_id}/versions/{number}/manifest.csv",
    summary="A version's images, labels and splits as CSV",
    response_class=Response,
    responses=table("text/csv"),
)
def manifest_csv(
    request: Request,
    data_set_id: int,
    number: int,
    session: SessionDep,
    user: UserDep,
    reader: ReaderParameter = "programs",
) -> Response:
    """Download path, label and split of a version's images: what a training elsewhere needs."""
    data_set = service.get(session, user, data_set_id)
    version = service.version(session, data_set, number)
    rows = in_chunks(
        request.app.state.database,
        partial(service.manifest_page, data_set=data_set, of=version, limit=CHUNK),
    )
    name = f"data-set-{data_set.id}-version-{number}"
    return csv_download(name, service.MANIFEST_COLUMNS, rows, reader)


@router.get("/{data_set_id}/versions/{number}/changes", summary="What a version changed")
def list_changes(
    data_set_id: int,
    number: int,
    session: SessionDep,
    user: UserDep,
    kind: Kind = None,
    after: After = None,
    limit: LongLimit = 100,
) -> Page[VersionChangeOut]:
    """List images that differ from the parent, with who decided each."""
    data_set = service.get(session, user, data_set_id)
    step = versions.step(session, data_set, number)
    found, following = versions.changes(
        session, data_set, step, kind=kind, after=after, limit=limit
    )
    return Page[VersionChangeOut].of(found, following)


@router.get("/{data_set_id}/planted", summary="Planted label errors")
def list_planted(data_set_id: int, session: SessionDep, user: MayInspect) -> Planted:
    """List training images with planted label errors; empty for real data."""
    return Planted(image_ids=service.planted(session, service.get(session, user, data_set_id)))


def _version(step: versions.Step) -> VersionOut:
    columns = {
        column.key: getattr(step.version, column.key) for column in Version.__table__.columns
    }
    return VersionOut.model_validate(
        columns
        | {
            "changes": step.changes,
            "by": step.by,
            "review_id": step.review_id,
            "cleansing_id": step.cleansing_id,
        }
    )


def _out(request: Request, session: Session, data_set: DataSet) -> DataSetOut:
    described = service.describe(data_set, service.import_job(session, data_set))
    more = {
        "counts": service.counts(session, data_set),
        "features": service.list_features(data_set, request.app.state.storage),
    }
    return DataSetOut.model_validate(described | more, from_attributes=True)
