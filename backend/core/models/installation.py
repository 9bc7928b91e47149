"""Facts about the installation as a whole."""

from typing import ClassVar

from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base


class Installation(Base):
    """A single row. identity: also in the folder of files, which belongs to this database."""

    __tablename__ = "installation"
    SINCE: ClassVar[str] = "0009"  # the revision that made it

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str]
