"""Let a model be an ONNX file, keep the ONNX form of others with their certificates, and drop functions that gain arguments.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # pair: the estimator's bytes, then those of its ONNX form, then the size of the first in eight bytes.
    """
alter table dbml._certificates
    add column pair bytea references dbml._blobs,
    add column maker text""",
    "create index on dbml._certificates (pair)",
    """
alter table dbml._models
    drop constraint _models_format_check,
    add constraint _models_format_check check (format in ('pickle', 'safe', 'onnx', 'rds', 'files'))""",
    """
do $$
declare
    before text;
begin
    select c.conname into strict before from pg_constraint c
    where c.conrelid = 'dbml._workspaces'::regclass and pg_get_constraintdef(c.oid) like '%model_formats <@%';
    execute format('alter table dbml._workspaces drop constraint %I', before);
    alter table dbml._workspaces add constraint _workspaces_model_formats_check check (
        model_formats <> '{}' and model_formats <@ '{pickle,safe,onnx,rds}' and array_position(model_formats, null) is null);
end
$$""",
    "drop function if exists dbml.compile_model(text, interval, text)",
    "drop function if exists dbml_channel.score_one(text, text, text, text, text)",
    "drop function if exists dbml_channel.open_scoring(text, text, text[], text[], text[], jsonb, text)",
    "drop function if exists dbml_channel.score_query(text, text, text[], text[], text[], text, jsonb, text, text, boolean)",
    "drop function if exists dbml_channel.score_call(text, text, text[], text[], text[])",
    "drop function if exists dbml_channel.scored_value(text, text)",
    "drop function if exists dbml_channel.ask_python(anyelement)",
    "drop function if exists dbml_channel.run_scored(text)",
    "drop function if exists dbml_channel.write_scored(text)",
    "drop function if exists dbml_channel._choose_engine(bigint, text, text, text, text)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop models that are ONNX files")
