"""Keep predictions of tables true, and remember how far models are off.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # A row a kept table of predictions.  What it keeps is in dbml_predictions.p<id>, the target is a view of that.
    """
create table dbml._maintained (
    maintained_id   bigint generated always as identity primary key,
    workspace_id    bigint not null references dbml._workspaces on delete cascade,
    model_id        bigint not null references dbml._models on delete cascade,
    model           text not null,         -- as it was asked for: name, name:3 or name@alias
    maintainer      regrole not null,      -- whose rights count
    source          regclass not null,
    source_name     text not null,
    target          regclass,              -- the view that readers see; NULL while it is being made
    target_name     text not null,
    columns         text[] not null,       -- of the source, those of its key first; kept as c1, c2 and so on
    types           regtype[] not null,    -- as the source has them
    keys            integer not null check (keys between 1 and cardinality(columns)),
    prediction_type text not null,
    statements      jsonb not null default '{}' check (jsonb_typeof(statements) = 'object'),
    problem         text,                  -- why a later version of the model has not been taken
    created_at      timestamptz not null default now(),
    refreshed_at    timestamptz not null default now(),   -- when all of it was scored last
    check (cardinality(columns) = cardinality(types))
)""",
    "create index on dbml._maintained (model_id)",
    "create index on dbml._maintained (workspace_id)",
    "alter table dbml._maintained enable row level security",
    # Half the width of the interval around a model's predictions that holds so much of what was held out.
    """
create table dbml._calibrations (
    model_id      bigint not null references dbml._models on delete cascade,
    coverage      double precision not null check (coverage > 0 and coverage < 1),
    half_width    double precision not null check (half_width >= 0),
    n             bigint not null check (n > 0),
    calibrated_at timestamptz not null default now(),
    calibrated_by text not null,
    primary key (model_id, coverage)
)""",
    "alter table dbml._calibrations enable row level security",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop kept predictions")
