"""Revision 0008: models, metrics and runs that were there are as they were, and formats that were allowed are."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command

from dbml.database import install as module
from dbml.database.install import install

BEFORE = """
insert into dbml._runs (run_id, workspace_id, workspace, username, session_user_, status, started_at, finished_at)
values ('00000000-0000-0000-0000-000000000001', 1, 'default', 'me', 'me', 'completed', now(), now());
insert into dbml._metrics (run_id, ordinal, name, value, logged_at)
values ('00000000-0000-0000-0000-000000000001', 0, 'rmse', 0.5, now());
insert into dbml._chunks (digest, data) values (sha256('x'), 'x');
insert into dbml._blobs (digest, size) values (sha256('x'), 1);
insert into dbml._blob_chunks (blob, ordinal, chunk) values (sha256('x'), 0, sha256('x'));
insert into dbml._models (workspace_id, name, version, digest, format) values (1, 'm', 1, sha256('x'), 'rds')"""


def test_what_the_revision_before_has_is_kept(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection: object) -> None:
        config = module._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0008-1")

    with monkeypatch.context() as before:
        before.setattr(module, "_migrate", migrate)
        before.setattr(module, "sql_files", list)
        install(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(BEFORE)
    install(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("select name, value, kind, data from dbml.metrics").fetchall() == [
            ("rmse", 0.5, "scalar", None)
        ]
        assert connection.execute("select source, display_name, status from dbml.runs").fetchall() == [
            ("worker", None, "completed")
        ]
        assert connection.execute("select format, details from dbml.models").fetchall() == [("rds", {})]
        connection.execute("select dbml.delete_model('m')")
        assert connection.execute("select count(*) from dbml._chunks").fetchone() == (0,)
        for format_, allowed in (("files", True), ("pickle", True), ("nonsense", False)):
            statement = "insert into dbml._models (workspace_id, name, version, digest, format) values (1, 'n', 1, dbml._store_blob('y'), %s)"
            with connection.transaction(force_rollback=True):
                if allowed:
                    connection.execute(statement, (format_,))
                else:
                    with pytest.raises(psycopg.errors.CheckViolation):
                        connection.execute(statement, (format_,))
