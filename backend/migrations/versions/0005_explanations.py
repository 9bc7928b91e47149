"""Effects of an image on the validation images, for the review."""

import sqlalchemy as sa
from alembic import op

from backend.core import models

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "explanations",
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("image_id", models.BigId, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("asked_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("worse", sa.JSON(), nullable=False),
        sa.Column("better", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_explanations_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"],
            ["reviews.id"],
            name=op.f("fk_explanations_review_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("review_id", "image_id", name=op.f("pk_explanations")),
    )
    op.create_index("ix_explanations_image_id", "explanations", ["image_id"])
    op.create_index("ix_explanations_review_id_state", "explanations", ["review_id", "state"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("explanations")
