"""Lanes of jobs, attempts without progress, and files to discard."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column(
        "jobs", sa.Column("lane", sa.String(length=10), server_default="long", nullable=False)
    )
    op.add_column(
        "jobs",
        sa.Column("attempts_without_progress", sa.Integer(), server_default="0", nullable=False),
    )
    op.execute("UPDATE jobs SET lane = 'quick' WHERE kind IN ('explain', 'map')")
    op.execute("UPDATE jobs SET attempts_without_progress = attempts")
    op.create_table(
        "discards",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discards")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("discards")
    op.drop_column("jobs", "attempts_without_progress")
    op.drop_column("jobs", "lane")
