"""First schema: every table. Only the last key of upgrade() is written by hand."""

import sqlalchemy as sa
from alembic import op

from backend.core import models

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("used_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_credentials_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_credentials_secret_hash")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credentials_user_id"), ["user_id"], unique=False)

    op.create_table(
        "data_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("class_names", sa.JSON(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("refused_count", sa.Integer(), nullable=False),
        sa.Column("duplicate_count", sa.Integer(), nullable=False),
        sa.Column("planted_count", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("current_version_id", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_data_sets_created_by"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_sets")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "images",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("split", sa.String(length=10), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("true_label", sa.Integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["data_set_id"],
            ["data_sets.id"],
            name=op.f("fk_images_data_set_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("data_set_id", "row", name=op.f("uq_images_data_set_id_row")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_images_data_set_id_content_hash"),
            ["data_set_id", "content_hash"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_images_data_set_id_split_label"),
            ["data_set_id", "split", "label"],
            unique=False,
        )

    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=False),
        sa.Column("progress_message", sa.String(length=300), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("seconds_left", sa.Double(), nullable=True),
        sa.Column("claim", sa.String(length=120), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("started_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("finished_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_jobs_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["data_set_id"], ["data_sets.id"], name=op.f("fk_jobs_data_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_data_set_id"), ["data_set_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_state"), ["state"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_jobs_state_heartbeat_at"), ["state", "heartbeat_at"], unique=False
        )

    op.create_table(
        "refusals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["data_set_id"],
            ["data_sets.id"],
            name=op.f("fk_refusals_data_set_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("refusals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_refusals_data_set_id"), ["data_set_id"], unique=False)

    op.create_table(
        "versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("removed_count", sa.Integer(), nullable=False),
        sa.Column("relabelled_count", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_versions_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["data_set_id"],
            ["data_sets.id"],
            name=op.f("fk_versions_data_set_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_versions_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("data_set_id", "number", name=op.f("uq_versions_data_set_id_number")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_log_lines",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_log_lines_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_log_lines")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job_log_lines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_log_lines_job_id"), ["job_id"], unique=False)

    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("params_hash", sa.String(length=64), nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("cleansing_id", sa.Integer(), nullable=True),
        sa.Column("protocol", sa.String(length=20), nullable=True),
        sa.Column("arm", sa.String(length=20), nullable=True),
        sa.Column("test_accuracy", sa.Double(), nullable=True),
        sa.Column("test_loss", sa.Double(), nullable=True),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["cleansing_id"],
            ["cleansings.id"],
            name=op.f("fk_runs_cleansing_id"),
            ondelete="CASCADE",
            use_alter=True,
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_runs_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["data_set_id"], ["data_sets.id"], name=op.f("fk_runs_data_set_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_runs_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_runs_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_cleansing_id"), ["cleansing_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_runs_data_set_id"), ["data_set_id"], unique=False)

    op.create_table(
        "version_changes",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
            name=op.f("fk_version_changes_image_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
            name=op.f("fk_version_changes_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "image_id", name=op.f("pk_version_changes")),
    )
    with op.batch_alter_table("version_changes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_version_changes_image_id"), ["image_id"], unique=False)

    op.create_table(
        "run_epochs",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=False),
        sa.Column("train_accuracy", sa.Double(), nullable=False),
        sa.Column("validation_loss", sa.Double(), nullable=True),
        sa.Column("validation_accuracy", sa.Double(), nullable=True),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("params_hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_epochs_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_run_epochs")),
    )
    op.create_table(
        "scorings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_scorings_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_scorings_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scorings")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("scorings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_scorings_job_id"), ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_scorings_run_id"), ["run_id"], unique=False)

    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("accuracy_scoring_id", sa.Integer(), nullable=True),
        sa.Column("label_scoring_id", sa.Integer(), nullable=True),
        sa.Column("suggestion_count", sa.Integer(), nullable=False),
        sa.Column("last_change", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["accuracy_scoring_id"],
            ["scorings.id"],
            name=op.f("fk_reviews_accuracy_scoring_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_reviews_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["data_set_id"],
            ["data_sets.id"],
            name=op.f("fk_reviews_data_set_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_reviews_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["label_scoring_id"],
            ["scorings.id"],
            name=op.f("fk_reviews_label_scoring_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_reviews_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_reviews_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reviews_data_set_id"), ["data_set_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_reviews_run_id"), ["run_id"], unique=False)

    op.create_table(
        "scores",
        sa.Column("scoring_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_scores_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["scoring_id"], ["scorings.id"], name=op.f("fk_scores_scoring_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scoring_id", "image_id", name=op.f("pk_scores")),
    )
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_scores_image_id"), ["image_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_scores_scoring_id_rank"), ["scoring_id", "rank"], unique=False
        )

    op.create_table(
        "cleansings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_set_id", sa.Integer(), nullable=False),
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("parent_version_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("fresh_seeds", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_cleansings_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["data_set_id"],
            ["data_sets.id"],
            name=op.f("fk_cleansings_data_set_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_cleansings_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["parent_version_id"], ["versions.id"], name=op.f("fk_cleansings_parent_version_id")
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_cleansings_review_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_cleansings_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cleansings")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("cleansings", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_cleansings_data_set_id"), ["data_set_id"], unique=False
        )

    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("client_key", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.Column("batch", sa.String(length=36), nullable=True),
        sa.Column("previous_id", sa.BigInteger(), nullable=True),
        sa.Column("undoes_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_decisions_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_decisions_review_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_decisions_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sa.UniqueConstraint(
            "review_id", "client_key", name=op.f("uq_decisions_review_id_client_key")
        ),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_decisions_review_id_batch"), ["review_id", "batch"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_decisions_image_id"), ["image_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_decisions_review_id_image_id"), ["review_id", "image_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_decisions_review_id_user_id_id"),
            ["review_id", "user_id", "id"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_decisions_undoes_id"), ["undoes_id"], unique=False)

    op.create_table(
        "suggestions",
        sa.Column("review_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("brought_by", sa.String(length=10), nullable=False),
        sa.Column("accuracy_rank", sa.Integer(), nullable=False),
        sa.Column("label_rank", sa.Integer(), nullable=False),
        sa.Column("accuracy_value", sa.Double(), nullable=False),
        sa.Column("label_value", sa.Double(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("predicted", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("label_confidence", sa.Double(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=True),
        sa.Column("decision_label", sa.Integer(), nullable=True),
        sa.Column("decision_id", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Integer(), nullable=True),
        sa.Column("decided_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["decided_by"],
            ["users.id"],
            name=op.f("fk_suggestions_decided_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_suggestions_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_suggestions_review_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "image_id", name=op.f("pk_suggestions")),
        sa.UniqueConstraint(
            "review_id", "accuracy_rank", name=op.f("uq_suggestions_review_id_accuracy_rank")
        ),
        sa.UniqueConstraint(
            "review_id", "label_rank", name=op.f("uq_suggestions_review_id_label_rank")
        ),
        sa.UniqueConstraint(
            "review_id", "position", name=op.f("uq_suggestions_review_id_position")
        ),
    )
    with op.batch_alter_table("suggestions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_suggestions_image_id"), ["image_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_change"), ["review_id", "change"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_decided_by_decision"),
            ["review_id", "decided_by", "decision"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_decision_position"),
            ["review_id", "decision", "position"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_label_position_decision"),
            ["review_id", "label", "position", "decision"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_label_predicted_decision"),
            ["review_id", "label", "predicted", "decision"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_suggestions_review_id_predicted_position_decision"),
            ["review_id", "predicted", "position", "decision"],
            unique=False,
        )

    # Runs and cleansings point at each other: SQLite takes this key with the table,
    # PostgreSQL once both tables exist.
    if op.get_context().dialect.supports_alter:
        op.create_foreign_key(
            "fk_runs_cleansing_id",
            "runs",
            "cleansings",
            ["cleansing_id"],
            ["id"],
            ondelete="CASCADE",
        )


def downgrade() -> None:
    if op.get_context().dialect.supports_alter:
        op.drop_constraint("fk_runs_cleansing_id", "runs", type_="foreignkey")
    with op.batch_alter_table("suggestions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_predicted_position_decision"))
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_label_predicted_decision"))
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_label_position_decision"))
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_decision_position"))
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_decided_by_decision"))
        batch_op.drop_index(batch_op.f("ix_suggestions_review_id_change"))
        batch_op.drop_index(batch_op.f("ix_suggestions_image_id"))

    op.drop_table("suggestions")
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_decisions_undoes_id"))
        batch_op.drop_index(batch_op.f("ix_decisions_review_id_user_id_id"))
        batch_op.drop_index(batch_op.f("ix_decisions_review_id_image_id"))
        batch_op.drop_index(batch_op.f("ix_decisions_image_id"))
        batch_op.drop_index(batch_op.f("ix_decisions_review_id_batch"))

    op.drop_table("decisions")
    with op.batch_alter_table("cleansings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_cleansings_data_set_id"))

    op.drop_table("cleansings")
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_scores_scoring_id_rank"))
        batch_op.drop_index(batch_op.f("ix_scores_image_id"))

    op.drop_table("scores")
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reviews_run_id"))
        batch_op.drop_index(batch_op.f("ix_reviews_data_set_id"))

    op.drop_table("reviews")
    with op.batch_alter_table("scorings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_scorings_run_id"))
        batch_op.drop_index(batch_op.f("ix_scorings_job_id"))

    op.drop_table("scorings")
    op.drop_table("run_epochs")
    with op.batch_alter_table("version_changes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_version_changes_image_id"))

    op.drop_table("version_changes")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_data_set_id"))
        batch_op.drop_index(batch_op.f("ix_runs_cleansing_id"))

    op.drop_table("runs")
    with op.batch_alter_table("job_log_lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_log_lines_job_id"))

    op.drop_table("job_log_lines")
    op.drop_table("versions")
    with op.batch_alter_table("refusals", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_refusals_data_set_id"))

    op.drop_table("refusals")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_state_heartbeat_at"))
        batch_op.drop_index(batch_op.f("ix_jobs_state"))
        batch_op.drop_index(batch_op.f("ix_jobs_data_set_id"))

    op.drop_table("jobs")
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_images_data_set_id_split_label"))
        batch_op.drop_index(batch_op.f("ix_images_data_set_id_content_hash"))

    op.drop_table("images")
    op.drop_table("data_sets")
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credentials_user_id"))

    op.drop_table("credentials")
    op.drop_table("users")
