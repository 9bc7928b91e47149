"""Pages of cleansing: dry run, progress, verdict."""

from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayClean, UserDep
from backend.cleansing import changed, power, present, service
from backend.cleansing.api import After, Kind
from backend.core import verdict_words
from backend.core.errors import AppError, Invalid
from backend.core.models import Cleansing, Job, Review, User, Version
from backend.datasets import service as datasets
from backend.review import service as reviews
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(include_in_schema=False)

# Images named on the page; the API names all.
MOST_NAMED = 60
MOST_SHOWN = 24
# Digits of a number in a form.
MOST_DIGITS = 9
# Changing less than this share hardly moves a model.
FEW = 0.005
# Images on the verdict's page; a link leads to all.
FIRST_CHANGED = 12


@router.get("/reviews/{review_id}/clean")
def clean(
    review_id: int, request: Request, session: SessionDep, user: UserDep, floor: str = ""
) -> Response:
    """Show the dry run, class by class."""
    review = reviews.get(session, user, review_id)
    if review.state != "ready":
        return RedirectResponse(f"/reviews/{review.id}", 303)
    try:
        return _dry_run_page(request, session, user, review, parse_number(floor, "floor"), floor)
    except Invalid as error:
        return _dry_run_page(request, session, user, review, None, floor, problem=error.message)


@router.post("/reviews/{review_id}/clean")
def start(
    review_id: int,
    request: Request,
    session: SessionDep,
    user: MayClean,
    floor: Annotated[str, Form()] = "",
    fresh_seeds: Annotated[str, Form()] = "",
    measure: Annotated[str, Form()] = "yes",
) -> Response:
    """Start a cleansing, or show the dry run with the error. measure: yes, or no to accept."""
    review = reviews.get(session, user, review_id)
    running = service.get_running(session, review)
    if running is None and measure == "no":
        running = service.get_accepted(session, review)
    if running is not None:
        # A double click: the first press counts.
        return RedirectResponse(f"/cleansings/{running.id}", 303)
    try:
        seeds = parse_number(fresh_seeds, "number of fresh starts") or service.USUAL_SEEDS
        cleansing = service.start(
            session,
            user,
            review,
            parse_number(floor, "floor"),
            seeds,
            measure=measure != "no",
        )
    except AppError as error:
        return _dry_run_page(
            request, session, user, review, None, floor, problem=error.message, status=error.status
        )
    return RedirectResponse(f"/cleansings/{cleansing.id}", 303)


