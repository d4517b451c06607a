"""Run revisions inside the connection and the transaction that `dbml.database.install` opened.

There is no other way in: no URL, no offline mode, so that tables and functions change together or
not at all.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=None,
    version_table="_alembic_version",
    version_table_schema="dbml",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
