"""Let a model be a safe file, and a workspace say which models it takes.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
alter table dbml._models
    drop constraint _models_format_check,
    add constraint _models_format_check check (format in ('pickle', 'safe', 'rds'))""",
    # NULL is no policy: any format; in a pickle anything, in a safe file what is trusted by itself.
    """
alter table dbml._workspaces
    add column model_formats text[] check (model_formats <> '{}' and model_formats <@ '{pickle,safe,rds}'
                                           and array_position(model_formats, null) is null),
    add column model_types   text[] check (array_position(model_types, null) is null)""",
    # It returns more now.  model_bytes stays, for a user's view may name it, and only lets go of find_model.
    """
do $$
begin
    if to_regprocedure('dbml.model_bytes(text, text)') is not null then
        create or replace function dbml.model_bytes(model text, workspace text default null) returns bytea
        language plpgsql as 'begin return null; end';
    end if;
end
$$""",
    "drop function if exists dbml_channel.find_model(text, text, text)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop policies")
