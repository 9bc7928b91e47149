"""The tests of map and selections again on PostgreSQL, which counts inserted rows otherwise."""

import pytest

from tests.backend.review.insight import test_maps
from tests.backend.test_on_postgres import settings  # noqa: F401 - on PostgreSQL

pytestmark = pytest.mark.postgres

globals().update(
    {name: value for name, value in vars(test_maps).items() if name.startswith("test_")}
)
review, queue, base = test_maps.review, test_maps.queue, test_maps.base
