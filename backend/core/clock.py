"""The database's clock: times of several machines compare by one clock."""

from datetime import datetime
from typing import Any

from sqlalchemy import literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from backend.core.models.base import UtcDateTime


class DatabaseTime(FunctionElement[datetime]):
    """The database's time, some seconds ago. SQLite's is this machine's."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds_ago: float = 0.0) -> None:
        super().__init__(literal(float(seconds_ago)))


@compiles(DatabaseTime, "postgresql")
def _on_postgresql(element: DatabaseTime, compiler: Any, **options: Any) -> str:
    return f"(clock_timestamp() - make_interval(secs => {_argument(element, compiler, options)}))"


@compiles(DatabaseTime, "sqlite")
def _on_sqlite(element: DatabaseTime, compiler: Any, **options: Any) -> str:
    # As SQLAlchemy writes times there: six digits, no zone.
    ago = _argument(element, compiler, options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-{ago}) || ' seconds')"


def _argument(element: DatabaseTime, compiler: Any, options: dict[str, Any]) -> str:
    return str(compiler.process(element.clauses, **options))
