"""Lineage: from data to run to model, and back."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]


@pytest.fixture
def made(db: Db) -> Any:
    """A table, a view on it, and a model of each of two runs, the second of which loads the first's."""
    mark = "l" + uuid.uuid4().hex[:12]
    db.execute(f'CREATE TABLE "{mark} ä" AS SELECT g AS x FROM generate_series(1, 3) g')
    db.execute(f'CREATE VIEW {mark}_v AS SELECT * FROM "{mark} ä"')
    for script, query in (
        (f"run.register_bytes('{mark}', b'1', format='pickle')", f"SELECT x FROM {mark}_v"),
        (f"run.load_bytes('{mark}:1')\nrun.register_bytes('{mark}-b', b'2', format='pickle')", "SELECT 1 AS x"),
    ):
        db.execute("SELECT dbml.run_script_json(%s, input_query => %s)", (script, query))
    yield mark
    db.execute(f'DROP VIEW {mark}_v; DROP TABLE "{mark} ä"')


def lineage(db: Db, name: str) -> list[tuple[str, ...]]:
    found = db.execute('SELECT direction, from_kind, "from", relation, to_kind, "to" FROM dbml.lineage(%s)', (name,)).fetchall()
    return [
        tuple("…" if kind == "run" else text for kind, text in zip(("", "", row[1], "", "", row[4]), row, strict=True))
        for row in found
    ]


def test_both_ways(db: Db, made: str) -> None:
    table = f'public."{made} ä"'
    up = lineage(db, f"{made}-b")
    assert up[0] == ("upstream", "run", "…", "registered", "model", f"{made}-b:1")
    assert ("upstream", "model", f"{made}:1", "loaded by", "run", "…") in up
    assert ("upstream", "table", table, "read by", "run", "…") in up
    assert {row[0] for row in up} == {"upstream"} and sum(row[3] == "run as" for row in up) == 2
    for name in (table, f"table:{table}"):
        down = lineage(db, name)
        assert [row[5] for row in down if row[4] == "model"] == [f"{made}:1", f"{made}-b:1"]
        assert {row[0] for row in down} == {"downstream"}
    middle = lineage(db, f"model:{made}:1")
    assert ("upstream", "table", table, "read by", "run", "…") in middle
    assert ("downstream", "run", "…", "registered", "model", f"{made}-b:1") in middle
    run_id = db.execute("SELECT run_id FROM dbml.models WHERE name = %s", (made,)).fetchone()
    assert run_id is not None and ("downstream", "run", "…", "registered", "model", f"{made}:1") in lineage(db, str(run_id[0]))


def test_a_dropped_table_is_found_by_its_recorded_name(db: Db) -> None:
    mark = "l" + uuid.uuid4().hex[:12]
    db.execute(f"CREATE TEMP TABLE {mark} (x int)")
    db.execute("SELECT dbml.run_script_json('pass', input_query => %s)", (f"SELECT x FROM {mark}",))
    row = db.execute(
        "SELECT inputs -> 0 -> 'relations' ->> 0 FROM dbml.runs WHERE inputs::text LIKE %s", (f"%{mark}%",)
    ).fetchone()
    assert row is not None and row[0].endswith(f".{mark}")
    db.execute(f"DROP TABLE {mark}")
    assert [each[3] for each in lineage(db, row[0])] == ["read by"]


def test_of_nothing(db: Db) -> None:
    for name in ("nothing here", "model:no", "table:no.no", str(uuid.uuid4()), '"', ""):
        with pytest.raises(errors.NothingFound):
            lineage(db, name)
    with pytest.raises(errors.NothingFound, match="NULL"):
        db.execute("SELECT dbml.lineage(NULL)")
    with pytest.raises(errors.WorkspaceNotFound):
        db.execute("SELECT dbml.lineage('x', 'nowhere')")
