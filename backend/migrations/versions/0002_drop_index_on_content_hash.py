"""Drop the index on content hashes, which no query uses."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("images") as table:
        table.drop_index("ix_images_data_set_id_content_hash")


def downgrade() -> None:
    """Make it again."""
    with op.batch_alter_table("images") as table:
        table.create_index(
            "ix_images_data_set_id_content_hash", ["data_set_id", "content_hash"], unique=False
        )
