"""Note in each review by which method its first ranking was made."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and fill it from the scorings."""
    op.add_column(
        "reviews",
        sa.Column("method", sa.String(length=40), nullable=False, server_default="sgd_influence"),
    )
    op.execute(
        "UPDATE reviews SET method = (SELECT scorings.method FROM scorings "
        "WHERE scorings.id = reviews.accuracy_scoring_id) "
        "WHERE EXISTS (SELECT 1 FROM scorings WHERE scorings.id = reviews.accuracy_scoring_id)"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("reviews", "method")
