"""Pages of data sets, and the images themselves."""

import re
from functools import partial
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from backend.accounts.dependencies import MayEdit, MayImport, UserDep, require_sign_in
from backend.cleansing import standing
from backend.core.catalogue import BACKBONES
from backend.core.errors import NotFound
from backend.core.name_encodings import TITLES
from backend.core.storage import Storage
from backend.datasets import api, service, versions
from backend.datasets.api import Kind
from backend.datasets.schemas import ImportPageForm, Source
from backend.datasets.uploads import UploadDep
from backend.runs import numbers
from backend.runs import service as runs
from backend.web.forms import read_form
from backend.web.pagination import After
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import Line, SessionDep

router = TransactionRouter(include_in_schema=False)
HASH = re.compile(r"[0-9a-f]{64}")
# An image never changes under its hash; only this person's browser may keep it.
FOR_EVER = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/datasets")
def list_data_sets(
    request: Request, session: SessionDep, user: UserDep, after: int | None = None
) -> HTMLResponse:
    """Show all data sets, and the ways to import."""
    found, following = service.page(session, after=after)
    folders = bool(request.app.state.settings.import_roots)
    return page(
        request,
        "datasets/list.html",
        data_sets=found,
        jobs=service.import_jobs(session, found),
        covers=service.covers(session, found),
        standings=standing.map_standings(session, found),
        after=after,
        following=following,
        folders=folders,
        encodings=TITLES.items(),
    )


@router.post("/datasets")
def create_data_set(
    request: Request, form: UploadDep, session: SessionDep, user: MayImport
) -> RedirectResponse:
    """Start an import from an upload, from the server, or of the sample."""
    wanted = read_form(ImportPageForm, form.fields)
    if wanted.kind == "upload":
        data_set = api.import_upload(session, user, form, wanted)
    else:
        source = Source(kind="sample", path=None)
        if wanted.kind == "folder":
            checked = service.check_path(request.app.state.settings, wanted.path)
            source = Source(kind="folder" if checked.is_dir() else "zip", path=str(checked))
        data_set = service.create_import(session, user, source, wanted)
    return RedirectResponse(f"/datasets/{data_set.id}", 303)


@router.get("/datasets/{data_set_id}")
def show_data_set(
    request: Request, data_set_id: int, session: SessionDep, user: UserDep
) -> HTMLResponse:
    """Show the import's result and the next step."""
    data_set = service.get(session, user, data_set_id)
    refused, more = service.refusals(session, data_set, limit=20)
    steps = versions.history(session, data_set)
    known = numbers.map_numbers(session, data_set.id)
    job = service.import_job(session, data_set)
    latest = runs.get_latest(session, data_set)
    return page(
        request,
        "datasets/show.html",
        data_set=data_set,
        job=job,
        name_reason=service.explain_name(data_set, job),
        counts=service.counts(session, data_set),
        examples=service.examples(session, data_set),
        refused=refused,
        more_refused=more is not None,
        versions=steps,
        numbers={step.version.id: step.version.number for step in steps},
        runs=[
            (run, numbers.get_title(run, known), run_job)
            for run, run_job in runs.page(session, data_set)[0]
        ],
        latest=latest,
        latest_number=known[latest.id] if latest else None,
        waiting=standing.get_waiting(session, data_set.id),
        features=[
            BACKBONES[name].called
            for name in service.list_features(data_set, request.app.state.storage)
        ],
    )


@router.get("/datasets/{data_set_id}/versions/{number}")
def show_version(
    request: Request,
    data_set_id: int,
    number: int,
    session: SessionDep,
    user: UserDep,
    kind: Kind = None,
    after: After = None,
) -> HTMLResponse:
    """Show a version's changes, image by image."""
    data_set = service.get(session, user, data_set_id)
    step = versions.step(session, data_set, number)
    found, following = versions.changes(session, data_set, step, kind=kind, after=after)
    return page(
        request,
        "datasets/version.html",
        data_set=data_set,
        step=step,
        changes=found,
        kind=kind,
        after=after,
        following=following,
    )


@router.post("/datasets/{data_set_id}/answer")
def answer_import(
    data_set_id: int,
    session: SessionDep,
    user: MayImport,
    answer: Annotated[str, Form(max_length=200)] = "",
) -> RedirectResponse:
    """Continue an import with the answer to its question."""
    service.answer(session, user, service.get(session, user, data_set_id), answer)
    return RedirectResponse(f"/datasets/{data_set_id}", 303)


@router.post("/datasets/{data_set_id}/rename")
def rename_data_set(
    data_set_id: int,
    session: SessionDep,
    user: MayEdit,
    name: Annotated[str, Form(max_length=200)] = "",
) -> RedirectResponse:
    service.rename(session, service.get(session, user, data_set_id), name)
    return RedirectResponse(f"/datasets/{data_set_id}", 303)


@router.post("/datasets/{data_set_id}/delete")
def delete_data_set(
    request: Request, data_set_id: int, session: SessionDep, user: MayEdit
) -> RedirectResponse:
    """Delete a data set with everything that depends on it."""
    service.remove(session, service.get(session, user, data_set_id), request.app.state.storage)
    return RedirectResponse("/datasets", 303)


router.add_api_route(
    "/datasets/{data_set_id}/refusals.csv", api.refusals_csv, response_class=Response
)
router.add_api_route(
    "/datasets/{data_set_id}/versions/{number}/manifest.csv",
    api.manifest_csv,
    response_class=Response,
)


@router.get("/images/{data_set_id}/{view}/{name}.webp")
async def show_image(request: Request, data_set_id: int, view: str, name: str) -> Response:
    """Serve a thumbnail or full image from files, without the database."""
    await require_sign_in(request)
    if view not in ("thumbnails", "full") or not HASH.fullmatch(name):
        raise NotFound("There is no such image.")
    headers = FOR_EVER | {"ETag": f'"{name}"'}
    if name in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    storage: Storage = request.app.state.storage
    pictures: Line = request.app.state.pictures
    # FileResponse would use three threads in turn.
    content = await pictures.call(
        partial(storage.read_image, data_set_id, name, full=view == "full")
    )
    if content is None:
        raise NotFound("There is no such image, or its file is gone.")
    return Response(content, media_type="image/webp", headers=headers)
