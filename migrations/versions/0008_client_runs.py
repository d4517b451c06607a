"""Make room for what clients bring: uploads in parts, models of many files, runs that live outside the worker, computes.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Bytes under way: a finished upload holds its blob until it is used or a day old.
    """
create table dbml._uploads (
    upload_id   uuid primary key default gen_random_uuid(),
    owner       text not null,
    digest      bytea references dbml._blobs,      -- NULL until it is finished
    started_at  timestamptz not null default now()
)""",
    "create index on dbml._uploads (owner, digest)",
    "create index on dbml._uploads (started_at)",
    "create index on dbml._uploads (digest)",
    """
create table dbml._upload_parts (
    upload_id uuid not null references dbml._uploads on delete cascade,
    ordinal   integer not null check (ordinal >= 0),
    chunk     bytea not null references dbml._chunks,
    size      integer not null check (size between 0 and 1048576),
    primary key (upload_id, ordinal)
)""",
    "create index on dbml._upload_parts (chunk)",
    # The files of a model's version.  One of a pickle is the model itself; of a folder the model's own blob lists them.
    """
create table dbml._model_files (
    model_id bigint not null references dbml._models on delete cascade,
    path     text not null check (path <> '' and path !~ '(^|/)[.][.]?(/|$)|^/|//|/$'),
    digest   bytea not null references dbml._blobs,
    primary key (model_id, path)
)""",
    "create index on dbml._model_files (digest)",
    "create index on dbml._artifacts (digest)",
    """
alter table dbml._models
    add column details jsonb not null default '{}' check (jsonb_typeof(details) = 'object')""",
    # Whatever formats the check lets through before, and files.
    """
do $$
declare
    before text;
begin
    select pg_get_expr(c.conbin, c.conrelid) into strict before
    from pg_constraint c where c.conrelid = 'dbml._models'::regclass and c.conname = '_models_format_check';
    alter table dbml._models drop constraint _models_format_check;
    execute 'alter table dbml._models add constraint _models_format_check check (format = ''files'' or ' || before || ')';
end
$$""",
    # A run of a client lives as long as the session that holds its key, an advisory lock; NULL for one that is to last.
    """
alter table dbml._runs
    add column name        text,
    add column source      text not null default 'worker' check (source in ('worker', 'client')),
    add column session_key bigint""",
    "create index on dbml._runs (parent_run_id) where parent_run_id is not null",
    "create index on dbml._runs (workspace_id, experiment, started_at)",
    """
alter table dbml._metrics
    alter column value drop not null,
    add column kind text not null default 'scalar' check (kind in ('scalar', 'list', 'row', 'table', 'image')),
    add column data jsonb,
    add constraint _metrics_says_something check (value is not null or data is not null)""",
    # How far each writer's batches have come, so that one sent again is not written again.
    """
create table dbml._metric_writers (
    run_id   uuid not null references dbml._runs on delete cascade,
    writer   uuid not null,
    sequence bigint not null,
    primary key (run_id, writer)
)""",
    """
create table dbml._computes (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null,
    kind         text not null check (kind <> ''),
    settings     jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
    description  text,
    tags         jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at   timestamptz not null default now(),
    created_by   text not null,
    primary key (workspace_id, name)
)""",
    "alter table dbml._model_files enable row level security",
    "alter table dbml._metric_writers enable row level security",
    "alter table dbml._computes enable row level security",
    """
alter table dbml._environments
    add column definition jsonb not null default '{}' check (jsonb_typeof(definition) = 'object')""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop files of models and metrics")
