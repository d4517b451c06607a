"""Datasets and files in SQL: versions without a gap, bytes that stay as long as somebody holds them, and rollback."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]


@pytest.fixture
def workspace(db: Db) -> Iterator[str]:
    name = "w-" + uuid.uuid4().hex[:12]
    db.execute("SELECT dbml.create_workspace(%s)", (name,))
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (name,))
    yield name
    db.execute("SELECT dbml.delete_workspace(name) FROM dbml.workspaces WHERE name = %s", (name,))


def kept(db: Db, content: bytes) -> bool:
    return db.execute("SELECT count(*) FROM dbml._blobs WHERE digest = sha256(%s)", (content,)).fetchone() == (1,)


def test_eight_at_once_count_versions_without_a_gap(db: Db, connect: Callable[[], Db], workspace: str) -> None:
    def register(number: int) -> int:
        with connect() as own:
            row = own.execute(
                "SELECT dbml.register_dataset('d', 'query', jsonb_build_object('query', 'SELECT ' || %s::text),"
                " create_new_version => true, workspace => %s)",
                (number, workspace),
            ).fetchone()
            assert row is not None
            return int(row[0])

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(register, range(24))) == list(range(1, 25))
    found = db.execute("SELECT version FROM dbml.datasets WHERE workspace = %s AND is_latest", (workspace,)).fetchall()
    assert found == [(24,)]


def test_bytes_stay_as_long_as_somebody_holds_them(db: Db, workspace: str) -> None:
    content, other = os.urandom(40), os.urandom(40)
    register = "SELECT dbml.register_dataset('f', 'file', '{\"paths\": []}', files => '{a}', create_new_version => true)"
    db.execute("SELECT dbml.write_file('a', %s)", (content,))
    db.execute(register)
    assert db.execute("SELECT dbml.write_file('a', %s, overwrite => false)", (other,)).fetchone() == (False,)
    db.execute("SELECT dbml.write_file('a', %s)", (other,))
    assert db.execute("SELECT dbml.read_file('a', dataset => 'f:1'), dbml.read_file('a')").fetchone() == (content, other)
    db.execute(register)
    assert db.execute("SELECT dbml.delete_dataset('f:1')").fetchone() == (1,) and not kept(db, content)
    assert db.execute("SELECT dbml.delete_file('a')").fetchone() == (True,) and kept(db, other)
    with pytest.raises(errors.FileMissing, match=r'the datastore of workspace "w-\w+" has no file a'):
        db.execute("SELECT dbml.read_file('a')")
    db.execute("SELECT dbml.delete_workspace(%s)", (workspace,))
    assert not kept(db, other)


def test_a_rolled_back_registration_is_none(db: Db, workspace: str) -> None:
    with db.transaction(force_rollback=True):
        db.execute("SELECT dbml.register_dataset('d', 'table', '{\"table\": \"x\"}'); SELECT dbml.write_file('a', 'x')")
    assert db.execute("SELECT count(*) FROM dbml.datasets WHERE workspace = %s", (workspace,)).fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM dbml.files WHERE workspace = %s", (workspace,)).fetchone() == (0,)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("register_dataset('a:b', 'table', '{\"table\": \"x\"}')", "a dataset's name must have"),
        ("register_dataset(NULL, 'table', '{\"table\": \"x\"}')", "got NULL"),
        ("register_dataset('d', 'view', '{}')", "kind must be table, query, tabular or file, got 'view'"),
        ("register_dataset('d', 'table', NULL)", "definition and tags must be JSON objects"),
        ("register_dataset('d', 'query', '{\"query\": \" \"}')", "the definition of a query must hold it"),
        ("register_dataset('d', 'tabular', '{}')", "must list their paths"),
        ("register_dataset('d', 'table', '{\"table\": \"x\"}', schema => '{}')", "schema must be a JSON array"),
        ("register_dataset('d', 'file', '{\"paths\": []}', files => '{nope}')", "the datastore has no file nope"),
        ("register_dataset('d', 'file', '{\"paths\": []}', files => '{a}', files_of => 'none')", 'dataset "none" is not in'),
        ("write_file('a/../b', 'x')", r"no part that is empty, \. or \.\."),
        ("write_file('', 'x')", "got ''"),
        ("write_file('a', NULL)", "content must be given"),
        ("write_upload('a', sha256('never sent'))", "must have been uploaded"),
        ("delete_dataset('none')", 'dataset "none" is not in'),
        ("delete_datastore('none')", 'datastore "none" is not in'),
        ("delete_datastore('workspaceblobstore')", "is the database itself"),
        ("register_datastore('workspaceblobstore', 'local', '/x')", "is the database itself"),
        ("link_dataset(gen_random_uuid(), 'none', 'x')", 'dataset "none" is not in'),
    ],
)
def test_bad_calls_are_refused(db: Db, workspace: str, call: str, said: str) -> None:
    with pytest.raises(errors.DbmlError, match=said):
        db.execute(f"SELECT dbml.{call}")  # type: ignore[arg-type]
