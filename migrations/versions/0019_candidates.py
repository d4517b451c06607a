"""Remember what a service served, and keep a second version of it beside the one that answers.

Revision ID: 0019
Revises: 0016
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0016"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Everything that a service was asked to serve, by its generation.  restores: the generation that this goes back to.
    """
create table dbml._service_versions (
    workspace_id bigint not null references dbml._workspaces on delete cascade,
    service_id   bigint not null references dbml._services on delete cascade,
    generation   integer not null,
    role         text not null check (role in ('current', 'candidate')),
    models       text[] not null,
    image        text,
    config       jsonb not null,
    restores     integer,
    created_at   timestamptz not null default now(),
    created_by   text not null,
    primary key (service_id, generation)
)""",
    "create index on dbml._service_versions (workspace_id)",
    """
insert into dbml._service_versions (workspace_id, service_id, generation, role, models, image, config, created_at, created_by)
select workspace_id, service_id, generation, 'current', models, image, config, updated_at, created_by from dbml._services""",
    # One at most of a service.  traffic_percent: of the requests that it answers; shadow: it answers a copy of each, which is
    # compared and thrown away.
    """
create table dbml._service_candidates (
    service_id         bigint primary key references dbml._services on delete cascade,
    workspace_id       bigint not null references dbml._workspaces on delete cascade,
    generation         integer not null,
    traffic_percent    double precision not null check (traffic_percent between 0 and 100),
    shadow             boolean not null,
    state              text not null default 'Transitioning'
                       check (state in ('Transitioning', 'Unhealthy', 'Failed', 'Healthy')),
    error              text,
    compared           bigint not null default 0,
    differing          bigint not null default 0,
    dropped            bigint not null default 0,
    largest_difference double precision,
    updated_at         timestamptz not null default now(),
    check (not shadow or traffic_percent = 0),
    foreign key (service_id, generation) references dbml._service_versions on delete cascade
)""",
    "create index on dbml._service_candidates (workspace_id)",
    """
create table dbml._service_comparisons (
    comparison_id      bigint generated always as identity primary key,
    workspace_id       bigint not null references dbml._workspaces on delete cascade,
    service_id         bigint not null references dbml._services on delete cascade,
    generation         integer not null,
    candidate          integer not null,
    request_id         text not null,
    path               text not null,
    agrees             boolean not null,
    largest_difference double precision,
    status             integer not null,
    candidate_status   integer,
    ms                 double precision not null,
    candidate_ms       double precision,
    answer             text,
    candidate_answer   text,
    asked_at           timestamptz not null
)""",
    "create index on dbml._service_comparisons (service_id, comparison_id)",
    "create index on dbml._service_comparisons (workspace_id)",
    "alter table dbml._service_versions enable row level security",
    "alter table dbml._service_candidates enable row level security",
    "alter table dbml._service_comparisons enable row level security",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop the services' history")
