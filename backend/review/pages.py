"""Pages of the review, and its forms that work without JavaScript."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Row
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayArrange, MayReview, UserDep
from backend.cleansing import service as cleansing
from backend.cleansing import standing as standings
from backend.core.catalogue import METHODS, SECOND
from backend.core.errors import Invalid
from backend.core.models import SMALL_PIXELS, DataSet, Job, Review, User
from backend.review import service
from backend.review.deciding import contributors, decisions, undo
from backend.review.deciding.decision_log import Act, Choice
from backend.review.insight import explanations, serializers, wording
from backend.review.queue import counts, filters, orderings, queue_pages, shares
from backend.review.queue.filters import Vocabulary
from backend.review.queue.view_state import PAGE_SIZES, SCROLLING, View
from backend.review.schemas import ProgressOut, WhyOut
from backend.runs import averages, numbers
from backend.web.redirects import query_of
from backend.web.rendering import page
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(prefix="/reviews", include_in_schema=False)

# Pairs on the page; others are rare.
MOST_PAIRS = 200


@router.get("/{review_id}")
def grid(review_id: int, request: Request, session: SessionDep, user: UserDep) -> Response:
    review = service.get(session, user, review_id)
    if review.state != "ready":
        return _waiting(request, session, user, review)
    data_set = service.data_set_of(session, user, review)
    vocabulary = filters.read_vocabulary(session, user, review)
    view = View.read(request.query_params, vocabulary)
    progress = serializers.progress(session, user, review)
    in_view, bulk_count = _counts(session, review, view, progress)
    found = queue_pages.page(
        session,
        review,
        order=view.order,
        filters=view.filters,
        after=view.after,
        before=view.before,
        limit=view.size,
        matching=in_view,
    )
    if not found.items and (view.after or view.before):
        # Past the end, or emptied by decisions: show the last page.
        return RedirectResponse(
            _grid_address(review, view.last() if view.after else view.first()), 303
        )
    accepted = cleansing.get_accepted(session, review)
    if accepted is None:
        _say_if_outdated(session, user, review, view)
    context = _context(session, user, review, data_set, view, vocabulary, progress)
    items = serializers.tiles(session, user, review, found.items, view.order)
    return page(
        request,
        "review/grid.html",
        **context,
        items=items,
        found=found,
        doubts=service.list_doubts(session, review, data_set.class_names),
        run_doubt=service.get_run_doubt(session, review),
        sure=_say_how_many(service.count_surely_harmful(session, review), review),
        in_view=in_view,
        bulk_count=bulk_count,
        small=_small(session, found.items[0]) if found.items else False,
        sizes=(*PAGE_SIZES, SCROLLING),
        accepted=accepted,
    )


def _say_how_many(count: int | None, review: Review) -> str:
    return "" if count is None else wording.surely_harmful(count, review.suggestion_count)


@router.get("/{review_id}/focus")
def focus(review_id: int, request: Request, session: SessionDep, user: UserDep) -> Response:
    """Show one image large: at rank `at`, else the next undecided."""
    review = service.get(session, user, review_id)
    if review.state != "ready":
        return _waiting(request, session, user, review)
    data_set = service.data_set_of(session, user, review)
    vocabulary = filters.read_vocabulary(session, user, review)
    view = View.read(request.query_params, vocabulary)
    row = queue_pages.at_rank(session, review, view.order, view.at) if view.at else None
    if row is None:
        row = queue_pages.next_undecided(session, review, view.order, view.filters, 0)
        if row is not None and view.at:
            view.note("There is no suggestion at that rank; this is the next one to decide.")
    _say_if_outdated(session, user, review, view)
    progress = serializers.progress(session, user, review)
    context = _context(session, user, review, data_set, view, vocabulary, progress)
    if row is None:
        return page(request, "review/finished.html", **context)
    item = serializers.cards(session, user, review, [row], view.order)[0]
    around = {
        "after": queue_pages.page(
            session, review, order=view.order, filters=view.filters, after=item.rank, limit=1
        ).items,
        "before": queue_pages.page(
            session, review, order=view.order, filters=view.filters, before=item.rank, limit=1
        ).items,
    }
    ranks = {
        side: _rank(session, review, view, rows[0]) if rows else None
        for side, rows in around.items()
    }
    return page(
        request,
        "review/focus.html",
        **context,
        item=item,
        doubts=service.list_doubts(session, review, data_set.class_names),
        around=ranks,
        small=_small(session, row),
        why=_why(session, user, review, row),
        history=serializers.history_out(session, user, review, row.image_id),
    )


@router.get("/{review_id}/confusion")
def confusion(review_id: int, request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show which classes are confused, each pair a link to its images."""
    review = service.get(session, user, review_id)
    data_set = service.data_set_of(session, user, review)
    mixed = [row for row in counts.confusion(session, review) if row[0] != row[1]]
    return page(
        request,
        "review/confusion.html",
        review=review,
        data_set=data_set,
        rows=mixed[:MOST_PAIRS],
        pairs=len(mixed),
    )


