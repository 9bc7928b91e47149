"""Stop advice: precision along the queue, and harmful images likely left."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core.models import Review, Suggestion
from backend.review.queue import counts

CONFIRMED = ("remove", "relabel")
MOST_STRETCHES = 12
NARROWEST = 10
# Half width of a 95 % interval, in standard deviations.
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Stretch:
    """A stretch of the queue, with its removed or relabelled suggestions."""

    first: int
    last: int
    decided: int
    confirmed: int

    @property
    def rate(self) -> float:
        return self.confirmed / self.decided

    @property
    def interval(self) -> tuple[float, float]:
        """95 % limits of the rate: Wilson's score interval.

        Also valid for few decisions (Brown, Cai and DasGupta, 2001).
        """
        n, square = self.decided, Z * Z
        middle = (self.confirmed + square / 2) / (n + square)
        half = Z / (n + square) * math.sqrt(self.confirmed * (n - self.confirmed) / n + square / 4)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Outlook:
    """Expected number of undecided images to remove or relabel; None if unknown."""

    undecided: int
    sentence: str
    left: float | None = None
    low: float | None = None
    high: float | None = None


def confirm_rate(session: Session, review: Review) -> list[Stretch]:
    """List stretches with decisions, as many as fit a chart."""
    where = (Suggestion.review_id == review.id, Suggestion.decision.is_not(None))
    deepest = session.scalar(select(func.max(Suggestion.position)).where(*where)) or 0
    width = _width(deepest)
    number = (Suggestion.position - 1) // width
    confirmed = func.count().filter(Suggestion.decision.in_(CONFIRMED))
    rows = session.execute(
        select(number, func.count(), confirmed).where(*where).group_by(number).order_by(number)
    ).all()
    end = review.suggestion_count
    return [
        Stretch(int(at) * width + 1, min((int(at) + 1) * width, end), decided, found)
        for at, decided, found in rows
    ]


def _width(deepest: int) -> int:
    """Return the narrowest round width (10, 20, 50, …) with few enough stretches."""
    for power in range(1, 12):
        for step in (1, 2, 5):
            width: int = step * 10**power
            if width >= NARROWEST and width * MOST_STRETCHES >= deepest:
                return width
    return deepest


def outlook(review: Review, stretches: Sequence[Stretch]) -> Outlook:
    """Extrapolate what the undecided images hold, if the share keeps falling."""
    decided = sum(stretch.decided for stretch in stretches)
    undecided = review.suggestion_count - decided
    if not undecided:
        return Outlook(0, "Every image is decided.", 0, 0, 0)
    if decided < counts.ADVICE_LEAST:
        return Outlook(undecided, "Too few decisions to say how many harmful images are left.")
    found = _extrapolate(stretches, _ahead(stretches, review.suggestion_count))
    if found is None:
        return Outlook(
            undecided,
            "Too early to say how many harmful images are left: their share has not begun to fall.",
        )
    left, low, high = found
    # An unseen kind may be as frequent as one in all decided images.
    high = min(high + undecided / decided, undecided)
    about = "Fewer than one" if left < 1 else f"About {left:,.0f}"
    limits = f"between {math.floor(low):,} and {math.ceil(high):,}"
    sentence = (
        f"{about} of the {undecided:,} undecided images would be removed or relabelled too, "
        f"if the share keeps falling ({limits})."
    )
    return Outlook(undecided, sentence, left, low, high)


def _ahead(stretches: Sequence[Stretch], count: int) -> list[tuple[float, int]]:
    """List undecided images as (position, count), in growing steps."""
    found = [
        ((one.first + one.last) / 2, one.last - one.first + 1 - one.decided) for one in stretches
    ]
    at = 0
    for one in (*stretches, None):
        until = one.first - 1 if one else count
        while at < until:
            step = min(max(at // 50, 10), until - at)
            found.append((at + (step + 1) / 2, step))
            at += step
        at = one.last if one else count
    return [(position, images) for position, images in found if images > 0]


def _extrapolate(
    stretches: Sequence[Stretch], ahead: list[tuple[float, int]]
) -> tuple[float, float, float] | None:
    """Extrapolate the number ahead, with limits; None unless the share falls.

    The log odds of being right fall with the rank, its root or its logarithm. The three fits are
    averaged by Akaike weights (Burnham and Anderson, 2002); disagreement widens the limits. If a
    curve is right these are 95 % limits; in simulated queues that followed none, they held the
    truth in about four of five.
    """
    fits = [_fit(stretches, ahead, scale) for scale in (math.log, math.sqrt, float)]
    best = max(fit.likelihood for fit in fits)
    weights = [math.exp(fit.likelihood - best) for fit in fits]
    weights = [weight / sum(weights) for weight in weights]
    falls = sum(weight * fit.slope for weight, fit in zip(weights, fits, strict=True))
    if falls > -NormalDist().inv_cdf(0.95):
        return None
    odds = sum(weight * fit.odds for weight, fit in zip(weights, fits, strict=True))
    # Errors above 3 in log odds mean that nothing is known.
    variance = sum(
        weight * (min(fit.error, 3) ** 2 + (fit.odds - odds) ** 2)
        for weight, fit in zip(weights, fits, strict=True)
    )
    images, half = sum(images for _, images in ahead), Z * math.sqrt(variance)
    return images * _share(odds), images * _share(odds - half), images * _share(odds + half)


@dataclass(frozen=True)
class _Fit:
    """A fitted curve.

    slope: in standard errors. odds, error: log odds of the share ahead, with standard error.
    """

    likelihood: float
    slope: float
    odds: float
    error: float


def _fit(
    stretches: Sequence[Stretch], ahead: list[tuple[float, int]], scale: Callable[[float], float]
) -> _Fit:
    deepest = stretches[-1].last
    origin, unit = scale(deepest), scale(deepest) - scale(deepest / 3)
    rows = [
        ((scale((one.first + one.last) / 2) - origin) / unit, one.decided, one.confirmed)
        for one in stretches
    ]
    a, b, (aa, ab, bb) = _logistic(rows)
    shares = [_bounded(_share(a + b * x)) for x, _, _ in rows]
    likelihood = sum(
        k * math.log(p) + (n - k) * math.log(1 - p)
        for p, (_, n, k) in zip(shares, rows, strict=True)
    )
    expected = da = db = noise = 0.0
    for position, images in ahead:
        x = (scale(position) - origin) / unit
        p = _bounded(_share(a + b * x))
        spread = images * p * (1 - p)
        expected, da, db, noise = (
            expected + images * p,
            da + spread,
            db + spread * x,
            noise + spread,
        )
    images = sum(count for _, count in ahead)
    share = _bounded(expected / images)
    # Delta method, plus chance in the images ahead.
    error = math.sqrt(da * da * aa + 2 * da * db * ab + db * db * bb + noise) / (
        images * share * (1 - share)
    )
    return _Fit(likelihood, b / math.sqrt(bb), math.log(share / (1 - share)), error)


def _logistic(
    rows: Sequence[tuple[float, int, int]],
) -> tuple[float, float, tuple[float, float, float]]:
    """Fit log odds a + b x of k among n, and the covariance of (a, b).

    Newton's method; weak priors keep it finite.
    """
    a = b = 0.0
    for _ in range(50):
        ga, gb, haa, hab, hbb = -a / 25, -b / 4, 1 / 25, 0.0, 1 / 4
        for x, n, k in rows:
            p = _share(a + b * x)
            w = n * p * (1 - p)
            ga, gb, haa, hab, hbb = (
                ga + k - n * p,
                gb + (k - n * p) * x,
                haa + w,
                hab + w * x,
                hbb + w * x * x,
            )
        determinant = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        shorter = 3 / max(abs(da), abs(db), 3)
        a, b = a + da * shorter, b + db * shorter
        if abs(da) + abs(db) < 1e-6:
            break
    return a, b, (hbb / determinant, -hab / determinant, haa / determinant)


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(odds, 700.0))))


def _bounded(share: float) -> float:
    return min(max(share, 1e-9), 1 - 1e-9)
