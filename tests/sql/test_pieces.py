"""run_script in pieces: groups, reads and shares, one satellite or several, and rows in their order."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]


def rows(db: Db, script: str, listed: str, **arguments: str) -> list[tuple[Any, ...]]:
    given = "".join(f", {name} => {value}" for name, value in arguments.items())
    return db.execute(f"SELECT * FROM dbml.run_script($${script}$${given}) AS t({listed})").fetchall()


# Which process it is: within a sandbox every first process has the same pid.
PROCESS = "import sys, uuid\nprocess = sys.__dict__.setdefault('process', uuid.uuid4().hex)"
SUMS = "OutputDataSet = [{'n': len(InputDataSet), 'total': int(InputDataSet.x.sum())}]"


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_script_runs_once_a_group_with_its_key(db: Db, parallel: int) -> None:
    got = rows(db, "assert (InputDataSet.k == k).all() and list(InputDataSet.x) == sorted(InputDataSet.x, reverse=True)\n" + SUMS,
               "k int, n bigint, total bigint", input_query="'SELECT g % 7 AS k, g AS x FROM generate_series(1, 20000) g'",
               partition_by="'{k}'", order_by="'{x desc}'", parallel=str(parallel))  # fmt: skip
    assert got == [(k, len(range(k or 7, 20001, 7)), sum(range(k or 7, 20001, 7))) for k in range(7)]


def test_keys_of_several_columns_null_among_them_and_odd_names(db: Db) -> None:
    query = """$q$SELECT * FROM (VALUES (NULL, 'a', 1), (NULL, 'a', 2), ('x', NULL, 3), ('x', 'a', 4)) v("a key", größe, x)$q$"""
    got = rows(db, "OutputDataSet = {'what': [repr((größe, len(InputDataSet)))]}", "a text, b text, what text",
               input_query=query, partition_by="'{a key,größe}'")  # fmt: skip
    assert got == [("x", "a", "('a', 1)"), ("x", None, "(None, 1)"), (None, "a", "('a', 2)")]


def test_what_the_script_returns_of_the_key_stays_where_it_is(db: Db) -> None:
    got = rows(db, "OutputDataSet = InputDataSet", "x int, k int", input_query="'SELECT 1 AS x, 2 AS k'", partition_by="'{k}'")
    assert got == [(1, 2)]


def test_a_group_has_the_dtypes_of_its_own_rows(db: Db) -> None:
    query = "'SELECT k, CASE WHEN k = 1 THEN NULL ELSE k END AS i, CASE WHEN k = 2 THEN ''NaN''::float8 END AS f FROM generate_series(1, 3) k'"
    got = rows(db, "OutputDataSet = {'i': [str(InputDataSet.i.dtype)], 'f': [str(InputDataSet.f.dtype)]}", "k int, i text, f text",
               input_query=query, partition_by="'{k}'")  # fmt: skip
    assert got == [(1, "Int64", "float64"), (2, "int64", "Float64"), (3, "int64", "float64")]


def test_a_group_that_fails_names_itself(db: Db) -> None:
    with pytest.raises(errors.ScriptError) as caught:
        rows(db, "OutputDataSet = [{'y': 1 / (k - 3)}]", "k int, y float8",
             input_query="'SELECT g AS k FROM generate_series(1, 5) g'", partition_by="'{k}'")  # fmt: skip
    assert str(caught.value).startswith("group k = 3: division by zero")
    assert '"group": {"k": 3}' in (caught.value.diag.message_detail or "")
    assert "script line 1" in (caught.value.diag.context or "")


def test_two_thousand_groups_share_their_satellites(db: Db) -> None:
    script = f"{PROCESS}\nOutputDataSet = [{{'process': process, 'n': len(InputDataSet)}}]"
    query = "'SELECT g / 100 AS k, g AS x FROM generate_series(0, 199999) g'"
    got = db.execute(
        f"SELECT count(*), count(DISTINCT process), sum(n), count(DISTINCT k) FROM dbml.run_script($${script}$$, input_query => {query},"
        " partition_by => '{k}', parallel => 2) AS t(k int, process text, n bigint)"
    ).fetchone()
    assert got == (2_000, 2, 200_000, 2_000)


def test_no_rows_are_no_group_and_one_read(db: Db) -> None:
    nothing = "'SELECT 1 AS x WHERE false'"
    assert rows(db, SUMS, "n bigint, total bigint", input_query=nothing, partition_by="'{x}'") == []
    for argument in ({"rows_per_read": "10"}, {"parallel": "2"}):
        assert rows(db, SUMS, "n bigint, total bigint", input_query=nothing, **argument) == [(0, 0)]


def test_reads_keep_a_state_and_know_the_first_and_the_last(db: Db) -> None:
    script = """
