"""Power of a verdict: the smallest change that its test images can show."""

import math
from statistics import NormalDist

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core.models import Review, RunEpoch, images_of

# Where a run recorded none.
USUAL_ACCURACY = 0.9


def expect_power(session: Session, review: Review) -> tuple[int, float]:
    """Count the test images, and estimate the smallest change of accuracy that they show.

    The half width of a 95 % interval of paired answers (docs/method.md, section 16): two
    trainings give different answers on about as many images as one gets wrong.
    """
    images = images_of(review.version_id).order_by(None).subquery()
    count = (
        session.scalar(select(func.count()).select_from(images).where(images.c.split == "test"))
        or 0
    )
    accuracy = session.scalar(
        select(RunEpoch.validation_accuracy)
        .where(RunEpoch.run_id == review.run_id, RunEpoch.validation_accuracy.is_not(None))
        .order_by(RunEpoch.epoch.desc())
        .limit(1)
    )
    return count, estimate_half_width(count, accuracy)


def estimate_half_width(test_images: int, accuracy: float | None) -> float:
    """Estimate the half width of accuracy's interval before measuring, as a fraction."""
    if test_images < 2:
        return 1.0
    differing = min(max(1 - (USUAL_ACCURACY if accuracy is None else accuracy), 0.01), 0.5)
    z = NormalDist().inv_cdf(0.975)
    # Student's t from the normal quantile, to first order (Fisher and Cornish).
    t = z + (z**3 + z) / (4 * (test_images - 1))
    return min(max(t * math.sqrt(differing / test_images), 1 / test_images), 1.0)
