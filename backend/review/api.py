"""Reviews as JSON."""

from typing import Annotated

from fastapi import Query
from sqlalchemy.orm import Session

from backend.accounts.dependencies import MayArrange, MayReview, UserDep
from backend.core.errors import Invalid
from backend.core.models import Job, Review, User
from backend.jobs.schemas import JobOut
from backend.review import schemas, service
from backend.review.deciding import contributors, decisions, undo
from backend.review.deciding.decision_log import Choice
from backend.review.insight import explanations, maps
from backend.review.insight.maps import Layout
from backend.review.insight.serializers import (
    cards,
    groups_out,
    history_out,
    outcome,
    parts_out,
    progress,
    stopping_out,
    why_out,
)
from backend.review.queue import counts, queue_pages, shares
from backend.review.queue.filters import Filters, check, read_vocabulary
from backend.review.queue.orderings import Order
from backend.runs import averages
from backend.web.routes import TransactionRouter
from backend.web.transactions import SessionDep

router = TransactionRouter(prefix="/reviews", tags=["review"])


@router.get("/{review_id}", summary="One review")
def show(review_id: int, session: SessionDep, user: UserDep) -> schemas.ReviewOut:
    """Return a review, its progress, and stop advice."""
    return _review(session, user, service.get(session, user, review_id))


@router.put("/{review_id}/second-opinion", summary="Ask for second opinions")
def ask_for_second_opinions(
    review_id: int, session: SessionDep, user: MayArrange
) -> schemas.ReviewOut:
    """Require that two people agree before an image is removed or relabelled.

    `decision=waiting` and `decision=disagreement` list images without an agreement.
    """
    review = service.get(session, user, review_id)
    service.ask_for_second_opinions(session, review, True)
    return _review(session, user, review)


@router.delete("/{review_id}/second-opinion", summary="Ask for no second opinions")
def ask_for_no_second_opinions(
    review_id: int, session: SessionDep, user: MayArrange
) -> schemas.ReviewOut:
    """Let one person's decision suffice."""
    review = service.get(session, user, review_id)
    service.ask_for_second_opinions(session, review, False)
    return _review(session, user, review)


def _review(session: Session, user: User, review: Review) -> schemas.ReviewOut:
    job = session.get(Job, review.job_id) if review.job_id else None
    return schemas.ReviewOut(
        id=review.id,
        data_set_id=review.data_set_id,
        version_id=review.version_id,
        run_id=review.run_id,
        state=review.state,
        method=review.method,
        suggestion_count=review.suggestion_count,
        class_names=service.data_set_of(session, user, review).class_names,
        last_change=review.last_change,
        second_opinion=review.second_opinion,
        progress=progress(session, user, review),
        doubts=service.list_doubts(
            session, review, service.data_set_of(session, user, review).class_names
        ),
        surely_harmful=service.count_surely_harmful(session, review),
        created_at=review.created_at,
        members=averages.to_json(averages.map_members(session, [review]).get(review.id, [])),
        job=JobOut.model_validate(job) if job else None,
    )


@router.get("/{review_id}/suggestions", summary="List suggestions")
def suggestions(
    review_id: int,
    session: SessionDep,
    user: UserDep,
    query: Annotated[schemas.QueueQuery, Query()],
) -> schemas.SuggestionsOut:
    """List suggestions behind rank `after`, or ahead of rank `before`, in an order.

    `order` may also be a method that scored the review's training.
    """
    review = service.get(session, user, review_id)
    check(query, read_vocabulary(session, user, review))
    page = queue_pages.page(
        session,
        review,
        order=query.order,
        filters=query,
        after=query.after,
        before=query.before,
        limit=query.limit,
    )
    items = cards(session, user, review, page.items, query.order)
    return schemas.SuggestionsOut.model_construct(
        items=items,
        next=str(items[-1].rank) if items and page.has_after else None,
        previous=str(items[0].rank) if items and page.has_before else None,
    )


@router.get("/{review_id}/images", summary="Suggestions of given images")
def images(
    review_id: int,
    session: SessionDep,
    user: UserDep,
    image_id: Annotated[list[int], Query(min_length=1, max_length=queue_pages.LARGEST_PAGE)],
    order: Order = "queue",
) -> schemas.SuggestionsByImage:
    """Return these images' suggestions, in queue order."""
    review = service.get(session, user, review_id)
    rows = queue_pages.read_images(session, review, image_id)
    return schemas.SuggestionsByImage.model_construct(
        items=cards(session, user, review, rows, order)
    )


