"""Errors of influence over validation images, and the label that would help more."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; older reviews have none of these."""
    op.add_column("suggestions", sa.Column("accuracy_error", sa.Double(), nullable=True))
    op.add_column("suggestions", sa.Column("better_label", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("suggestions", "better_label")
    op.drop_column("suggestions", "accuracy_error")
