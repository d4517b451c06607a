"""Make images: versions of models, a score.py and a lock that are served together.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table dbml._images (
    image_id       bigint generated always as identity primary key,
    workspace_id   bigint not null references dbml._workspaces on delete cascade,
    name           dbml._name not null,
    version        integer not null check (version > 0),
    entry_script   text not null,
    environment_id bigint not null references dbml._environments,
    lock           text not null,   -- of the environment's lock, what the image takes
    digest         text check (digest ~ '^[0-9a-f]{64}$'),   -- of all that goes in, as who made it has computed it
    description    text,
    tags           jsonb not null default '{}' check (jsonb_typeof(tags) = 'object'),
    properties     jsonb not null default '{}' check (jsonb_typeof(properties) = 'object'),
    created_at     timestamptz not null default now(),
    created_by     text not null,
    unique (workspace_id, name, version)
)""",
    "create index on dbml._images (environment_id)",
    # A model that is in an image is not deleted.
    """
create table dbml._image_models (
    image_id bigint not null references dbml._images on delete cascade,
    ordinal  integer not null check (ordinal > 0),
    model_id bigint not null references dbml._models,
    primary key (image_id, ordinal),
    unique (image_id, model_id)
)""",
    "create index on dbml._image_models (model_id)",
    """
create table dbml._image_files (
    image_id bigint not null references dbml._images on delete cascade,
    path     text collate "C" not null check (path <> '' and path !~ '(^|/)[.]{0,2}(/|$)'),
    digest   bytea not null references dbml._blobs,
    primary key (image_id, path)
)""",
    "create index on dbml._image_files (digest)",
    "alter table dbml._images enable row level security",
    "alter table dbml._image_models enable row level security",
    "alter table dbml._image_files enable row level security",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop images")
