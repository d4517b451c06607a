"""Make resource pools and the rules of who uses which, and let runs say in which they ran and how they were called.

Revision ID: 0005
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # NULL is the worker's own limit, and for time and concurrency none.
    """
create table dbml._pools (
    name        dbml._name primary key,
    memory_mb   integer check (memory_mb > 0),
    cpu_seconds integer check (cpu_seconds > 0),
    processes   integer check (processes > 0),
    scratch_mb  integer check (scratch_mb > 0),
    output_mb   integer check (output_mb > 0),
    timeout     interval check (timeout > interval '0'),
    concurrency integer check (concurrency > 0),
    network     boolean not null default false,
    created_at  timestamptz not null default now(),
    created_by  text not null default session_user
)""",
    "insert into dbml._pools (name) values ('default')",
    """
create table dbml._pool_grants (
    pool       text not null references dbml._pools on delete cascade,
    grantee    text not null check (grantee <> ''),
    is_default boolean not null default false,
    granted_at timestamptz not null default now(),
    granted_by text not null,
    primary key (pool, grantee)
)""",
    "create unique index on dbml._pool_grants (grantee) where is_default",
    """
alter table dbml._runs
    add column pool    text,
    add column options jsonb not null default '{}' check (jsonb_typeof(options) = 'object')""",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop pools")
