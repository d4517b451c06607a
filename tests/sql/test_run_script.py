"""run_script: what goes in, what comes out, and in which transactions."""

from __future__ import annotations

import pickle
from typing import Any

import psycopg
import pytest

from dbml import errors

ISSUE_EXAMPLE = """
SELECT * FROM dbml.run_script($$OutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)$$,
    input_query => 'SELECT g AS x FROM generate_series(1,5) g', params => '{"factor": 3}') AS t(x bigint, y bigint)"""


def test_the_example_of_the_manual(db: psycopg.Connection[Any]) -> None:
    assert db.execute(ISSUE_EXAMPLE).fetchall() == [(x, 3 * x) for x in range(1, 6)]


@pytest.mark.parametrize("mode", ["", "READ ONLY", "ISOLATION LEVEL REPEATABLE READ", "ISOLATION LEVEL SERIALIZABLE"])
def test_in_every_kind_of_transaction(db: psycopg.Connection[Any], mode: str) -> None:
    db.execute(f"BEGIN {mode}")
    assert db.execute(ISSUE_EXAMPLE).fetchall()[4] == (5, 15)
    db.execute("COMMIT")


def test_a_temporary_table_of_the_same_transaction_is_an_input(db: psycopg.Connection[Any]) -> None:
    db.execute("BEGIN")
    db.execute("CREATE TEMPORARY TABLE mine ON COMMIT DROP AS SELECT g AS x FROM generate_series(1, 3) g")
    rows = db.execute(
        "SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * 2', input_query => 'SELECT * FROM mine;') AS t(x int)"
    ).fetchall()
    db.execute("ROLLBACK")
    assert rows == [(2,), (4,), (6,)]


def test_an_input_query_may_hold_percent_signs(db: psycopg.Connection[Any]) -> None:
    query = "$q$SELECT 7 % 4 AS x, '%s %1$s' AS t WHERE 'abc' LIKE '%b%'$q$"
    assert db.execute(
        f"SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet', {query}) AS t(x int, t text)"
    ).fetchall() == [(3, "%s %1$s")]


def test_a_trained_model_leaves_and_returns_as_bytes(db: psycopg.Connection[Any]) -> None:
    db.execute("CREATE TEMPORARY TABLE models_of_mine (model bytea)")
    db.execute(
        """INSERT INTO models_of_mine SELECT * FROM dbml.run_script($$
import pickle, pandas
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit(InputDataSet[["x"]].to_numpy(), InputDataSet.y)
OutputDataSet = pandas.DataFrame({"trained_model": [pickle.dumps(model)]})
$$, input_query => 'SELECT g AS x, 2 * g + 1 AS y FROM generate_series(1, 20) g') AS t(trained_model bytea)"""
    )
    (stored,) = db.execute("SELECT model FROM models_of_mine").fetchone()  # type: ignore[misc]
    assert round(pickle.loads(stored).predict([[10.0]])[0], 9) == 21
    row = db.execute(
        """SELECT * FROM dbml.run_script($$
import pickle
raw = m.model.iloc[0]
assert type(raw) is bytes
OutputDataSet = {"y": pickle.loads(raw).predict([[10.0]])}
$$, inputs => '{"m": "SELECT model FROM models_of_mine"}') AS t(y float8)"""
    ).fetchone()
    assert row is not None and round(row[0], 9) == 21


def test_several_inputs_by_name(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        """SELECT * FROM dbml.run_script('OutputDataSet = {"n": [len(train)], "m": [len(test)], "k": [len(InputDataSet)]}',
        input_query => 'SELECT 1 AS a',
        inputs => '{"train": "SELECT g FROM generate_series(1, 7000) g", "test": "SELECT 1 AS g WHERE false"}')
        AS t(n int, m int, k int)"""
    ).fetchone()
    assert row == (7000, 0, 1)


def test_an_input_without_rows_keeps_columns_and_dtypes(db: psycopg.Connection[Any]) -> None:
    (dtypes,) = db.execute(
        """SELECT * FROM dbml.run_script('OutputDataSet = {"d": [str(dict(InputDataSet.dtypes.astype(str)))]}',
        input_query => 'SELECT 1 AS i, 1.5::float8 AS f, now() AS t, ''x''::text AS s WHERE false') AS t(d text)"""
    ).fetchone()  # type: ignore[misc]
    assert dtypes == "{'i': 'int64', 'f': 'float64', 't': 'datetime64[us, UTC]', 's': 'str'}"


