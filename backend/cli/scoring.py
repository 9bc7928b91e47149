"""Commands for scoring: list a run's methods with their costs, and start one."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import humanize
import typer
from pydantic import ValidationError

from backend.cli import jobs
from backend.cli.console import say, show
from backend.cli.opening import acting, is_running, make_settings, opened, transaction
from backend.core.db import Database
from backend.core.errors import Invalid, NotFound
from backend.core.models import Review, Scoring
from backend.core.reports import MethodCost
from backend.core.settings import Settings
from backend.runs import averages
from backend.runs import service as runs
from backend.runs.schemas import MOST_RUNS, MethodOut, ScoringOptions
from backend.web.rendering import duration

RunId = Annotated[
    int,
    typer.Argument(metavar="RUN", help="The run's number, as its address shows it: /runs/3 is 3."),
]


def backbones() -> None:
    """List the frozen networks that turn pictures into features: size, licence and source."""
    show(
        ("backbone", "side", "features", "megabytes", "licence", "source"),
        [
            (one.name, one.side, one.features, one.megabytes, one.licence, one.source)
            for one in runs.list_backbones()
        ],
    )


def methods(run_id: RunId) -> None:
    """List the methods that rank a run's images: what they mean, and what they will take."""
    with transaction(write=False) as session:
        found = runs.list_methods(runs.get(session, acting(session), run_id))
    show(
        ("method", "last epoch", "all epochs", "memory", "a low score means"),
        [_row(method) for method in found],
    )


def score(
    run_id: RunId,
    method: Annotated[str, typer.Option(help="As `winnow methods` names them.")] = "sgd_influence",
    span: Annotated[str, typer.Option(help="last_epoch or all_epochs.")] = "last_epoch",
    damping: Annotated[str, typer.Option(help="none, or auto: measured.")] = "none",
    average: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_RUNS, help="Average over so many trainings with different seeds."
        ),
    ] = 1,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the scoring to end.")
    ] = True,
) -> None:
    """Score a finished run's training images, and print the number of the review that they fill."""
    options = _options(method=method, span=span, damping=damping, runs=average)
    settings = make_settings()
    with opened(settings) as database:
        with database.transaction() as session:
            user = acting(session)
            review = runs.start_scoring(session, user, runs.get(session, user, run_id), options)
        if wait and is_running(settings):
            _follow(database, review)
        else:
            _say_later(settings, review)
    print(review.id)


def _options(**given: Any) -> ScoringOptions:
    try:
        return ScoringOptions(**given)
    except ValidationError as error:
        raise Invalid("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error


def _follow(database: Database, review: Review) -> None:
    for job_id in _jobs(database, review):
        jobs.follow(database, job_id, "Scoring")
    with database.transaction(write=False) as session:
        scoring = session.get(Scoring, review.accuracy_scoring_id)
        if scoring is None:
            raise NotFound("The review was deleted meanwhile.")
        for sentence in scoring.typed_report.trust:
            say(sentence)


def _jobs(database: Database, review: Review) -> Iterator[int]:
    """Yield the review's jobs once each: its members' first, then its own."""
    seen: set[int] = set()
    while True:
        with database.transaction(write=False) as session:
            now = session.get_one(Review, review.id)
            members = averages.map_members(session, [now]).get(now.id, [])
        known = [one.job.id for one in members if one.job] + ([now.job_id] if now.job_id else [])
        fresh = [job_id for job_id in known if job_id not in seen]
        if not fresh:
            return
        seen |= {fresh[0]}
        yield fresh[0]


def _say_later(settings: Settings, review: Review) -> None:
    later = "" if is_running(settings) else " as soon as Winnow runs (winnow up)"
    if review.job_id is None:
        say(
            f"The trainings and scorings of the average are queued and "
            f"begin{later or ' by themselves'}. See: winnow jobs list"
        )
    else:
        say(f"Job {review.job_id} scores it{later}. See: winnow jobs show {review.job_id}")


def _row(method: MethodOut) -> Sequence[str]:
    if method.costs is None:
        return method.name, "not known", "not known", "not known", method.meaning
    last, whole = method.costs["last_epoch"], method.costs["all_epochs"]
    return (
        method.name,
        _time(last),
        _time(whole) if method.spans else "the same",
        _bytes(whole),
        method.meaning,
    )


def _time(cost: MethodCost) -> str:
    return duration(cost.seconds)


def _bytes(cost: MethodCost) -> str:
    return humanize.naturalsize(cost.memory_bytes, format="%.1f")
