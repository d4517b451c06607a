"""Results beside OutputDataSet: outputs by name, plots, and whatever kind of table a script makes."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]
PNG = b"\x89PNG\r\n\x1a\n"


def run(db: Db, script: str, arguments: str = "", listed: str = "x int") -> uuid.UUID:
    mark = uuid.uuid4().hex
    db.execute(f"SELECT * FROM dbml.run_script(%s{arguments}) AS t({listed})", (f"# {mark}\n{script}",))  # type: ignore[arg-type]
    (run_id,) = db.execute("SELECT run_id FROM dbml.runs WHERE script LIKE %s", (f"# {mark}%",)).fetchone()  # type: ignore[misc]
    assert isinstance(run_id, uuid.UUID)
    return run_id


def test_outputs_are_kept_with_their_types_and_read_as_rows(db: Db) -> None:
    script = """
import pandas, datetime
run.outputs["few"] = pandas.DataFrame({"x": [1, 2], "t": ["a", None], "d": [datetime.date(2026, 1, 2), None]})
run.outputs["many"] = {"n": range(100_000)}
run.output("again", [{"x": 1}])
run.outputs["none"] = pandas.DataFrame({"x": []})
OutputDataSet = {"x": [7]}
"""
    run_id = run(db, script)
    few = db.execute("SELECT * FROM dbml.run_output(%s, 'few') AS t(x int, t text, d date)", (run_id,)).fetchall()
    assert [row[:2] for row in few] == [(1, "a"), (2, None)] and str(few[0][2]) == "2026-01-02"
    total = db.execute("SELECT count(*), sum(n) FROM dbml.run_output(%s, 'many') AS t(n bigint)", (run_id,)).fetchone()
    assert total == (100_000, sum(range(100_000)))
    seen = db.execute("SELECT name, columns, rows FROM dbml.outputs WHERE run_id = %s ORDER BY 1", (run_id,)).fetchall()
    assert seen == [
        ("again", [{"name": "x", "type": "bigint"}], 1),
        ("few", [{"name": "x", "type": "bigint"}, {"name": "t", "type": "text"}, {"name": "d", "type": "date"}], 2),
        ("many", [{"name": "n", "type": "bigint"}], 100_000),
    ]
    with pytest.raises(errors.ColumnListMismatch, match="3 columns, the column list has 1") as caught:
        db.execute("SELECT * FROM dbml.run_output(%s, 'few') AS t(x int)", (run_id,))
    assert caught.value.diag.message_hint == "AS t(x bigint, t text, d date)"
    with pytest.raises(errors.RunNotFound, match='no output "nope"'):
        db.execute("SELECT * FROM dbml.run_output(%s, 'nope') AS t(x int)", (run_id,))


def test_outputs_of_groups_come_together_and_survive_a_rollback(db: Db) -> None:
    db.execute("BEGIN")
    mark = uuid.uuid4().hex
    db.execute(
        "SELECT * FROM dbml.run_script(%s, 'SELECT g AS k FROM generate_series(1, 3) g', partition_by => '{k}') AS t(k int)",
        (f"# {mark}\nrun.outputs['residuals'] = [{{'r': k * 0.5}}]",),
    )
    db.execute("ROLLBACK")
    rows = db.execute(
        "SELECT t.* FROM dbml.runs r, dbml.run_output(r.run_id, 'residuals') AS t(k int, r float8) WHERE r.script LIKE %s",
        (f"# {mark}%",),
    ).fetchall()
    assert rows == [(1, 0.5), (2, 1.0), (3, 1.5)]


def test_a_plot_comes_back_at_once_and_every_figure_is_kept(db: Db) -> None:
    (png,) = db.execute(
        'SELECT dbml.run_plot(\'InputDataSet.plot(x="x", y="y", title="größe")\', \'SELECT g AS x, g*g AS y FROM generate_series(1, 9) g\')'
    ).fetchone()  # type: ignore[misc]
    assert png.startswith(PNG) and len(png) > 5000
    script = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure('second')\nplt.plot([2, 1])"
    run_id = run(db, script)
    kept = db.execute(
        "SELECT name, dbml.artifact_bytes(run_id, name) FROM dbml.artifacts WHERE run_id = %s ORDER BY 1", (run_id,)
    )
    pictures = dict(kept.fetchall())
    assert set(pictures) == {"figure 1", "second"} and all(png.startswith(PNG) for png in pictures.values())
    run_id = run(db, "import matplotlib.pyplot as plt\nplt.plot([1])\nrun.log_image('mine', plot=plt)")
    assert db.execute("SELECT array_agg(name) FROM dbml.artifacts WHERE run_id = %s", (run_id,)).fetchone() == (["mine"],)
    with pytest.raises(errors.InvalidArgument, match="left no figure open"):
        db.execute("SELECT dbml.run_plot('x = 1')")


@pytest.mark.parametrize(
    "made",
    [
        "import polars; OutputDataSet = polars.DataFrame({'a': [1, None], 'b': ['x', 'y']})",
        "import polars; OutputDataSet = polars.DataFrame({'a': [1, None], 'b': ['x', 'y']}).lazy().collect()",
        "import pyarrow; OutputDataSet = pyarrow.table({'a': [1, None], 'b': ['x', 'y']})",
        "import numpy; OutputDataSet = numpy.array([(1, 'x'), (2, 'y')], dtype=[('a', 'i8'), ('b', 'U1')])",
        "OutputDataSet = [{'a': 1, 'b': 'x'}, {'a': None, 'b': 'y'}]",
        "OutputDataSet = {'a': [1, None], 'b': ['x', 'y']}",
        "import pandas; OutputDataSet = pandas.DataFrame({'a': [1, None], 'b': ['x', 'y']}, dtype=object)",
    ],
)
def test_any_table_is_a_result(db: Db, made: str) -> None:
    rows = db.execute("SELECT * FROM dbml.run_script(%s) AS t(a int, b text)", (made,)).fetchall()
    assert rows == [(1, "x"), (2 if "numpy" in made else None, "y")]


def test_series_and_arrays_are_results(db: Db) -> None:
    for made in ("import pandas; OutputDataSet = pandas.Series([1.5, 2.5])", "import numpy; OutputDataSet = numpy.array([1.5, 2.5])",
                 "import polars; OutputDataSet = polars.Series([1.5, 2.5])", "OutputDataSet = [1.5, 2.5]"):  # fmt: skip
        assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(a float8)", (made,)).fetchall() == [(1.5,), (2.5,)]


def test_parameters_return_numpy_scalars_and_bytes_in_base64(db: Db) -> None:
    (params,) = db.execute(
        "CALL dbml.execute_script('import numpy; n = numpy.int32(3); f = numpy.float32(0.5); b = bytes([0, 255])',"
        ' params => \'{"n": null, "f": null, "b": null}\')'
    ).fetchone()  # type: ignore[misc]
    assert params == {"n": 3, "f": 0.5, "b": "AP8="}
    assert db.execute("SELECT decode(%s, 'base64')", (params["b"],)).fetchone() == (b"\x00\xff",)
    (params,) = db.execute(
        "CALL dbml.execute_script('import datetime, uuid; d = datetime.date(2026, 1, 2); u = uuid.UUID(int=7)',"
        ' params => \'{"d": null, "u": null}\')'
    ).fetchone()  # type: ignore[misc]
    assert params == {"d": "2026-01-02", "u": "00000000-0000-0000-0000-000000000007"}
    with pytest.raises(errors.UnsupportedType, match='"o" holds what JSON cannot carry, got object'):
        db.execute("CALL dbml.execute_script('o = object()', params => '{\"o\": null}')")


def test_threads_that_print_and_log_do_not_disturb_a_file_or_a_model_on_its_way(db: Db) -> None:
    """What other threads say while parts travel comes after them, and none of it is lost."""
    script = """
