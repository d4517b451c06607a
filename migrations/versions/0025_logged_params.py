"""Let runs log parameters, beside those that they were given.

Revision ID: 0025
Revises: 0022
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table dbml._runs add column logged_params jsonb not null default '{}'"
        " check (jsonb_typeof(logged_params) = 'object')"
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would forget what runs have logged")
