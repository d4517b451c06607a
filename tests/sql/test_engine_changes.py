"""Engines as things change: versions and their functions, rights, settings, certificates, a model upgraded under load."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
)

from dbml import errors

from .engine_models import FLOWERS, NAMES, certificate, fitted, functions, register


@pytest.fixture
def ridge(db: psycopg.Connection[Any]) -> Iterator[str]:
    name = register(db, Ridge().fit([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]], [0.0, 2.0, 4.0]))
    yield name
    db.execute("RESET ROLE")
    db.execute("SELECT dbml.delete_model(%s)", (name,))


def test_functions_come_and_go_with_the_version(db: psycopg.Connection[Any], ridge: str) -> None:
    there = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'dbml_models'::regnamespace AND proname = ANY (%s)"
    db.execute("BEGIN")
    name = register(db, Ridge().fit([[0.0], [1.0]], [0.0, 2.0]))
    made = functions(db, name)
    assert len(made) == 2 and db.execute(there, (made,)).fetchone() == (2,)
    assert db.execute("SELECT dbml.predict(%s, array[1.0]::float8[], 'sql')", (name,)).fetchone() is not None
    db.execute("ROLLBACK")
    assert db.execute(there, (made,)).fetchone() == (0,)
    db.execute("BEGIN")
    made = functions(db, ridge)
    db.execute("SELECT dbml.delete_model(%s)", (ridge,))
    assert db.execute(there, (made,)).fetchone() == (0,)
    db.execute("ROLLBACK")
    assert db.execute(there, (made,)).fetchone() == (2,)


def test_one_row_needs_no_worker_and_no_write(installed: str, db: psycopg.Connection[Any], ridge: str) -> None:
    db.execute("BEGIN READ ONLY")
    assert db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'sql')", (ridge,)).fetchone() is not None
    db.execute("ROLLBACK")
    with psycopg.connect(installed, autocommit=True) as without:  # no worker has registered
        name = register(without, Ridge().fit([[0.0], [1.0]], [0.0, 2.0]))
        assert certificate(without, name)[:2] == ("refused", "no worker has registered with this database yet")


def test_a_function_is_for_those_who_may_predict_with_its_model(db: psycopg.Connection[Any], ridge: str) -> None:
    role = "scorer_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role} NOLOGIN")  # type: ignore[arg-type]
    call = f"SELECT dbml_models.{functions(db, ridge)[0]}(array[1, 2]::float8[])"
    query = "SELECT p FROM dbml.predict(%s, 'SELECT 1::float8 AS a, 2::float8 AS b', 'sql') AS t(a float8, b float8, p float8)"
    try:
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        for statement in (call, f"SELECT dbml.predict('{ridge}', array[1, 2]::float8[])"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)  # type: ignore[arg-type]
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.grant_model(%s, %s, 'predict')", (ridge, role))
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        assert db.execute(call).fetchone() == db.execute(query, (ridge,)).fetchone()  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT dbml.export_sql(%s)", (ridge,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT dbml.compile_model(%s)", (ridge,))
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.revoke_model(%s, %s)", (ridge, role))
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        for statement in (call, f"SELECT dbml.predict('{ridge}', array[1, 2]::float8[])"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, errors.ModelNotFound, errors.WorkspaceNotFound)):
                db.execute(statement)  # type: ignore[arg-type]
    finally:
        db.execute("RESET ROLE")
        db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def test_the_public_has_nothing_of_models(db: psycopg.Connection[Any], ridge: str) -> None:
    assert db.execute(
        "SELECT count(*) FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a"
        " WHERE pronamespace = 'dbml_models'::regnamespace AND a.grantee = 0"
    ).fetchone() == (0,)


def test_argument_and_setting_choose_the_engine(db: psycopg.Connection[Any], ridge: str) -> None:
    explain = "SELECT engine FROM dbml.explain_predict(%s) WHERE used_for = '{rows,queries}'"
    assert db.execute(explain, (ridge,)).fetchone() == ("sql",)
    db.execute("SELECT dbml.set_model_engine(%s, 'python')", (ridge,))
    assert db.execute(explain, (ridge,)).fetchone() == ("python",)
    db.execute("SELECT dbml.set_model_engine(%s, NULL)", (ridge,))
    assert db.execute(explain, (ridge,)).fetchone() == ("sql",)
    for statement in ("SELECT dbml.predict(%s, array[1, 2]::float8[], 'fast')", "SELECT dbml.set_model_engine(%s, 'fast')"):
        with pytest.raises(errors.InvalidArgument, match="engine must be"):
            db.execute(statement, (ridge,))
    with pytest.raises(errors.NotCompiled, match="never converted"):
        db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'onnx')", (ridge,))
    with pytest.raises(errors.NotCompiled, match="never converted"):
        db.execute("SELECT dbml.set_model_engine(%s, 'onnx')", (ridge,))


def test_a_certificate_of_another_version_counts_for_nothing(db: psycopg.Connection[Any], ridge: str) -> None:
    explain = "SELECT why FROM dbml.explain_predict(%s) WHERE engine = 'sql'"
    own = "FROM dbml._models m WHERE m.model_id = c.model_id AND m.name = %s"
    db.execute("BEGIN")
    db.execute(f"UPDATE dbml._certificates c SET server_version = 140000 {own}", (ridge,))  # type: ignore[arg-type]
    assert "certified on server version 140000" in db.execute(explain, (ridge,)).fetchone()[0]  # type: ignore[index]
    db.execute("ROLLBACK")
    db.execute("BEGIN")
    db.execute("""UPDATE dbml._worker SET packages = '{"scikit-learn": "0.1"}'""")
    assert "the worker now has" in db.execute(explain, (ridge,)).fetchone()[0]  # type: ignore[index]
    with pytest.raises(errors.NotCompiled):
        db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'sql')", (ridge,))
    db.execute("ROLLBACK")


@pytest.mark.parametrize("engine", ["sql", "python", "onnx"])
def test_no_statement_mixes_versions(db: psycopg.Connection[Any], connect: Any, engine: str) -> None:
    """The alias moves while the statement is at its middle row, held there by a lock; the next one has the new version."""
    name, key = "upgraded-" + uuid.uuid4().hex, uuid.uuid4().int % 2**31
    frame = pd.DataFrame({"a": [0.0, 1.0]})
    calls = (
        f"SELECT array_agg(dbml.predict('{name}@live', array[a]::float8[], '{engine}')) FROM ({{}}) q",
        f"SELECT array_agg((r ->> 'prediction')::float8) FROM dbml.predict_json('{name}@live', $${{}}$$, '{engine}') r",
        f"SELECT array_agg(p) FROM dbml.predict('{name}@live', $${{}}$$, '{engine}') AS t(a float8, free boolean, p float8)",
    )
    query = f"SELECT g::float8 AS a, CASE WHEN g = 700 THEN pg_advisory_lock_shared({key}) IS NULL END AS free FROM generate_series(1, 1400) g"
    try:
        for version in (1, 2):
            db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(LinearRegression().fit(frame, [version] * 2))))
            if engine == "onnx":
                db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (f"{name}:{version}",))
        for call in calls:
            db.execute("SELECT dbml.set_model_alias(%s, 'live'), pg_advisory_lock(%s)", (name + ":1", key))
            found: list[Any] = []

            def ask(found: list[Any] = found, call: str = call) -> None:
                with connect() as other:
                    found.append(other.execute(call.format(query)).fetchone()[0])

            thread = threading.Thread(target=ask)
            thread.start()
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = %s"
            while thread.is_alive() and db.execute(waits, (key,)).fetchone() == (0,):
                time.sleep(0.01)
            assert thread.is_alive()
            db.execute("SELECT dbml.set_model_alias(%s, 'live'), pg_advisory_unlock(%s)", (name + ":2", key))
            thread.join()
            assert [round(value) for value in found[0]] == [1] * 1400
            (after,) = db.execute(f"SELECT dbml.predict('{name}@live', array[5]::float8[], '{engine}')").fetchone()  # type: ignore[arg-type,misc]
            assert round(after) == 2
    finally:
        db.execute("SELECT pg_advisory_unlock_all(), dbml.delete_model(%s), dbml.delete_model(%s)", (name + ":1", name + ":2"))


def test_an_exported_model_answers_without_dbml(db: psycopg.Connection[Any], empty: str) -> None:
    model = fitted(LogisticRegression(max_iter=300), FLOWERS, NAMES)
    name = register(db, model)
    (text,) = db.execute("SELECT dbml.export_sql(%s, 'Which flower')", (name,)).fetchone()  # type: ignore[misc]
    with psycopg.connect(empty) as plain:
        plain.execute(text)
        assert plain.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbml%'").fetchone() == (0,)
        for row in FLOWERS[::30]:
            found = plain.execute('SELECT "Which flower"(%s, %s, %s, %s)', row.tolist()).fetchone()
            assert found == (model.predict([row])[0],)
            (proba,) = plain.execute('SELECT "Which flower_proba_of_array"(%s::float8[])', (row.tolist(),)).fetchone()  # type: ignore[misc]
            np.testing.assert_allclose(proba, model.predict_proba([row])[0], rtol=1e-9)
