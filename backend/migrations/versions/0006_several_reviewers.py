"""Doing again what was taken back; parts of a queue; second opinions."""

import sqlalchemy as sa
from alembic import op

from backend.core import models

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("decisions", sa.Column("redoes_id", sa.BigInteger(), nullable=True))
    op.create_index("ix_decisions_redoes_id", "decisions", ["redoes_id"])
    op.add_column(
        "reviews",
        sa.Column("second_opinion", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "review_parts",
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("taken_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["review_id"],
            ["reviews.id"],
            name=op.f("fk_review_parts_review_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_review_parts_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "user_id", name=op.f("pk_review_parts")),
    )
    op.create_index("ix_review_parts_user_id", "review_parts", ["user_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("review_parts")
    op.drop_column("reviews", "second_opinion")
    op.drop_index("ix_decisions_redoes_id", "decisions")
    op.drop_column("decisions", "redoes_id")
