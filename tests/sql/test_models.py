"""Models: versions, aliases, bytes, and what a transaction does to them."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors


@pytest.fixture
def name() -> str:
    return "m-" + uuid.uuid4().hex


def test_versions_count_from_one_and_aliases_move(db: psycopg.Connection[Any], name: str) -> None:
    for content in (b"a", b"b"):
        db.execute("SELECT dbml.register_model(%s, %s, alias => 'champion')", (name, content))
    assert db.execute("SELECT version, aliases FROM dbml.models WHERE name = %s ORDER BY 1", (name,)).fetchall() == [
        (1, []), (2, ["champion"]),
    ]  # fmt: skip
    db.execute("SELECT dbml.set_model_alias(%s, 'champion')", (f"{name}:1",))
    assert db.execute("SELECT dbml.model_bytes(%s)", (f"{name}@champion",)).fetchone() == (b"a",)
    assert db.execute("SELECT dbml.model_bytes(%s)", (name,)).fetchone() == (b"b",)


def test_large_bytes_come_back_and_are_kept_once(db: psycopg.Connection[Any], name: str) -> None:
    content = bytes(range(256)) * 12_000
    for _ in range(2):
        db.execute("SELECT dbml.register_model(%s, %s)", (name, content))
    assert db.execute("SELECT dbml.model_bytes(%s)", (name,)).fetchone() == (content,)
    digest = hashlib.sha256(content).hexdigest()
    assert db.execute("SELECT DISTINCT digest, size_bytes FROM dbml.models WHERE name = %s", (name,)).fetchall() == [
        (digest, len(content))
    ]
    db.execute("SELECT dbml.delete_model(%s)", (name,))
    assert db.execute("SELECT dbml.model_bytes(%s)", (name,)).fetchone() == (content,)
    db.execute("SELECT dbml.delete_model(%s)", (name,))
    assert db.execute("SELECT count(*) FROM dbml._blobs WHERE digest = decode(%s, 'hex')", (digest,)).fetchone() == (0,)


def test_altered_bytes_are_noticed(db: psycopg.Connection[Any], name: str) -> None:
    db.execute("BEGIN")
    content = uuid.uuid4().bytes
    db.execute("SELECT dbml.register_model(%s, %s)", (name, content))
    db.execute("UPDATE dbml._chunks SET data = '\\x00' WHERE digest = sha256(%s)", (content,))
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        db.execute("SELECT dbml.model_bytes(%s)", (name,))
    db.execute("ROLLBACK")


@pytest.mark.parametrize("bad", ["", " x", "a:b", "a@b", "a/b", "x" * 256, "tab\there", None])
def test_names_are_plain(db: psycopg.Connection[Any], bad: str | None) -> None:
    with pytest.raises(errors.InvalidArgument, match="a model's name"):
        db.execute("SELECT dbml.register_model(%s, '\\x00')", (bad,))


@pytest.mark.parametrize("content", [b"", None])
def test_a_model_has_bytes(db: psycopg.Connection[Any], content: bytes | None) -> None:
    with pytest.raises(errors.InvalidArgument, match="must have bytes"):
        db.execute("SELECT dbml.register_model('x', %s::bytea)", (content,))


@pytest.mark.parametrize("reference", ["nope", "nope:3", "nope@champion"])
def test_a_model_that_is_not_there(db: psycopg.Connection[Any], reference: str) -> None:
    with pytest.raises(errors.ModelNotFound, match=reference):
        db.execute("SELECT dbml.predict(%s, array[1.0]::float8[])", (reference,))


def test_bytes_that_do_not_load(db: psycopg.Connection[Any], name: str) -> None:
    db.execute("SELECT dbml.register_model(%s, 'no pickle'::bytea)", (name,))
    with pytest.raises(errors.ModelLoadError):
        db.execute("SELECT dbml.predict(%s, array[1.0]::float8[])", (name,))


def test_workspaces_keep_models_apart(db: psycopg.Connection[Any], name: str) -> None:
    workspace = "w-" + uuid.uuid4().hex
    db.execute("SELECT dbml.create_workspace(%s, resource_group => 'g', location => 'here')", (workspace,))
    with pytest.raises(errors.InvalidArgument, match="exists"):
        db.execute("SELECT dbml.create_workspace(%s)", (workspace,))
    db.execute("SELECT dbml.register_model(%s, 'x'::bytea, workspace => %s)", (name, workspace))
    with pytest.raises(errors.ModelNotFound):
        db.execute("SELECT dbml.model_bytes(%s)", (name,))
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (workspace,))
    assert db.execute("SELECT dbml.model_bytes(%s)", (name,)).fetchone() == (b"x",)


def test_registered_in_a_script_loaded_in_another(db: psycopg.Connection[Any], name: str) -> None:
    version = db.execute(
        "SELECT * FROM dbml.run_script(%s, input_query => 'SELECT g::float8 AS x, 2.0 * g AS y FROM generate_series(1, 9) g')"
        " AS t(v int)",
        (
            "from sklearn.linear_model import Ridge\n"
            f"OutputDataSet = {{'v': [run.register_model('{name}', Ridge(alpha=0).fit(InputDataSet[['x']], InputDataSet.y.astype(float)),"
            " tags={'a': 'b'}, description='a line', alias='best')]}",
        ),
    ).fetchone()
    assert version == (1,)
    row = db.execute(
        "SELECT framework, signature, tags, description, aliases, run_id IS NOT NULL FROM dbml.models WHERE name = %s", (name,)
    ).fetchone()
    assert row is not None
    assert (row[0].lower().replace("-", ""), row[2:]) == ("scikitlearn", ({"a": "b"}, "a line", ["best"], True))
    assert [feature["name"] for feature in row[1]["features"]] == ["x"]
    loaded = db.execute(
        "SELECT * FROM dbml.run_script(%s) AS t(y float8)",
        (f"import pandas\nOutputDataSet = {{'y': run.load_model('{name}@best').predict(pandas.DataFrame({{'x': [5.0]}}))}}",),
    ).fetchone()
    assert loaded is not None and round(loaded[0], 6) == 10
    with pytest.raises(errors.ModelNotFound, match="not-there"):
        db.execute("SELECT * FROM dbml.run_script('run.load_model(''not-there'')') AS t(a int)")


def test_registering_in_a_read_only_transaction_is_refused_by_postgresql(db: psycopg.Connection[Any], name: str) -> None:
    db.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        db.execute("SELECT * FROM dbml.run_script(%s) AS t(a int)", (f"run.register_model('{name}', {{'any': 'object'}})",))
    db.execute("ROLLBACK")
    assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]') AS t(a int)").fetchall() == [(1,)]