@router.get("/{review_id}/images/{image_id}/why", summary="Why an image is suggested")
def show_why(review_id: int, image_id: int, session: SessionDep, user: UserDep) -> schemas.WhyOut:
    """Return validation images that it makes worse and better, and similar images."""
    review = service.get(session, user, review_id)
    queue_pages.read_images(session, review, [image_id])
    return why_out(
        session, user, review, image_id, explanations.read_explanation(session, review, image_id)
    )


@router.post(
    "/{review_id}/images/{image_id}/why", status_code=202, summary="Ask why an image is suggested"
)
def ask_why(review_id: int, image_id: int, session: SessionDep, user: MayReview) -> schemas.WhyOut:
    """Request the explanation of an image and of the next in the queue; poll until ready.

    Repeating it changes nothing.
    """
    review = service.get(session, user, review_id)
    return why_out(
        session,
        user,
        review,
        image_id,
        explanations.request_explanation(session, user, review, image_id),
    )


@router.get("/{review_id}/images/{image_id}/history", summary="What was decided on an image")
def show_history(
    review_id: int, image_id: int, session: SessionDep, user: UserDep
) -> schemas.HistoryOut:
    """List decisions on an image, latest first, with what was replaced or undone."""
    review = service.get(session, user, review_id)
    queue_pages.read_images(session, review, [image_id])
    return history_out(session, user, review, image_id)


@router.get("/{review_id}/counts", name="counts", summary="Count a view by decision")
def count_view(
    review_id: int, session: SessionDep, user: UserDep, filters: Annotated[Filters, Query()]
) -> schemas.CountsOut:
    """Count a view's images before deciding on all of them."""
    review = service.get(session, user, review_id)
    check(filters, read_vocabulary(session, user, review))
    found = counts.by_decision(session, review, filters)
    bulk = sum(found.values()) if filters.decided else found[None]
    by_decision = {name: found[name] for name in service.DECISIONS}
    return schemas.CountsOut(
        total=sum(found.values()), undecided=found[None], bulk=bulk, **by_decision
    )


@router.post("/{review_id}/decisions", summary="Decide on an image")
def decide(
    review_id: int,
    body: schemas.DecisionIn,
    session: SessionDep,
    user: MayReview,
    order: Order = "queue",
) -> schemas.ActOut:
    """Decide on one image. Another person's unseen decision stays.

    Repeating a client key changes nothing.
    """
    review = service.get(session, user, review_id)
    choice = Choice(body.action, body.label)
    try:
        act = decisions.decide(
            session, user, review, body.image_id, choice, body.client_key, body.seen
        )
    except decisions.Overtaken as error:
        error.members["image"] = cards(session, user, review, [error.suggestion], order)[
            0
        ].model_dump(mode="json")
        raise
    return outcome(session, user, review, act, order)


@router.post("/{review_id}/decisions/bulk", summary="Decide on many images")
def decide_many(
    review_id: int,
    body: schemas.BulkDecisionIn,
    session: SessionDep,
    user: MayReview,
    order: Order = "queue",
) -> schemas.ActOut:
    """Decide on a selection or a whole view, as one act that one undo takes back."""
    review = service.get(session, user, review_id)
    choice = Choice(body.action, body.label)
    if (body.image_ids is None) == (body.filter is None):
        raise Invalid("Say either which images (image_ids) or which view (filter).")
    if body.image_ids is not None:
        act = decisions.decide_many(
            session, user, review, body.image_ids, choice, body.client_key, body.seen
        )
    else:
        filters = body.filter or Filters()
        check(filters, read_vocabulary(session, user, review))
        act = decisions.decide_all(
            session, user, review, filters, choice, body.client_key, body.expected, body.seen
        )
    return outcome(session, user, review, act, order)


@router.post("/{review_id}/undo", name="undo", summary="Undo your latest act")
def undo_latest(
    review_id: int,
    body: schemas.UndoIn,
    session: SessionDep,
    user: MayReview,
    order: Order = "queue",
) -> schemas.ActOut:
    """Undo your own latest act, never another person's."""
    review = service.get(session, user, review_id)
    return outcome(session, user, review, undo.undo(session, user, review, body.client_key), order)


@router.post("/{review_id}/redo", name="redo", summary="Do again what you undid last")
def redo_latest(
    review_id: int,
    body: schemas.UndoIn,
    session: SessionDep,
    user: MayReview,
    order: Order = "queue",
) -> schemas.ActOut:
    """Redo your latest undo, until you decide something new."""
    review = service.get(session, user, review_id)
    return outcome(session, user, review, undo.redo(session, user, review, body.client_key), order)


