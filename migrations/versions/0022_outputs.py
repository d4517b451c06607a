"""Tell datasets that a run wrote from those that it used, and drop functions that gain arguments.

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
alter table dbml._run_datasets
    add column direction text not null default 'input' check (direction in ('input', 'output'))""",
    "drop function if exists dbml.submit_run("
    "text, text, text, jsonb, jsonb, text, jsonb, text, interval, bigint, text, jsonb, jsonb, text)",
    "drop function if exists dbml_channel.submit("
    "text, text, text, jsonb, jsonb, text, jsonb, text, interval, bigint, text, jsonb, jsonb, text)",
    "drop function if exists dbml_channel.submitted_params(jsonb, jsonb)",
    "drop function if exists dbml.upload_part(uuid, integer, bytea)",
    "drop function if exists dbml.model_part(text, integer, text, text)",
    "drop function if exists dbml.artifact_part(uuid, text, integer)",
    "drop function if exists dbml.read_file_part(text, integer, text, text)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would forget what runs have written")
