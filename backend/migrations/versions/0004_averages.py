"""Runs that repeat another with a new seed, and scorings that are a part of a review's average."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns."""
    op.add_column("runs", sa.Column("repeats_run_id", sa.Integer(), nullable=True))
    op.create_index("ix_runs_repeats_run_id", "runs", ["repeats_run_id"])
    op.add_column("scorings", sa.Column("review_id", sa.Integer(), nullable=True))
    op.create_index("ix_scorings_review_id", "scorings", ["review_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_scorings_review_id", "scorings")
    op.drop_column("scorings", "review_id")
    op.drop_index("ix_runs_repeats_run_id", "runs")
    op.drop_column("runs", "repeats_run_id")
