"""Databases in other encodings than UTF-8: what they can hold goes there and back, what they cannot is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml.database.install import install
from dbml.store.resources import migrations_path, sql_files


def test_what_is_installed_is_ascii() -> None:
    files = [*sql_files(), *Path(migrations_path()).glob("versions/*.py")]
    assert [path.name for path in files if not path.read_text().isascii()] == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_there_and_back(server: Any, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}_{next(server.numbers)}"
    server.run(f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'")
    worker = None
    try:
        install(server.dsn(name))
        worker = server.start_worker(server.dsn(name))
        with psycopg.connect(server.dsn(name), autocommit=True, client_encoding="utf8") as db:
            heard: list[str] = []
            db.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
            row = db.execute(
                """SELECT * FROM dbml.run_script($$print('é'); OutputDataSet = InputDataSet.assign(n=InputDataSet.x.str.len(), y='ü' + InputDataSet.x)$$,
                input_query => $$SELECT 'é'::text AS x, 'ß' AS "ñ", array['é'] AS a$$) AS t(x text, "ñ" text, a text[], n int, y text)"""
            ).fetchone()
            assert row == ("é", "ß", ["é"], 1, "üé") and heard == ["é"]
            assert db.execute("SELECT log FROM dbml.runs").fetchall() == [("é\n",)]
            beyond = "SELECT * FROM dbml.run_script('OutputDataSet = [chr(26085)]') AS t(x text)"
            if encoding == "LATIN1":
                with pytest.raises(psycopg.DatabaseError):
                    db.execute(beyond)
            else:
                assert db.execute(beyond).fetchall() == [("日",)]
            assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]') AS t(x int)").fetchall() == [(1,)]
    finally:
        if worker is not None:
            worker.stop()
        server.drop(name)
