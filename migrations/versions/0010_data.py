"""Make datastores, the files of the default one, the files that a dataset's version holds, and what runs used.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # The default datastore, workspaceblobstore, is the table of files below: it needs no row.
    """
create table dbml._datastores (
    datastore_id bigint generated always as identity primary key,
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null check (name <> 'workspaceblobstore'),
    kind         text not null check (kind in ('local', 's3', 'azure_blob', 'gcs')),
    url          text not null check (url <> ''),
    options      jsonb not null default '{}' check (jsonb_typeof(options) = 'object'),
    credentials  jsonb not null default '{}' check (jsonb_typeof(credentials) = 'object'),  -- names of variables and files
    is_default   boolean not null default false,
    description  text,
    tags         jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at   timestamptz not null default now(),
    created_by   text not null,
    unique (workspace_id, name)
)""",
    "create unique index on dbml._datastores (workspace_id) where is_default",
    """
create table dbml._files (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    path         text collate "C" not null check (path <> '' and path !~ '(^|/)[.]{0,2}(/|$)'),
    digest       bytea not null references dbml._blobs,
    created_at   timestamptz not null default now(),
    created_by   text not null,
    primary key (workspace_id, path)
)""",
    "create index on dbml._files (digest)",
    "alter table dbml._datasets add column schema jsonb check (jsonb_typeof(schema) = 'array')",
    # What a version was made of stays with it, also when the file of that path is written again.
    """
create table dbml._dataset_files (
    dataset_id   bigint not null references dbml._datasets on delete cascade,
    workspace_id bigint not null,
    path         text collate "C" not null,
    digest       bytea not null references dbml._blobs,
    primary key (dataset_id, path)
)""",
    "create index on dbml._dataset_files (digest)",
    """
create table dbml._run_datasets (
    run_id       uuid not null,      -- no reference: the worker records runs in transactions of its own
    dataset_id   bigint not null,    -- no reference: what a run used is told also when the version is deleted
    workspace_id bigint not null,
    dataset      text not null,      -- name:version
    name_in_run  text not null check (name_in_run <> ''),
    linked_at    timestamptz not null default now(),
    primary key (run_id, dataset_id, name_in_run)
)""",
    "create index on dbml._run_datasets (dataset_id)",
    # The policies are in sql/90_rights.
    *(
        f"alter table dbml.{table} enable row level security"
        for table in ("_datastores", "_files", "_dataset_files", "_run_datasets")
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop files and datasets")