@router.get("/{review_id}/standing")
def standing(review_id: int, request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show stop advice and who did what, as page or fragment."""
    review = service.get(session, user, review_id)
    if review.state != "ready":
        return _waiting(request, session, user, review)
    template = (
        "review/_standing.html" if request.headers.get("HX-Request") else "review/standing.html"
    )
    return page(
        request,
        template,
        review=review,
        data_set=service.data_set_of(session, user, review),
        stopping=serializers.stopping_out(session, review),
        people=contributors.list_contributors(session, review),
        parts=serializers.parts_out(session, review),
        progress=serializers.progress(session, user, review),
    )


@router.get("/{review_id}/map")
def show_map(review_id: int, request: Request, session: SessionDep, user: UserDep) -> HTMLResponse:
    """Show the map, and its groups as a table."""
    review = service.get(session, user, review_id)
    if review.state != "ready":
        return _waiting(request, session, user, review)
    data_set = service.data_set_of(session, user, review)
    groups = serializers.groups_out(session, user, review)
    return page(request, "review/map.html", review=review, data_set=data_set, groups=groups)


@router.post("/{review_id}/second-opinion")
def second_opinion(
    review_id: int, session: SessionDep, user: MayArrange, asked: Annotated[str, Form()] = "yes"
) -> RedirectResponse:
    """Require that two people agree, or no longer: `asked` is yes or no."""
    review = service.get(session, user, review_id)
    service.ask_for_second_opinions(session, review, asked == "yes")
    return RedirectResponse(f"/reviews/{review.id}/standing", 303)


@router.post("/{review_id}/parts")
def share(
    review_id: int,
    session: SessionDep,
    user: MayReview,
    leaves: Annotated[int | None, Form()] = None,
) -> RedirectResponse:
    """Take a part of the queue and go to it, or give a part back (`leaves`)."""
    review = service.get(session, user, review_id)
    if leaves is None:
        shares.take(session, user, review)
        return RedirectResponse(f"/reviews/{review.id}?part={user.id}", 303)
    shares.leave(session, user, review, leaves)
    return RedirectResponse(f"/reviews/{review.id}/standing", 303)


@router.post("/{review_id}/decide")
def decide(
    review_id: int,
    session: SessionDep,
    user: MayReview,
    action: Annotated[str, Form()],
    image_id: Annotated[list[int] | None, Form()] = None,
    label: Annotated[str, Form()] = "",
    client_key: Annotated[str, Form()] = "",
    scope: Annotated[str, Form()] = "selection",
    expected: Annotated[int | None, Form()] = None,
    seen: Annotated[int | None, Form(ge=0)] = None,
    back: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Decide on one image, a selection or a view without JavaScript, then go back."""
    review = service.get(session, user, review_id)
    vocabulary = filters.read_vocabulary(session, user, review)
    if action == "suggested" and image_id:
        choice = _suggested(session, review, image_id[0])
    else:
        choice = Choice(
            action, _class_number(label, vocabulary.class_names) if action == "relabel" else None
        )
    view, key = View.parse(query_of(back), vocabulary), client_key or str(uuid4())
    if scope == "view":
        # Without `seen`: this form cannot show how many were skipped.
        decisions.decide_all(session, user, review, view.filters, choice, key, expected)
    elif scope == "one" and image_id:
        decisions.decide(session, user, review, image_id[0], choice, key, seen)
        return _to_next(session, review, view)
    else:
        decisions.decide_many(session, user, review, image_id or [], choice, key, seen)
    return RedirectResponse(_grid_address(review, view), 303)


@router.post("/{review_id}/undo")
def undo_latest(
    review_id: int,
    session: SessionDep,
    user: MayReview,
    client_key: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Undo your latest act; the focus view shows its image again."""
    review = service.get(session, user, review_id)
    return _to_images(
        session, user, review, back, undo.undo(session, user, review, client_key or str(uuid4()))
    )


@router.post("/{review_id}/redo")
def redo_latest(
    review_id: int,
    session: SessionDep,
    user: MayReview,
    client_key: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Redo your latest undo; the focus view shows its image again."""
    review = service.get(session, user, review_id)
    return _to_images(
        session, user, review, back, undo.redo(session, user, review, client_key or str(uuid4()))
    )


def _to_images(
    session: Session, user: User, review: Review, back: str, act: Act
) -> RedirectResponse:
    view = View.parse(query_of(back), filters.read_vocabulary(session, user, review))
    if view.at and len(act.items) == 1:
        rank = _rank(session, review, view, act.items[0])
        return RedirectResponse(
            f"/reviews/{review.id}/focus?{urlencode(view.address(at=rank))}", 303
        )
    return RedirectResponse(_grid_address(review, view), 303)


def _context(
    session: Session,
    user: User,
    review: Review,
    data_set: DataSet,
    view: View,
    vocabulary: Vocabulary,
    progress: ProgressOut,
) -> dict[str, Any]:
    chosen = {view.filters.by, view.filters.not_by}
    return {
        "review": review,
        "data_set": data_set,
        "view": view,
        "method": METHODS[review.method],
        "single": review.method == SECOND,
        "second": METHODS[SECOND],
        "orders": wording.orders(
            review.method,
            [name for name in vocabulary.methods if name not in (review.method, SECOND)],
        ),
        "people": {
            user_id: vocabulary.people[user_id]
            for user_id in vocabulary.people
            if user_id in vocabulary.deciders or user_id in chosen
        },
        "progress": progress,
        "waiting": standings.get_waiting(session, review.data_set_id),
        "client_key": str(uuid4()),
    }


def _say_if_outdated(session: Session, user: User, review: Review, view: View) -> None:
    """Warn early that no version can be made from this review."""
    if reason := cleansing.explain_outdated(session, user, review):
        view.note(f"{reason} What you decide here is saved all the same.")


def _counts(session: Session, review: Review, view: View, progress: ProgressOut) -> tuple[int, int]:
    """Count a view's images, and those that an act on all would touch."""
    if not view.filters:
        return progress.total, progress.undecided
    found = counts.by_decision(session, review, view.filters)
    total = sum(found.values())
    return total, total if view.filters.decided else found[None]


def _waiting(request: Request, session: Session, user: User, review: Review) -> HTMLResponse:
    job = session.get(Job, review.job_id) if review.job_id else None
    members = averages.map_members(session, [review]).get(review.id, [])
    known = numbers.map_numbers(session, review.data_set_id)
    return page(
        request,
        "review/waiting.html",
        review=review,
        data_set=service.data_set_of(session, user, review),
        job=job,
        members=[(member, numbers.get_title(member.run, known)) for member in members],
    )


def _to_next(session: Session, review: Review, view: View) -> RedirectResponse:
    row = queue_pages.next_undecided(session, review, view.order, view.filters, view.at)
    address = view.address(at=_rank(session, review, view, row) if row else None)
    return RedirectResponse(f"/reviews/{review.id}/focus?{urlencode(address)}", 303)


def _rank(session: Session, review: Review, view: View, row: Row[Any]) -> int:
    return orderings.read_ranks(session, review, view.order, [row])[row.image_id]


def _grid_address(review: Review, view: View) -> str:
    return f"/reviews/{review.id}?{view.query(after=view.after or None, before=view.before)}"


def _why(session: Session, user: User, review: Review, row: Row[Any]) -> WhyOut:
    return serializers.why_out(
        session,
        user,
        review,
        row.image_id,
        explanations.read_explanation(session, review, row.image_id),
    )


def _small(session: Session, row: Row[Any]) -> bool:
    return max(queue_pages.original_size(session, row.image_id)) <= SMALL_PIXELS


def _suggested(session: Session, review: Review, image_id: int) -> Choice:
    """Choose the predicted label, or keep if the image has it."""
    row = queue_pages.read_images(session, review, [image_id])[0]
    return Choice("keep") if row.predicted == row.label else Choice("relabel", row.predicted)


def _class_number(text: str, class_names: Sequence[str]) -> int:
    """Read a class from its number or name. Raises Invalid."""
    if text in class_names:
        return class_names.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(class_names):
        return int(text)
    raise Invalid("Choose the class that this image should have.")