state["total"] = state.get("total", 0) + int(InputDataSet.x.sum())
OutputDataSet = [{"n": len(InputDataSet), "total": state["total"], "first": first_chunk, "last": last_chunk}]
"""
    got = rows(db, script, "n int, total bigint, first bool, last bool",
               input_query="'SELECT g AS x FROM generate_series(1, 10500) g'", rows_per_read="1000")  # fmt: skip
    assert [row[0] for row in got] == [1000] * 10 + [500]
    assert got[0] == (1000, 500500, True, False) and got[-1] == (500, sum(range(10501)), False, True)
    assert [row[2:] for row in got[1:-1]] == [(False, False)] * 9


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 2000])
def test_the_last_read_is_the_last_whatever_its_size(db: Db, n: int) -> None:
    got = rows(db, "OutputDataSet = [{'n': len(InputDataSet), 'last': last_chunk}]", "n int, last bool",
               input_query=f"'SELECT generate_series(1, {n}) AS x'", rows_per_read="1000")  # fmt: skip
    assert [row[1] for row in got] == [False] * (len(got) - 1) + [True] and sum(row[0] for row in got) == n


def test_a_model_learns_read_by_read(db: Db) -> None:
    script = """
from sklearn.linear_model import SGDRegressor
model = state.setdefault("model", SGDRegressor(random_state=0))
model.partial_fit(InputDataSet[["x"]], InputDataSet.y)
if last_chunk:
    OutputDataSet = [{"slope": float(model.coef_[0]), "t": float(model.t_)}]
"""
    query = "'SELECT sin(g) AS x, 3 * sin(g) + 1 AS y FROM generate_series(1, 20000) g'"
    ((slope, t),) = rows(db, script, "slope float8, t float8", input_query=query, rows_per_read="500")
    assert abs(slope - 3) < 0.1 and t == 20_001


@pytest.mark.parametrize(
    "how", ["parallel => 3", "parallel => 2, rows_per_read => 700", "rows_per_read => 5000", "parallel => 64"]
)
def test_whatever_the_pieces_the_rows_keep_their_order(db: Db, how: str) -> None:
    (same,) = db.execute(
        "SELECT array_agg(x) = array(SELECT generate_series(1, 30000)) AND max(length(t)) = 50 FROM"
        " dbml.run_script('OutputDataSet = InputDataSet', input_query =>"
        f" $q$SELECT g AS x, repeat('t', 50) AS t FROM generate_series(1, 30000) g$q$, {how}) AS t(x int, t text)"
    ).fetchone()  # type: ignore[misc]
    assert same


def test_shares_run_in_processes_of_their_own(db: Db) -> None:
    script = f"{PROCESS}\nOutputDataSet = [{{'process': process, 'n': len(InputDataSet), 'others': len(other)}}]"
    got = db.execute(
        f'SELECT * FROM dbml.run_script($${script}$$, inputs => $q${{"InputDataSet": "SELECT generate_series(1, 10) x",'
        ' "other": "SELECT generate_series(1, 5) y"}$q$, parallel => 3) AS t(process text, n int, others int)'
    ).fetchall()
    assert len({row[0] for row in got}) == 3 and [row[1:] for row in got] == [(4, 5), (3, 5), (3, 5)]


def test_order_alone(db: Db) -> None:
    query = "'SELECT * FROM (VALUES (2, ''b''), (1, ''b''), (3, ''a''), (NULL, ''a'')) v(x, \"t desc\")'"
    got = rows(db, "OutputDataSet = InputDataSet", "x int, t text", input_query=query, order_by="'{t desc,x desc nulls last}'")
    assert got == [(3, "a"), (None, "a"), (2, "b"), (1, "b")]


def test_results_json_and_parameters_of_pieces(db: Db) -> None:
    query = "'SELECT g AS x FROM generate_series(1, 5) g'"
    got = db.execute(
        f"SELECT r FROM dbml.run_script_json('OutputDataSet = {{\"n\": [len(InputDataSet)]}}', {query}, partition_by => '{{x}}') r"
    ).fetchall()
    assert [row[0] for row in got] == [{"x": x, "n": 1} for x in range(1, 6)]
    (params,) = db.execute(
        f'CALL dbml.execute_script(\'total = state["n"] = state.get("n", 0) + len(InputDataSet)\', {query},'
        " rows_per_read => 2, params => '{\"total\": null}')"
    ).fetchone()  # type: ignore[misc]
    assert params == {"total": 5}


def test_models_of_groups_are_registered_while_they_run(db: Db) -> None:
    script = """