def test_a_script_without_output_returns_no_rows(db: psycopg.Connection[Any]) -> None:
    assert db.execute("SELECT * FROM dbml.run_script('x = 1') AS t(a int, b text)").fetchall() == []
    assert db.execute("SELECT * FROM dbml.run_script_json('x = 1')").fetchall() == []


def test_the_column_list_says_which_types_are_wanted(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        """SELECT *, pg_typeof(a), pg_typeof(d) FROM dbml.run_script(
        'OutputDataSet = [{"a": 1, "b": 2, "c": 3.0, "d": "2026-01-02", "e": [1, 2]}]')
        AS t(a smallint, b numeric, c integer, d date, e int[])"""
    ).fetchone()
    assert row is not None and str(row) == ("(1, Decimal('2'), 3, datetime.date(2026, 1, 2), [1, 2], 'smallint', 'date')")


def test_a_column_list_of_the_wrong_length_is_answered_with_one_that_fits(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.ColumnListMismatch) as caught:
        db.execute("""SELECT * FROM dbml.run_script('OutputDataSet = {"x": [1], "odd name": ["b"]}') AS t(a int)""")
    assert caught.value.diag.message_hint == 'AS t(x bigint, "odd name" text)'
    hinted = (
        f"""SELECT * FROM dbml.run_script('OutputDataSet = {{"x": [1], "odd name": ["b"]}}') {caught.value.diag.message_hint}"""
    )
    assert db.execute(hinted).fetchall() == [(1, "b")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "type_"), [("3.5", "integer"), ("2**40", "integer"), ("'x'", "float8"), ("float('inf')", "bigint")]
)
def test_a_value_that_the_type_cannot_hold_is_refused_not_rounded(db: psycopg.Connection[Any], value: str, type_: str) -> None:
    with pytest.raises(errors.UnsupportedType, match='"x"'):
        db.execute(f'SELECT * FROM dbml.run_script($$OutputDataSet = {{"x": [{value}]}}$$) AS t(x {type_})')  # type: ignore[arg-type]


def test_ten_thousand_columns_are_refused_by_name_of_the_limit(db: psycopg.Connection[Any]) -> None:
    script = "import numpy\nOutputDataSet = numpy.zeros((1, 10000))"
    with pytest.raises(errors.DbmlError, match=r"1600 columns at most, got 10000"):
        db.execute("SELECT * FROM dbml.run_script(%s) AS t(a int)", (script,))
    wide = "SELECT " + ", ".join(f"{i} AS c{i}" for i in range(10000))
    with pytest.raises(psycopg.errors.TooManyColumns):
        db.execute("SELECT * FROM dbml.run_script('x = 1', input_query => %s) AS t(a int)", (wide,))


def test_1600_columns_there_and_back(db: psycopg.Connection[Any]) -> None:
    query = "SELECT " + ", ".join(f"g + {i} AS c{i}" for i in range(1600)) + " FROM generate_series(1, 30) g"
    columns = ", ".join(f"c{i} int" for i in range(1600))
    rows = db.execute(
        f"SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet', input_query => %s) AS t({columns})",  # type: ignore[arg-type]
        (query,),
    ).fetchall()
    assert rows == [tuple(g + i for i in range(1600)) for g in range(1, 31)]


def test_unicode_and_quoted_names(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet', input_query =>
        'SELECT ''smørrebrød 🦆''::text AS "Größe ""x"" ", 2 AS "select"') AS t("Größe ""x"" " text, "select" int)"""
    ).fetchone()
    assert row == ("smørrebrød 🦆", 2)


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("pool => 'not-there'", errors.PoolNotFound),
        ("environment => 'not-there'", errors.EnvironmentNotFound),
        ("workspace => 'not-there'", errors.WorkspaceNotFound),
    ],
)
def test_what_is_not_there_is_not_ignored(db: psycopg.Connection[Any], argument: str, error: type[errors.DbmlError]) -> None:
    for call in ("SELECT * FROM dbml.run_script('x=1', {}) AS t(a int)", "SELECT dbml.run_script_json('x=1', {})",
                 "CALL dbml.execute_script('x=1', {})"):  # fmt: skip
        with pytest.raises(error, match="not-there"):
            db.execute(call.format(argument))  # type: ignore[arg-type]


def test_without_a_column_list_the_error_shows_how(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.ColumnListMismatch, match="call it in FROM") as caught:
        db.execute("SELECT dbml.run_script('x=1')")
    assert "run_script_json" in str(caught.value.diag.message_hint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("script => null", "script must be given"), ("script => 'x', params => '[1]'", "params must be a JSON object"),
        ("script => 'x', inputs => '{\"a\": 1}'", "inputs must be a JSON object of queries"),
        ("script => 'x', params => '{\"not ok\": 1}'", "not ok"), ("script => 'x', timeout => '0 s'", "timeout must be more"),
        ("script => 'x', input_query => 'select 1 as a, 2 as a'", "a"),
    ],
)  # fmt: skip
def test_bad_arguments(db: psycopg.Connection[Any], arguments: str, message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message):
        db.execute(f"SELECT * FROM dbml.run_script({arguments}) AS t(a int)")  # type: ignore[arg-type]


def test_a_workspace_that_is_not_there(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.WorkspaceNotFound, match='"nowhere"'):
        db.execute("SELECT * FROM dbml.run_script('x=1', workspace => 'nowhere') AS t(a int)")


def test_json_rows_need_no_column_list(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT * FROM dbml.run_script_json('OutputDataSet = InputDataSet', input_query =>
        'SELECT 1 AS i, ''NaN''::float8 AS f, ''a''::text AS s, null::int AS n, ''\\x00ff''::bytea AS b,
                timestamp ''2026-01-02 03:04:05'' AS t')"""
    ).fetchall()
    assert rows == [({"i": 1, "f": "NaN", "s": "a", "n": None, "b": "\\x00ff", "t": "2026-01-02T03:04:05"},)]


