"""Revision 0005: runs that were there have no pool, and the pool default is there."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command

from dbml.database import install as module
from dbml.database.install import install

RUN = """
insert into dbml._runs (run_id, workspace_id, workspace, username, session_user_, status, started_at, finished_at)
values ('00000000-0000-0000-0000-000000000001', 1, 'default', 'me', 'me', 'completed', now(), now())"""


def test_a_run_of_the_revision_before_is_kept(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection: object) -> None:
        config = module._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")

    with monkeypatch.context() as before:
        before.setattr(module, "_migrate", migrate)
        before.setattr(module, "sql_files", list)
        install(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(RUN)
    install(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("select username, pool, options from dbml.runs").fetchall() == [("me", None, {})]
        assert connection.execute("select name, memory_mb, network, running, granted_to from dbml.pools").fetchall() == [
            ("default", None, False, 0, [])
        ]
