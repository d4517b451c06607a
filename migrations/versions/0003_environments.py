"""Make environments, and let runs and models name theirs.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table dbml._environments (
    environment_id bigint generated always as identity primary key,
    workspace_id   bigint not null references dbml._workspaces on delete cascade,
    name           dbml._name not null,
    version        integer not null check (version > 0),
    format         text not null check (format in ('requirements', 'conda', 'pyproject')),
    spec           text not null,
    python_version text not null check (python_version ~ '^3[.][0-9]+([.][0-9]+)?$'),
    lock           text not null,
    lock_sha256    text not null check (lock_sha256 = encode(sha256(convert_to(lock, 'UTF8')), 'hex')),
    description    text,
    tags           jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    properties     jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
    created_at     timestamptz not null default now(),
    created_by     text not null default session_user,
    unique (workspace_id, name, version)
)""",
    "create index on dbml._environments (lock_sha256)",
    # The name, not a reference: a run outlives its environment, and is recorded in a transaction of the worker's.
    "alter table dbml._runs add column environment text, add column environment_version integer, add column lock_sha256 text",
    "alter table dbml._models add column environment_id bigint references dbml._environments",
    "create index on dbml._models (environment_id) where environment_id is not null",
    # What sql/ makes again, with more arguments.  model_bytes stays, for a user's view may name it, and only lets go of
    # find_model.
    """
do $$
begin
    if to_regprocedure('dbml.model_bytes(text, text)') is not null then
        create or replace function dbml.model_bytes(model text, workspace text default null) returns bytea
        language plpgsql as 'begin return null; end';
    end if;
end
$$""",
    "drop function if exists dbml_channel.find_model(text, text)",
    "drop function if exists dbml.register_model(text, bytea, text, text, jsonb, text, jsonb, jsonb, text, uuid, text)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop environments")
