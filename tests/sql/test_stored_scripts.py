"""Stored scripts: versions, defaults, and the right to run one without the right to run any."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]


@pytest.fixture
def name() -> str:
    return "s-" + uuid.uuid4().hex[:8]


@pytest.fixture
def clerk(db: Db) -> Iterator[str]:
    """An ordinary role without any rights on dbml."""
    role = "clerk_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role} NOLOGIN")  # type: ignore[arg-type]
    yield role
    db.execute("RESET ROLE")
    db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def run(db: Db, name: str, listed: str = "y bigint", **arguments: str) -> list[tuple[Any, ...]]:
    given = "".join(f", {key} => {value}" for key, value in arguments.items())
    return db.execute(f"SELECT * FROM dbml.run_stored(%s{given}) AS t({listed})", (name,)).fetchall()  # type: ignore[arg-type]


def create(db: Db, name: str, script: str, **arguments: str) -> int:
    given = "".join(f", {key} => {value}" for key, value in arguments.items())
    row = db.execute(f"SELECT dbml.create_script(%s, 'python', %s{given})", (name, script)).fetchone()  # type: ignore[arg-type]
    assert row
    return int(row[0])


def test_versions_and_defaults(db: Db, name: str) -> None:
    assert create(db, name, "OutputDataSet = {'y': [n]}", params="'{\"n\": 1}'") == 1
    assert run(db, name) == [(1,)] and run(db, name, params="'{\"n\": 5}'") == [(5,)]
    assert create(db, name, "OutputDataSet = InputDataSet * 10") == 2
    assert run(db, name, input_query="'SELECT 7 AS x'") == [(70,)] and run(db, f"{name}:1") == [(1,)]
    assert db.execute("SELECT r FROM dbml.run_stored_json(%s, 'SELECT 2 AS x') r", (name,)).fetchall() == [({"x": 20},)]
    seen = db.execute("SELECT version, language, params FROM dbml.scripts WHERE name = %s ORDER BY 1", (name,)).fetchall()
    assert seen == [(1, "python", {"n": 1}), (2, "python", {})]
    recorded = db.execute(
        "SELECT stored_version, script, params FROM dbml.runs WHERE stored_script = %s ORDER BY started_at", (name,)
    ).fetchall()
    assert recorded[:2] == [(1, "OutputDataSet = {'y': [n]}", {"n": 1}), (1, "OutputDataSet = {'y': [n]}", {"n": 5})]
    assert db.execute("SELECT dbml.delete_script(%s)", (name,)).fetchone() == (2,)
    with pytest.raises(errors.ScriptNotFound, match=name):
        run(db, name)


def test_a_stored_script_takes_pieces_and_belongs_to_the_transaction(db: Db, name: str) -> None:
    db.execute("BEGIN")
    create(db, name, "OutputDataSet = {'n': [len(InputDataSet)]}")
    query = "'SELECT g %% 3 AS k FROM generate_series(1, 10) g'"
    assert run(db, name, "k int, n int", input_query=query, partition_by="'{k}'") == [(0, 3), (1, 4), (2, 3)]
    db.execute("ROLLBACK")
    with pytest.raises(errors.ScriptNotFound):
        run(db, name)


def test_a_role_runs_the_script_it_was_granted_and_no_other(db: Db, name: str, clerk: str) -> None:
    create(db, name, "OutputDataSet = {'u': [run.user]}")
    create(db, name + "-other", "OutputDataSet = {'u': [run.user]}")
    db.execute("SELECT dbml.grant_script(%s, %s)", (name, clerk))
    assert db.execute("SELECT granted_to FROM dbml.scripts WHERE name = %s", (name,)).fetchone() == ([clerk],)
    db.execute(f"SET ROLE {clerk}")  # type: ignore[arg-type]
    assert run(db, name, "u text") == [(clerk,)]
    with pytest.raises(errors.ScriptNotFound, match=f'"{name}-other" that role {clerk} may run'):
        run(db, name + "-other", "u text")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute("SELECT * FROM dbml.run_script('x = 1') AS t(u text)")
    for forged in (
        "dbml_channel.open_call('{\"kind\": \"script\", \"script\": \"x\"}')",
        "dbml_channel._find_script('x', 1, 'postgres')", "dbml_channel._authorize('{}')",
        "dbml_channel.run_call(dbml_channel.script_request('x=1', null, '{}', '{}', 'python', 'a', 'b', null, null, null, 1,"
        " null, null, null, null, null) || '{\"result\": \"json\"}')",
        f"dbml.grant_script('{name}', '{clerk}')", f"dbml.create_script('{name}', 'python', 'x')",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(f"SELECT {forged}")  # type: ignore[arg-type]
    db.execute("RESET ROLE")
    assert db.execute("SELECT dbml.revoke_script(%s, %s)", (name, clerk)).fetchone() == (True,)
    db.execute(f"SET ROLE {clerk}")  # type: ignore[arg-type]
    with pytest.raises(errors.ScriptNotFound):
        run(db, name, "u text")


def test_a_scripter_cannot_change_what_others_run(db: Db, name: str, clerk: str) -> None:
    create(db, name, "OutputDataSet = {'y': [1]}")
    db.execute(f"GRANT dbml_scripter TO {clerk}; SET ROLE {clerk}")  # type: ignore[arg-type]
    for call in (f"dbml.create_script('{name}', 'python', 'evil = 1')", f"dbml.delete_script('{name}')",
                 f"dbml.grant_script('{name}', '{clerk}')"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to role"):
            db.execute(f"SELECT {call}")  # type: ignore[arg-type]
    assert create(db, name + "-mine", "OutputDataSet = {'y': [2]}") == 1 and run(db, name + "-mine") == [(2,)]


def test_members_of_a_role_and_functions_that_wrap_a_script(db: Db, name: str, clerk: str) -> None:
    create(db, name, "OutputDataSet = {'y': [factor * 2]}")
    db.execute(f"CREATE ROLE {clerk}_group; GRANT {clerk}_group TO {clerk}")  # type: ignore[arg-type]
    try:
        db.execute("SELECT dbml.grant_script(%s, %s)", (name, clerk + "_group"))
        db.execute(f"SET ROLE {clerk}")  # type: ignore[arg-type]
        assert run(db, name, params="'{\"factor\": 4}'") == [(8,)]
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.revoke_script(%s, %s)", (name, clerk + "_group"))
    finally:
        db.execute("RESET ROLE")
        db.execute(f"DROP OWNED BY {clerk}_group; DROP ROLE {clerk}_group")  # type: ignore[arg-type]
    db.execute(
        f"""CREATE FUNCTION pg_temp.doubled(factor int) RETURNS bigint LANGUAGE sql
        BEGIN ATOMIC SELECT y FROM dbml.run_stored('{name}', params => jsonb_build_object('factor', factor)) AS t(y bigint); END"""  # type: ignore[arg-type]
    )
    assert db.execute("SELECT pg_temp.doubled(21)").fetchone() == (42,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("dbml.create_script('a:b', 'python', 'x')", "none of : @ /"), ("dbml.create_script(NULL, 'python', 'x')", "got NULL"),
        ("dbml.create_script('a', 'cobol', 'x')", "python or r"), ("dbml.create_script('a', 'python', ' ')", "must have text"),
        ("dbml.create_script('a', 'python', 'x', params => '[]')", "JSON objects"),
    ],
)  # fmt: skip
def test_bad_arguments(db: Db, call: str, message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message):
        db.execute(f"SELECT {call}")  # type: ignore[arg-type]


def test_what_is_not_there(db: Db, name: str) -> None:
    with pytest.raises(errors.ScriptNotFound):
        db.execute("SELECT dbml.grant_script(%s, 'postgres')", (name,))
    create(db, name, "x = 1")
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("SELECT dbml.grant_script(%s, 'no such role')", (name,))
    with pytest.raises(errors.ScriptNotFound):
        run(db, name + ":7")
    with pytest.raises(errors.InvalidArgument, match="version must be a number"):
        run(db, name + ":x")