from sklearn.linear_model import LinearRegression
version = run.register_model(f"line-{k}", LinearRegression().fit(InputDataSet[["x"]], InputDataSet.y))
OutputDataSet = [{"version": version}]
"""
    db.execute("BEGIN")
    got = rows(db, script, "k int, version int", partition_by="'{k}'", parallel="2",
               input_query="'SELECT k, x, k * x AS y FROM generate_series(1, 40) k, generate_series(1, 5) x'")  # fmt: skip
    assert got == [(k, 1) for k in range(1, 41)]
    assert db.execute("SELECT round(dbml.predict('line-7', '{2}'::float8[])::numeric, 6)").fetchone() == (14,)
    db.execute("ROLLBACK")


def test_prints_of_pieces_come_and_a_group_that_exits_ends_the_call(db: Db) -> None:
    said: list[str] = []
    db.add_notice_handler(lambda diag: said.append(diag.message_primary or ""))
    query = "'SELECT generate_series(1, 3) AS k'"
    rows(db, "print('group', k)", "k int", input_query=query, partition_by="'{k}'")
    assert said == ["group 1", "group 2", "group 3"]
    with pytest.raises(errors.ScriptExit, match="group k = 1"):
        rows(db, "import sys; sys.exit(3)", "k int", input_query=query, partition_by="'{k}'")
    with pytest.raises(errors.ScriptCrashed, match=r"group k = 2: the script's process was killed by signal 11 .SIGSEGV"):
        rows(db, "import ctypes; k == 2 and ctypes.string_at(0)", "k int", input_query=query, partition_by="'{k}'", parallel="2")
    assert rows(db, "OutputDataSet = [{'k': 1}]", "k int") == [(1,)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("partition_by => '{nope}'", 'partition_by names the column "nope"'),
        ("order_by => '{nope desc}'", 'order_by names the column "nope"'),
        ("partition_by => '{}'", "partition_by must name columns"),
        ("rows_per_read => 0", "rows_per_read must be 1 or more"),
        ("parallel => 0", "parallel must be 1 to 64"),
        ("parallel => NULL", "parallel must be 1 to 64"),
        ("partition_by => '{x}', rows_per_read => 5", "exclude each other"),
        ("partition_by => '{x}', params => '{\"x\": 1}'", "partition_by sets"),
        ("rows_per_read => 5, params => '{\"state\": 1}'", "rows_per_read sets"),
    ],
)
def test_bad_arguments(db: Db, arguments: str, message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message):
        db.execute(f"SELECT * FROM dbml.run_script('', 'SELECT 1 AS x', {arguments}) AS t(x int)")


def test_pieces_need_an_input(db: Db) -> None:
    with pytest.raises(errors.InvalidArgument, match='partition_by needs the input "InputDataSet"'):
        db.execute("SELECT * FROM dbml.run_script('', partition_by => '{x}') AS t(x int)")
