"""Make the workspace: channel settings, blobs, workspaces, datasets, models, runs and what they log.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A name may not hold what a model reference or a path gives a meaning: name:3, name@alias, a/b.
_NAME = """create domain dbml._name as text
    constraint name_is_plain check (
        value <> '' and length(value) <= 255 and value = btrim(value) and value !~ '[:@/[:cntrl:]]')"""

_CHANNEL = """
create table dbml._worker (
    only_row      boolean primary key default true check (only_row),
    protocol      integer not null default 1,
    host          text,                        -- a host name, or the directory of a Unix socket
    port          integer check (port between 1 and 65535),
    password      text not null,               -- what dblink logs in with, by SCRAM
    secret        bytea not null check (length(secret) = 64),    -- signs requests
    inner_key     bytea not null check (length(inner_key) = 64), -- secret xor 0x36..., RFC 2104
    outer_key     bytea not null check (length(outer_key) = 64), -- secret xor 0x5c..., RFC 2104
    registered_at timestamptz,
    check ((host is null) = (port is null))
)"""

_SECRETS = """
do $$
declare
    secret bytea := ''; inner_key bytea; outer_key bytea;
begin
    for i in 1..4 loop
        secret := secret || uuid_send(gen_random_uuid());
    end loop;
    inner_key := secret;
    outer_key := secret;
    for i in 0..63 loop
        inner_key := set_byte(inner_key, i, get_byte(secret, i) # 54);
        outer_key := set_byte(outer_key, i, get_byte(secret, i) # 92);
    end loop;
    insert into dbml._worker (password, secret, inner_key, outer_key)
    values (encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'),
            secret, inner_key, outer_key);
end
$$"""

_TABLES = (
    """
create table dbml._workspaces (
    workspace_id    bigint generated always as identity primary key,
    name            dbml._name not null unique,
    subscription_id text,
    resource_group  text,
    location        text,
    sku             text not null default 'basic',
    description     text,
    tags            jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at      timestamptz not null default now(),
    created_by      text not null default session_user
)""",
    "insert into dbml._workspaces (name, description) values ('default', 'the workspace of a call that names none')",
    # Bytes of any length: a blob is a list of chunks, a chunk is kept once however often it is used.
    """
create table dbml._chunks (
    digest bytea primary key check (length(digest) = 32),
    data   bytea not null check (length(data) <= 1048576)
)""",
    "alter table dbml._chunks alter column data set storage external",
    """
create table dbml._blobs (
    digest     bytea primary key check (length(digest) = 32),
    size       bigint not null check (size >= 0),
    created_at timestamptz not null default now()
)""",
    """
create table dbml._blob_chunks (
    blob    bytea not null references dbml._blobs on delete cascade,
    ordinal integer not null check (ordinal >= 0),
    chunk   bytea not null references dbml._chunks,
    primary key (blob, ordinal)
)""",
    "create index on dbml._blob_chunks (chunk)",
    """
create table dbml._datasets (
    dataset_id   bigint generated always as identity primary key,
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    name         dbml._name not null,
    version      integer not null check (version > 0),
    kind         text not null check (kind in ('table', 'query', 'tabular', 'file')),
    definition   jsonb not null default '{}' check (jsonb_typeof(definition) = 'object'),
    description  text,
    tags         jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at   timestamptz not null default now(),
    created_by   text not null default session_user,
    unique (workspace_id, name, version)
)""",
    """
create table dbml._models (
    model_id          bigint generated always as identity primary key,
    workspace_id      bigint not null references dbml._workspaces on delete cascade,
    name              dbml._name not null,
    version           integer not null check (version > 0),
    digest            bytea not null references dbml._blobs,
    format            text not null default 'pickle' check (format in ('pickle')),
    framework         text,
    framework_version text,
    signature         jsonb check (jsonb_typeof(signature) = 'object'),
    description       text,
    tags              jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    properties        jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
    run_id            uuid,      -- no reference: the worker records runs in transactions of its own
    created_at        timestamptz not null default now(),
    created_by        text not null default session_user,
    unique (workspace_id, name, version)
)""",
    "create index on dbml._models (digest)",
    """
create table dbml._model_aliases (
    workspace_id bigint not null,
    name         text not null,
    alias        dbml._name not null,
    version      integer not null,
    set_at       timestamptz not null default now(),
    primary key (workspace_id, name, alias),
    foreign key (workspace_id, name, version)
        references dbml._models (workspace_id, name, version) on delete cascade
)""",
    """
create table dbml._experiments (
    experiment_id bigint generated always as identity primary key,
    workspace_id  bigint not null,   -- no reference: may belong to a transaction not yet committed
    name          dbml._name not null,
    description   text,
    tags          jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    created_at    timestamptz not null default now(),
    created_by    text not null,
    unique (workspace_id, name)
)""",
    """
create table dbml._runs (
    run_id         uuid primary key,
    workspace_id   bigint not null,  -- no reference, as above: a rolled-back call is still seen
    workspace      text not null,
    experiment     text,
    parent_run_id  uuid,
    username       text not null,
    session_user_  text not null,
    database       text,
    application    text,
    client_address text,
    backend_pid    integer,
    language       text not null default 'python',
    script         text,
    script_sha256  text,
    params         jsonb,
    inputs         jsonb,
    status         text not null default 'running'
                   check (status in ('queued', 'running', 'completed', 'failed', 'canceled', 'interrupted')),
    started_at     timestamptz not null,
    finished_at    timestamptz,
    rows_in        bigint check (rows_in >= 0),
    rows_out       bigint check (rows_out >= 0),
    peak_memory_mb double precision,
    cpu_seconds    double precision,
    log            text,
    sqlstate       text,
    error          text,
    error_context  text,
    tags           jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    properties     jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
    check (finished_at is null or finished_at >= started_at),
    check ((status in ('queued', 'running')) = (finished_at is null))
)""",
    "create index on dbml._runs (workspace_id, started_at)",
    "create index on dbml._runs (started_at) where finished_at is null",
    """
create table dbml._metrics (
    run_id    uuid not null references dbml._runs on delete cascade,
    ordinal   bigint not null,       -- order of logging in the run
    name      text not null check (name <> ''),
    step      bigint,
    value     double precision not null,
    logged_at timestamptz not null,
    primary key (run_id, ordinal)
)""",
    """
create table dbml._artifacts (
    run_id       uuid not null references dbml._runs on delete cascade,
    name         text not null check (name <> ''),
    kind         text not null check (kind in ('file', 'image', 'table')),
    content_type text not null,
    digest       bytea not null references dbml._blobs,
    created_at   timestamptz not null default now(),
    primary key (run_id, name)
)""",
)


def upgrade() -> None:
    for statement in (_NAME, _CHANNEL, _SECRETS, *_TABLES):
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop models")
