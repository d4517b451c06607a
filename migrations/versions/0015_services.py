"""Make services and what runs for them.

Revision ID: 0015
Revises: 0012
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # generation: of what is wanted, one more with each update; the other two of what serves, and of what would not.
    # claim: of the one runner that may report; it is another's when seen_at is old.
    """
create table dbml._services (
    service_id         bigint generated always as identity primary key,
    workspace_id       bigint not null references dbml._workspaces on delete cascade,
    name               text not null check (name ~ '^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$'),
    models             text[] not null check (array_position(models, null) is null),
    image              text,
    target             text not null check (target in ('process', 'docker', 'compose', 'kubernetes')),
    compute_type       text not null check (compute_type in ('Local', 'ACI', 'AKS', 'IOT')),
    config             jsonb not null default '{}' check (jsonb_typeof(config) = 'object'),
    tags               jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    properties         jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
    description        text,
    auth_enabled       boolean not null,
    primary_key        text not null,
    secondary_key      text not null,
    generation         integer not null default 1,
    serving_generation integer,
    failed_generation  integer,
    state              text not null default 'Transitioning'
                       check (state in ('Transitioning', 'Unhealthy', 'Unschedulable', 'Failed', 'Healthy')),
    scoring_uri        text,
    error              text,
    log                text not null default '',
    restarts           integer not null default 0,
    claim              text,
    node               text,
    seen_at            timestamptz,
    created_at         timestamptz not null default now(),
    created_by         text not null,
    updated_at         timestamptz not null default now(),
    unique (workspace_id, name),
    check (cardinality(models) > 0 or image is not null)
)""",
    """
create table dbml._containers (
    container_id bigint generated always as identity primary key,
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    service_id   bigint not null references dbml._services on delete cascade,
    generation   integer not null,
    kind         text not null check (kind in ('process', 'docker', 'compose', 'kubernetes')),
    identity     text not null,                -- a process id, a container's id, a deployment's name
    node         text,
    started_at   timestamptz not null default now(),
    ended_at     timestamptz,
    ended_by     text                          -- how it ended, in words
)""",
    "create index on dbml._containers (service_id, container_id)",
    "create index on dbml._containers (workspace_id)",
    "alter table dbml._services enable row level security",
    "alter table dbml._containers enable row level security",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop the services")
