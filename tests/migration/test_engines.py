"""Revision 0011: a model of the revision before is scored by python until it is compiled, and each call has one signature."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command

from dbml.database import install as module
from dbml.database.install import install

BEFORE = (
    "insert into dbml._chunks values (sha256('x'), 'x')",
    "insert into dbml._blobs (digest, size) values (sha256('x'), 1)",
    "insert into dbml._models (workspace_id, name, version, digest) values (1, 'kept', 1, sha256('x'))",
    "create function dbml.predict(model text, features double precision[]) returns double precision language sql as 'select 1.0'",
    "create function dbml.predict_row(model text, features anyelement) returns jsonb language sql as 'select null::jsonb'",
)


def test_a_model_of_the_revision_before_is_kept_and_not_certified(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection: object) -> None:
        config = module._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0010")

    with monkeypatch.context() as before:
        before.setattr(module, "_migrate", migrate)
        before.setattr(module, "sql_files", list)
        install(empty)
    with psycopg.connect(empty) as connection:
        for statement in BEFORE:
            connection.execute(statement)
    install(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("select engine, why from dbml.explain_predict('kept') where engine = 'sql'").fetchall() == [
            ("sql", "it was never compiled")
        ]
        arguments = "select pg_get_function_identity_arguments(oid) from pg_proc where pronamespace = 'dbml'::regnamespace"
        assert connection.execute(arguments + " and proname = 'predict_row'").fetchall() == [
            ("model text, features anyelement, engine text",)
        ]
        assert len(connection.execute(arguments + " and proname = 'predict'").fetchall()) == 2


def test_certificates_of_another_version_of_dbml_are_stale_after_an_upgrade(installed: str) -> None:
    with psycopg.connect(installed) as connection:
        for statement in BEFORE[:3]:
            connection.execute(statement)
        connection.execute(
            "insert into dbml._certificates (model_id, engine, status, rows_compared, prediction_type, server_version, dbml_version)"
            " select model_id, 'sql', 'certified', 1, 'text', current_setting('server_version_num')::int, '0.0.1' from dbml._models"
        )
    install(installed)
    with psycopg.connect(installed) as connection:
        assert connection.execute("select status, reason from dbml.certificates").fetchall() == [
            ("stale", "it was certified by dbml 0.0.1")
        ]
