"""Views of a review by score ranges, and the map of its images with selections."""

import sqlalchemy as sa
from alembic import op

from backend.core import models

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

VIEW = [
    "review_id",
    "position",
    "accuracy_rank",
    "label_rank",
    "label",
    "predicted",
    "decision",
    "decided_by",
    "image_id",
]


def upgrade() -> None:
    """Add the index of views and the tables."""
    op.create_index("ix_suggestions_view", "suggestions", VIEW)
    op.create_table(
        "map_points",
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("image_id", models.BigId, nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=name.startswith("near"))
            for name in ("x", "y", "near_x", "near_y")
        ),
        sa.Column("in_group", sa.Integer(), nullable=False),
        sa.Column("like_given", sa.JSON(), nullable=False),
        sa.Column("like_predicted", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_map_points_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_map_points_review_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "image_id", name=op.f("pk_map_points")),
    )
    op.create_index("ix_map_points_image_id", "map_points", ["image_id"])
    op.create_index(
        "ix_map_points_review_id_in_group_image_id",
        "map_points",
        ["review_id", "in_group", "image_id"],
    )
    _selections()


def _selections() -> None:
    op.create_table(
        "selections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_selections_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_selections_review_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_selections")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_selections_review_id", "selections", ["review_id"])
    op.create_table(
        "selection_images",
        sa.Column("selection_id", sa.Integer(), nullable=False),
        sa.Column("image_id", models.BigId, nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
            name=op.f("fk_selection_images_image_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["selection_id"],
            ["selections.id"],
            name=op.f("fk_selection_images_selection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("selection_id", "image_id", name=op.f("pk_selection_images")),
    )
    op.create_index("ix_selection_images_image_id", "selection_images", ["image_id"])


def downgrade() -> None:
    """Drop them."""
    for table in ("selection_images", "selections", "map_points"):
        op.drop_table(table)
    op.drop_index("ix_suggestions_view", "suggestions")