def test_parameters_return(db: psycopg.Connection[Any]) -> None:
    (params,) = db.execute(
        """CALL dbml.execute_script($$
import numpy
n = numpy.int64(len(InputDataSet)); share = numpy.float32(0.5); raw = b"\\x00\\x01"; untouched
$$, input_query => 'SELECT g FROM generate_series(1, 4) g',
        params => '{"n": null, "share": 0, "raw": "", "untouched": [1, {"a": null}]}')"""
    ).fetchone()  # type: ignore[misc]
    assert params == {"n": 4, "share": 0.5, "raw": "AAE=", "untouched": [1, {"a": None}]}


def test_an_input_query_may_itself_call_the_worker(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        """SELECT * FROM dbml.run_script('OutputDataSet = {"s": [sum(InputDataSet.y)]}', input_query =>
        $$SELECT y FROM dbml.run_script('OutputDataSet = InputDataSet * 2',
            input_query => 'SELECT g AS y FROM generate_series(1, 3000) g') AS t(y bigint)$$) AS t(s bigint)"""
    ).fetchone()
    assert row == (3000 * 3001,)


def test_row_level_security_and_role_of_the_caller_hold(db: psycopg.Connection[Any]) -> None:
    db.execute("BEGIN")
    db.execute("CREATE ROLE reader_of_some NOLOGIN")
    db.execute("GRANT dbml_scripter TO reader_of_some")
    db.execute("CREATE TABLE secrets AS SELECT g AS x FROM generate_series(1, 10) g")
    db.execute("ALTER TABLE secrets ENABLE ROW LEVEL SECURITY")
    db.execute("CREATE POLICY small ON secrets USING (x <= 3)")
    db.execute("GRANT SELECT ON secrets TO reader_of_some")
    db.execute("SET LOCAL ROLE reader_of_some")
    rows = db.execute(
        """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet.assign(u = run.user)',
        input_query => 'SELECT x FROM secrets') AS t(x int, u text)"""
    ).fetchall()
    db.execute("ROLLBACK")
    assert rows == [(1, "reader_of_some"), (2, "reader_of_some"), (3, "reader_of_some")]


def test_a_failing_input_query_leaves_the_session_usable(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        db.execute(
            """SELECT * FROM dbml.run_script('x=1', input_query =>
            'SELECT 1 / (4000 - g) AS x FROM generate_series(1, 5000) g') AS t(a int)"""
        )
    assert len(db.execute(ISSUE_EXAMPLE).fetchall()) == 5


@pytest.mark.parametrize("query", ["demo.iris", "SELECT 1 AS x; SELECT 2", "DELETE FROM t RETURNING 1"])
def test_what_is_no_query_is_told_what_one_is(db: psycopg.Connection[Any], query: str) -> None:
    with pytest.raises(psycopg.errors.SyntaxError, match="syntax error") as caught:
        db.execute("SELECT * FROM dbml.run_script('', %s) AS t(x int)", (query,))
    assert "TABLE my_table" in (caught.value.diag.message_hint or "") and query in (caught.value.diag.message_detail or "")
    with pytest.raises(errors.InvalidArgument, match="a query must have text, got ' ;'"):
        db.execute("SELECT * FROM dbml.run_script('', ' ;') AS t(x int)")
