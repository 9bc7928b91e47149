"""Assemble the web application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from threading import Thread
from weakref import WeakValueDictionary

from cachetools import TTLCache
from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DatabaseError
from starlette.types import Scope

import backend.accounts.api
import backend.accounts.pages
import backend.cleansing.api
import backend.cleansing.pages
import backend.datasets.api
import backend.datasets.pages
import backend.jobs.api
import backend.jobs.pages
import backend.review.api
import backend.review.pages
import backend.runs.api
import backend.runs.pages
from backend.accounts.dependencies import (
    KNOWN_SECONDS,
    MOST_RECENT,
    RECENT_SECONDS,
    perhaps_signed_in,
)
from backend.core import queue
from backend.core.db import DAMAGED, Database, is_damage
from backend.core.discards import sweep_discards
from backend.core.home import make_private
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.datasets.service import forget_uploads
from backend.jobs import waiting
from backend.jobs.sweep import Sweep
from backend.web import error_handlers
from backend.web.bodies import Bodies
from backend.web.error_handlers import register_handlers
from backend.web.middleware import protect
from backend.web.openapi import REFUSALS, TAGS, Application, bearer, shape_of
from backend.web.query_guard import refuse_unknown
from backend.web.rendering import STATIC, environment, page
from backend.web.routes import API, TransactionRoute, TransactionRouter
from backend.web.transactions import LONGEST_WAIT_SECONDS, Line, Transactions

FEATURES = (
    backend.accounts,
    backend.datasets,
    backend.runs,
    backend.review,
    backend.cleansing,
    backend.jobs,
)
# More threads only wait for each other.
PICTURE_THREADS = 2
site = TransactionRouter(include_in_schema=False)


def create_app(settings: Settings, *, sweeps: bool = True) -> FastAPI:
    """Make the application. sweeps: one process of the web is enough for that."""
    app = Application(
        title="Winnow",
        version=version("winnow"),
        summary="Find the training images that hurt an image classifier, review them, "
        "remove them, and measure whether it helped.",
        openapi_url="/api/openapi.json",
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: "_".join(
            (*map(str, route.tags), route.name)
        ).replace(" ", "_"),
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.router.route_class = TransactionRoute
    for feature in FEATURES:
        app.include_router(
            feature.api.router,
            prefix=API,
            dependencies=[Depends(bearer), Depends(refuse_unknown)],
            responses=REFUSALS,
        )
        app.include_router(feature.pages.router)
    environment().globals["waits_behind"] = waiting.describe
    app.include_router(site)
    app.mount("/static", VersionedFiles(directory=STATIC))
    register_handlers(app, perhaps_signed_in)
    protect(app)
    app.state.sweeps = sweeps
    apply_settings(app, settings)
    return app


def apply_settings(app: FastAPI, settings: Settings) -> None:
    make_private(settings)
    queue.configure(settings.broker)
    app.state.settings = settings
    app.state.database = Database(settings.database, busy_seconds=LONGEST_WAIT_SECONDS)
    app.state.transactions = Transactions(app.state.database)
    app.state.damage = None
    app.state.bodies = Bodies(settings.max_bodies_bytes // settings.web_processes)
    app.state.storage = Storage(settings.files)
    app.state.pictures = Line(PICTURE_THREADS)
    app.state.recent_sign_ins = TTLCache(MOST_RECENT, RECENT_SECONDS)
    app.state.sign_ins_asked = WeakValueDictionary()
    app.state.known_senders = TTLCache(MOST_RECENT, KNOWN_SECONDS)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    Thread(target=_look_for_damage, args=(app,), name="quick check", daemon=True).start()
    sweep = Sweep(app.state.database, app.state.settings, chores=[partial(_delete_leftovers, app)])
    if app.state.sweeps:
        sweep.start()
    yield
    if app.state.sweeps:
        sweep.stop()
    app.state.database.close()


def _delete_leftovers(app: FastAPI) -> None:
    """Delete files that killed processes left."""
    database, storage = app.state.database, app.state.storage
    sweep_discards(database, storage)
    with database.transaction(write=False) as session:
        forget_uploads(session, storage)


def _look_for_damage(app: FastAPI) -> None:
    database: Database = app.state.database
    if (found := database.find_damage()) is not None:
        error_handlers.note_damage(app, found)


class VersionedFiles(StaticFiles):
    """Static files; an address with a version is cached for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        lasting = b"v=" in scope.get("query_string", b"") or "/vendor/" in f"/{path}"
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if lasting else "no-cache"
        )
        return response


@site.get("/health")
async def health(request: Request) -> JSONResponse:
    """Answer if the web and its database do; for supervisors, without a login."""
    transactions: Transactions = request.app.state.transactions
    try:
        await transactions.check()
    except DatabaseError as error:
        if not is_damage(error):
            raise
        error_handlers.note_damage(request.app, str(error.orig))
    if request.app.state.damage is not None:
        return JSONResponse({"status": "damaged", "detail": DAMAGED}, 503)
    return JSONResponse({"status": "ok"})


@site.get("/favicon.ico")
async def favicon() -> FileResponse:
    """Serve the icon of pages that name none, such as the API's."""
    return FileResponse(STATIC / "img" / "icon.svg")


@site.get("/api/docs", dependencies=[Depends(perhaps_signed_in)])
def api_docs(request: Request) -> HTMLResponse:
    """Show the API's reference, without other hosts."""
    document = request.app.openapi()
    return page(request, "api_docs.html", spec=document, shape_of=partial(shape_of, document))
