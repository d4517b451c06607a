"""Let the channel's password and signing key be changed while the former ones are still taken for a while.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS = """
alter table dbml._worker
    add column former_password text,
    add column former_secret   bytea check (length(former_secret) = 64),
    add column former_until    timestamptz,    -- the worker takes what is former until then
    add column keys_changed_at timestamptz,
    add check ((former_password is null) = (former_until is null) and (former_secret is null) = (former_until is null))"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_COLUMNS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a downgrade would drop keys that are in use")