@router.get("/{review_id}/stopping", summary="When to stop")
def show_stopping(review_id: int, session: SessionDep, user: UserDep) -> schemas.StoppingOut:
    """Return the precision along the queue, and the harmful images likely left."""
    return stopping_out(session, service.get(session, user, review_id))


@router.get("/{review_id}/people", summary="Who did what")
def show_people(review_id: int, session: SessionDep, user: UserDep) -> list[schemas.PersonOut]:
    """List people with decisions in force, the most first."""
    rows = contributors.list_contributors(session, service.get(session, user, review_id))
    return [schemas.PersonOut.model_validate(row) for row in rows]


@router.get("/{review_id}/parts", summary="Who takes a part of the queue")
def show_parts(review_id: int, session: SessionDep, user: UserDep) -> list[schemas.PartOut]:
    """List parts of the queue: each image is in one. Empty if nobody has taken a part."""
    return parts_out(session, service.get(session, user, review_id))


@router.post("/{review_id}/parts", summary="Take a part of the queue")
def take_part(review_id: int, session: SessionDep, user: MayReview) -> list[schemas.PartOut]:
    """Share the queue with others who take a part; then list `part=<your id>`.

    Repeating it changes nothing.
    """
    review = service.get(session, user, review_id)
    shares.take(session, user, review)
    return parts_out(session, review)


@router.delete("/{review_id}/parts/{user_id}", summary="Give a part of the queue back")
def leave_part(
    review_id: int, user_id: int, session: SessionDep, user: MayReview
) -> list[schemas.PartOut]:
    """Give a part back; decisions stay. Another person's part: owners only."""
    review = service.get(session, user, review_id)
    shares.leave(session, user, review, user_id)
    return parts_out(session, review)


@router.get("/{review_id}/changes", summary="What changed since")
def changes(
    review_id: int,
    session: SessionDep,
    user: UserDep,
    since: Annotated[int, Query(ge=0)] = 0,
    order: Order = "queue",
) -> schemas.ChangesOut:
    """List everyone's decisions after change number `since`."""
    review = service.get(session, user, review_id)
    rows = queue_pages.changes_since(session, review, since)
    return schemas.ChangesOut(
        items=cards(session, user, review, rows or [], order),
        reload=rows is None,
        last_change=review.last_change,
        progress=progress(session, user, review),
    )


@router.get("/{review_id}/confusion", summary="Given against predicted class")
def confusion(review_id: int, session: SessionDep, user: UserDep) -> list[dict[str, int]]:
    """Count images by given and predicted class, most frequent pairs first."""
    rows = counts.confusion(session, service.get(session, user, review_id))
    return [dict(zip(("label", "predicted", "count", "decided"), row, strict=True)) for row in rows]


@router.get("/{review_id}/map", summary="The map of the images")
def show_map(
    review_id: int, session: SessionDep, user: UserDep, layout: Layout = "overview"
) -> schemas.MapOut:
    """Return each image's place, similar images together. Empty without that layout."""
    review = service.get(session, user, review_id)
    found = maps.read_state(session, review)
    return schemas.MapOut.model_construct(
        neighbours=found.state,
        sentence=found.sentence,
        layout=layout,
        side=maps.SIDE,
        class_names=service.data_set_of(session, user, review).class_names,
        decision_names=list(maps.DECISION_CODES),
        **maps.read_places(session, review, layout),
    )


@router.post(
    "/{review_id}/map", status_code=202, summary="Ask for the map that keeps neighbours together"
)
def ask_map(review_id: int, session: SessionDep, user: MayReview) -> schemas.MapState:
    """Request the map's layout "neighbours"; poll until ready.

    Repeating it changes nothing.
    """
    review = service.get(session, user, review_id)
    found = maps.request_layout(session, user, review)
    return schemas.MapState(neighbours=found.state, sentence=found.sentence)


@router.get("/{review_id}/groups", summary="Groups of like images")
def groups(review_id: int, session: SessionDep, user: UserDep) -> list[schemas.GroupOut]:
    """List groups of similar images, largest first."""
    review = service.get(session, user, review_id)
    return groups_out(session, user, review)


@router.post("/{review_id}/selections", status_code=201, summary="Keep a selection")
def pick(
    review_id: int, body: schemas.SelectionIn, session: SessionDep, user: MayReview
) -> schemas.SelectionOut:
    """Save a set of images under a number, to list and decide on as a view.

    A review keeps the latest fifty.
    """
    review = service.get(session, user, review_id)
    selection = maps.save_selection(session, user, review, body.image_ids)
    return schemas.SelectionOut(id=selection.id, count=len(set(body.image_ids)))
