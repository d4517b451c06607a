"""Keep certificates of engines, let a model ask for one, and drop the functions whose signatures gain `engine`.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # A row a model version and engine: what was made, what was proven, or why there is nothing.
    """
create table dbml._certificates (
    model_id           bigint not null references dbml._models on delete cascade,
    engine             text not null check (engine in ('sql', 'onnx')),
    status             text not null check (status in ('certified', 'refused', 'failed', 'stale')),
    reason             text,
    functions          jsonb not null default '{}' check (jsonb_typeof(functions) = 'object'),  -- method -> form -> name
    refused            jsonb not null default '{}' check (jsonb_typeof(refused) = 'object'),    -- form -> why
    features           text[],
    kinds              text[],
    prediction_type    text,
    rows_compared      bigint check (rows_compared >= 0),
    rows_left          bigint check (rows_left >= 0),   -- to the model itself
    thresholds         bigint,
    thresholds_tried   bigint,
    max_absolute_error double precision,
    max_relative_error double precision,
    tolerance          double precision,
    server_version     integer not null,
    dbml_version       text,
    packages           jsonb not null default '{}',
    seconds            double precision,
    certified_at       timestamptz not null default clock_timestamp(),
    primary key (model_id, engine),
    check ((status = 'certified') <= (rows_compared > 0 and prediction_type is not null))
)""",
    "alter table dbml._certificates enable row level security",
    "alter table dbml._models add column engine text check (engine in ('python', 'sql', 'onnx'))",
    # Versions of what the models' answers depend on, as the worker has them: certificates made with others are stale.
    "alter table dbml._worker add column packages jsonb",
    # With an argument more, `create or replace` would leave the old ones beside the new.
    "drop function if exists dbml.predict(text, double precision[])",
    "drop function if exists dbml.predict(text, text)",
    "drop function if exists dbml.predict_row(text, anyelement)",
    "drop function if exists dbml.predict_json(text, text)",
    "drop function if exists dbml.predict_proba(text, double precision[])",
    "drop function if exists dbml.predict_into(text, text, text, text)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop certificates")
