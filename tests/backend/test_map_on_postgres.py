"""The tests of the map and of selections once more, on a real PostgreSQL: it counts the rows of an insert otherwise."""

import pytest

from tests.backend import test_review_map
from tests.backend.test_on_postgres import settings  # noqa: F401 - the application's, with a database on PostgreSQL

pytestmark = pytest.mark.postgres

globals().update({name: value for name, value in vars(test_review_map).items() if name.startswith("test_")})
review, queue, base = test_review_map.review, test_review_map.queue, test_review_map.base