import io, threading
over = threading.Event()
said = []

def talk():
    while not over.is_set() and len(said) < 20000:
        said.append(1)
        print('talk')
        run.log('talk', len(said))

threads = [threading.Thread(target=talk) for _ in range(2)]
for thread in threads:
    thread.start()
content = bytes(range(256)) * 20000
for number in range(4):
    run.upload_file(f'file{number}', io.BytesIO(content))
version = run.register_model('talked', {'content': content})
loaded = run.load_model('talked')
over.set()
for thread in threads:
    thread.join()
OutputDataSet = [{'x': len(said), 'equal': loaded['content'] == content}]"""
    try:
        (logged, equal) = db.execute(  # type: ignore[misc]
            "SELECT * FROM dbml.run_script(%s) AS t(x int, equal bool)", (script,)
        ).fetchone()
        (run_id, values) = db.execute(  # type: ignore[misc]
            "SELECT run_id, (SELECT count(*) FROM dbml.metrics m WHERE m.run_id = r.run_id) FROM dbml.runs r"
            " ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
        assert equal and values == logged > 0
        kept = db.execute("SELECT count(*), count(DISTINCT digest) FROM dbml.artifacts WHERE run_id = %s", (run_id,)).fetchone()
        assert kept == (4, 1)
    finally:
        db.execute("DELETE FROM dbml._models WHERE name = 'talked'")
