"""Views of a review by ranges of its scores: the index that answers them alone."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

VIEW = ["review_id", "position", "accuracy_rank", "label_rank", "label", "predicted", "decision", "decided_by", "image_id"]


def upgrade() -> None:
    """Add the index of views."""
    op.create_index("ix_suggestions_view", "suggestions", VIEW)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_suggestions_view", "suggestions")
