"""Make snapshots and submissions, keep logs as they grow, and let runs say what is needed to repeat them.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # kind: a script in a call, or one that was submitted.  No reference to snapshots: a run outlives its workspace.
    """
alter table dbml._runs
    add column kind      text not null default 'script' check (kind in ('script', 'submitted')),
    add column snapshot  bytea,
    add column arguments jsonb check (jsonb_typeof(arguments) = 'array'),
    add column target    text,
    add column seed      bigint,
    add column software  jsonb check (jsonb_typeof(software) = 'object'),
    add column replay_of uuid,
    add column loaded    jsonb not null default '[]' check (jsonb_typeof(loaded) = 'array')""",
    "create index on dbml._runs (replay_of) where replay_of is not null",
    "create index on dbml._models (run_id) where run_id is not null",
    """
create table dbml._snapshots (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    digest       bytea not null references dbml._blobs,
    created_at   timestamptz not null default now(),
    created_by   text not null,
    primary key (workspace_id, digest)
)""",
    "create index on dbml._snapshots (digest)",
    # A run that no worker has begun yet.  The row goes when one begins it, or when it is taken back.
    """
create table dbml._submissions (
    run_id       uuid primary key references dbml._runs on delete cascade,
    request      text not null,                                   -- JSON, with its secrets
    signature    text not null check (signature ~ '^[0-9a-f]{64}$'), -- HMAC-SHA-256 of request
    submitted_at timestamptz not null default now(),
    transaction  xid8 not null default pg_current_xact_id()
)""",
    """
create table dbml._log_chunks (
    run_id    uuid not null references dbml._runs on delete cascade,
    ordinal   integer not null check (ordinal >= 0),
    text      text not null,
    logged_at timestamptz not null default now(),
    primary key (run_id, ordinal)
)""",
    "alter table dbml._snapshots enable row level security",
    "alter table dbml._submissions enable row level security",
    "alter table dbml._log_chunks enable row level security",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop snapshots and logs")