@router.get("/cleansings/{cleansing_id}")
def show(cleansing_id: int, request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show the progress, then the verdict."""
    cleansing = service.get(session, user, cleansing_id)
    context = _context(session, user, cleansing)
    verdict, data_set = cleansing.typed_verdict, context["data_set"]
    if verdict is None:
        return page(request, "cleansing/running.html", **context)
    return page(
        request,
        "cleansing/verdict.html",
        **context,
        verdict=verdict,
        words=present,
        shown=verdict_words,
        headline=present.headline(verdict.fresh_seeds),
        figures=present.figures(verdict),
        sentence=present.sentence(verdict),
        power=present.measured_power(verdict),
        advice=present.advise(verdict),
        found=present.found_sentence(verdict),
        chart=present.chart(verdict),
        curves=present.curves(session, cleansing),
        per_class=present.per_class(verdict, data_set.class_names),
        changed=changed.page(session, data_set, verdict, limit=FIRST_CHANGED)[0],
        became=changed.count_kinds(verdict),
    )


@router.get("/cleansings/{cleansing_id}/changed")
def show_changed(
    cleansing_id: int,
    request: Request,
    session: SessionDep,
    user: UserDep,
    became: Kind = None,
    after: After = 0,
) -> Response:
    """Show test images that the repeated training predicts differently."""
    cleansing = service.get(session, user, cleansing_id)
    verdict = cleansing.typed_verdict
    if verdict is None:
        return RedirectResponse(f"/cleansings/{cleansing.id}", 303)
    data_set = datasets.get(session, user, cleansing.data_set_id)
    found, following = changed.page(session, data_set, verdict, kind=became, after=after)
    return page(
        request,
        "cleansing/changed.html",
        cleansing=cleansing,
        data_set=data_set,
        verdict=verdict,
        words=present,
        changed=found,
        became=changed.count_kinds(verdict),
        kind=became,
        after=after,
        following=following,
    )


@router.post("/cleansings/{cleansing_id}/accept")
def accept(
    cleansing_id: int,
    session: SessionDep,
    user: MayClean,
    without_verdict: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Make the cleaned version the current version."""
    cleansing = service.get(session, user, cleansing_id)
    service.accept(session, user, cleansing, without_verdict=without_verdict)
    return RedirectResponse(f"/cleansings/{cleansing.id}", 303)


@router.post("/cleansings/{cleansing_id}/measure")
def measure(cleansing_id: int, session: SessionDep, user: MayClean) -> RedirectResponse:
    """Measure a version that has no verdict."""
    cleansing = service.measure(session, user, service.get(session, user, cleansing_id))
    return RedirectResponse(f"/cleansings/{cleansing.id}", 303)


@router.post("/cleansings/{cleansing_id}/roll-back")
def roll_back(cleansing_id: int, session: SessionDep, user: MayClean) -> RedirectResponse:
    """Return to the version before."""
    cleansing = service.roll_back(session, user, service.get(session, user, cleansing_id))
    return RedirectResponse(f"/cleansings/{cleansing.id}", 303)


def parse_number(text: str, what: str) -> int | None:
    """Parse a form's whole number; None if empty. Raises Invalid."""
    stripped = text.strip()
    if not stripped:
        return None
    if not (stripped.isascii() and stripped.isdigit()):
        raise Invalid(f"The {what} must be a whole number, not “{stripped[:40]}”.")
    if len(stripped.lstrip("0")) > MOST_DIGITS:
        raise Invalid(f"The {what} is too large a number.")
    return int(stripped)


def _dry_run_page(
    request: Request,
    session: Session,
    user: User,
    review: Review,
    floor: int | None,
    asked: str,
    *,
    problem: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    found = service.dry_run(session, user, review, floor)
    data_set, earlier = (
        datasets.get(session, user, review.data_set_id),
        service.list_of_review(session, review),
    )
    return page(
        request,
        "cleansing/dry_run.html",
        status=status,
        review=review,
        data_set=data_set,
        found=found,
        asked=asked,
        problem=problem or found.refusal,
        outdated=service.explain_outdated(session, user, review),
        base=service.map_versions(session, data_set).get(review.version_id),
        earlier=earlier,
        running=service.get_running(session, review),
        accepted=service.get_accepted(session, review),
        seeds=(service.FEWEST_SEEDS, service.USUAL_SEEDS, service.MOST_SEEDS),
        most_named=MOST_NAMED,
        most_shown=MOST_SHOWN,
        few=FEW * found.before,
        seconds=service.expect_seconds(session, review, found),
        headline=present.headline,
        power=present.describe_power(*power.expect_power(session, review)),
    )


def _context(session: Session, user: User, cleansing: Cleansing) -> dict[str, Any]:
    data_set = datasets.get(session, user, cleansing.data_set_id)
    return {
        "cleansing": cleansing,
        "data_set": data_set,
        "job": session.get(Job, cleansing.job_id) if cleansing.job_id else None,
        "version": session.get_one(Version, cleansing.version_id),
        "parent": session.get_one(Version, cleansing.parent_version_id),
        "trainings": service.list_trainings(session, cleansing),
        "arm_words": present.ARM_WORDS,
        "is_current": data_set.current_version_id == cleansing.version_id,
        "active": service.is_active(session, cleansing),
        "kept": present.kept_sentence(*service.count_built_on(session, cleansing)),
    }
