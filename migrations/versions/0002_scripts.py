"""Add what scripts do beyond one result: outputs by name, stored scripts with grants, the time in the queue.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
alter table dbml._runs
    add column queued_seconds double precision not null default 0 check (queued_seconds >= 0),
    add column stored_script  text,
    add column stored_version integer""",
    "create index on dbml._runs (script_sha256)",
    # Results beside the one that a call returns: an array literal a column, in parts of bounded size.
    """
create table dbml._outputs (
    run_id     uuid not null references dbml._runs on delete cascade,
    name       text not null check (name <> ''),
    columns    jsonb not null check (jsonb_typeof(columns) = 'array'),  -- [{"name", "type"}] of the first part
    rows       bigint not null check (rows >= 0),
    created_at timestamptz not null default now(),
    primary key (run_id, name)
)""",
    """
create table dbml._output_parts (
    run_id   uuid not null,
    name     text not null,
    ordinal  integer not null check (ordinal >= 0),
    columns  jsonb not null check (jsonb_typeof(columns) = 'array'),
    literals text[] not null,
    primary key (run_id, name, ordinal),
    foreign key (run_id, name) references dbml._outputs on delete cascade
)""",
    """
create table dbml._scripts (
    script_id    bigint generated always as identity primary key,
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null,
    version      integer not null check (version > 0),
    language     text not null check (language in ('python', 'r')),
    script       text not null,
    defaults     jsonb not null default '{}' check (jsonb_typeof(defaults) = 'object'),
    description  text,
    tags         jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at   timestamptz not null default now(),
    created_by   text not null default session_user,
    unique (workspace_id, name, version)
)""",
    """
create table dbml._script_grants (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null,
    grantee      text not null check (grantee <> ''),
    granted_at   timestamptz not null default now(),
    granted_by   text not null,
    primary key (workspace_id, name, grantee)
)""",
    """
alter table dbml._models
    drop constraint _models_format_check,
    add constraint _models_format_check check (format in ('pickle', 'rds'))""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop stored scripts and outputs")
