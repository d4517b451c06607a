"""R scripts through SQL: types there and back, pieces, models as bytes, prints, errors."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dbml import errors

pytestmark = [pytest.mark.needs_r, pytest.mark.once]

EXAMPLE = """
SELECT * FROM dbml.run_script($$OutputDataSet <- transform(InputDataSet, y = x * factor)$$, language => 'r',
    input_query => 'SELECT g AS x FROM generate_series(1, 5) g', params => '{"factor": 3}') AS t(x bigint, y bigint)"""

# Each type with values that R holds exactly, as PostgreSQL prints them.
TYPES = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9007199254740992", "9007199254740992"],
    "oid": ["0", "4294967295"],
    "real": ["1.5", "-0.1", "3.4028235e+38", "NaN", "Infinity"],
    "double precision": ["0.1", "-1e-300", "NaN", "-Infinity", "5e-324"],
    "numeric": ["123456789012.345", "0.1", "-1e20", "NaN", "Infinity"],
    "text": ["", "plain", "üß 日本 🐘", "NA", "a\nb\\c\"d''"],
    "character varying(10)": ["abc"],
    "date": ["2026-01-02", "0001-01-01", "9999-12-31"],
    "timestamp": ["2026-01-02 03:04:05.123456", "1900-01-01 00:00:00.000001", "2100-12-31 23:59:59.999999"],
    "timestamptz": ["2026-01-02 03:04:05.123456+00", "1969-12-31 23:59:59.999999+00", "2100-01-01 00:00:00+00"],
    "time": ["00:00:00", "23:59:59.999999", "12:34:56.789"],
    "timetz": ["12:34:56+02"],
    "interval": ["3 days 04:05:06.000007", "-00:00:01"],
    "uuid": ["3f2504e0-4f89-11d3-9a0c-0305e82c3301"],
    "json": ['{"a":[1,null]}', "null"],
    "jsonb": ['{"a": [1, null]}', "null", '"text"'],
    "bytea": ["\\x00ff", "\\x"],
    "integer[]": ["{1,NULL,3}", "{}", "{{1,2,3},{4,5,6}}", "{-2147483648}"],
    "double precision[]": ["{1.5,NULL,NaN,Infinity}", "{}"],
    "text[]": ["{a,NULL,\"\"}", "{}", "{{a,b},{c,d}}"],
    "boolean[]": ["{t,NULL,f}"],
    "numeric[]": ["{1.5,NULL}"],
    "date[]": ["{2026-01-02,NULL}"],
    "timestamp[]": ['{"2026-01-02 03:04:05.000001",NULL}'],
    "timestamptz[]": ['{"2026-01-02 03:04:05.000001+00",NULL}'],
    "inet": ["127.0.0.1"],
    "int4range": ["[1,5)"],
}  # fmt: skip


@pytest.fixture
def heard(db: psycopg.Connection[Any]) -> list[str]:
    said: list[str] = []
    db.add_notice_handler(lambda diagnostic: said.append(diagnostic.message_primary or ""))
    return said


def test_the_example(db: psycopg.Connection[Any]) -> None:
    assert db.execute(EXAMPLE).fetchall() == [(x, 3 * x) for x in range(1, 6)]


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("null", [True, False])
def test_a_type_there_and_back(db: psycopg.Connection[Any], type_: str, null: bool) -> None:
    values = [f"(E'{value}'::{type_})".replace("\\", "\\\\") for value in TYPES[type_]] + ["(NULL)"] * null
    back = type_.removesuffix("(10)")
    db.execute("SET TimeZone = 'UTC'")
    rows = db.execute(
        f"""WITH v(x) AS (VALUES {", ".join(values)}), given AS (SELECT x, row_number() OVER () AS n FROM v)
        SELECT g.x::text, t.x::text FROM dbml.run_script('OutputDataSet <- InputDataSet', language => 'r',
            input_query => $i${"WITH v(x) AS (VALUES " + ", ".join(values) + ")"} SELECT row_number() OVER () AS n, x FROM v$i$
            ) AS t(n bigint, x {back}) JOIN given g USING (n) ORDER BY n"""
    ).fetchall()
    assert len(rows) == len(values)
    assert [back for _, back in rows] == [given for given, _ in rows]


@pytest.mark.parametrize("type_", TYPES)
def test_without_rows_columns_and_types_are_there(db: psycopg.Connection[Any], type_: str) -> None:
    rows = db.execute(
        f"""SELECT * FROM dbml.run_script('stopifnot(nrow(InputDataSet) == 0, names(InputDataSet) == "x y")
            OutputDataSet <- InputDataSet', language => 'r', input_query => 'SELECT NULL::{type_} AS "x y" LIMIT 0') AS t(x {type_})"""
    ).fetchall()
    assert rows == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9007199254740993", '"x" of type bigint holds 9007199254740993'),
        ("1234567890.1234567", '"x" of type numeric holds 1234567890.1234567'),
        ("timestamp '20000-01-01 00:00:00.000001'", "microseconds"),
    ],
)
def test_what_r_cannot_hold_is_refused(db: psycopg.Connection[Any], value: str, words: str) -> None:
    with pytest.raises(errors.UnsupportedType, match=words) as caught:
        db.execute(f"SELECT * FROM dbml.run_script('1', language => 'r', input_query => $i$SELECT {value} AS x$i$) AS t(x int)")
    assert "cast it" in (caught.value.hint or "")


def test_infinite_dates_and_times(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT d::text, t::text, z::text FROM dbml.run_script('OutputDataSet <- InputDataSet', language => 'r', input_query =>
        $$VALUES (date 'infinity', timestamp '-infinity', timestamptz 'infinity'), (date '4713-01-01 BC', NULL, NULL)$$)
        AS t(d date, t timestamp, z timestamptz)"""
    ).fetchall()
    assert rows == [("infinity", "-infinity", "infinity"), ("4713-01-01 BC", None, None)]


def test_a_model_leaves_as_bytes_and_returns(db: psycopg.Connection[Any]) -> None:
    db.execute("CREATE TEMPORARY TABLE models_of_mine (model bytea)")
    db.execute(
        """INSERT INTO models_of_mine SELECT * FROM dbml.run_script($$
model <- lm(y ~ x, data = InputDataSet)
OutputDataSet <- data.frame(model = I(list(serialize(model, NULL))))
$$, language => 'r', input_query => 'SELECT g AS x, 2 * g + 1 + (g % 2) AS y FROM generate_series(1, 2000) g') AS t(model bytea)"""
    )
    (size,) = db.execute("SELECT length(model) FROM models_of_mine").fetchone()  # type: ignore[misc]
    assert 0 < size < 800_000
    row = db.execute(
        """SELECT * FROM dbml.run_script($$
model <- unserialize(models$model[[1]])
OutputDataSet <- predict(model, data.frame(x = c(10, 20)))
$$, language => 'r', inputs => '{"models": "SELECT model FROM models_of_mine"}') AS t(p float8)"""
    ).fetchall()
    assert [round(p) for (p,) in row] == [22, 42]


def test_a_registered_model_is_loaded_by_name(db: psycopg.Connection[Any]) -> None:
    db.execute(
        """SELECT * FROM dbml.run_script($$
OutputDataSet <- run$register_model("r-line", lm(y ~ x, InputDataSet), tags = list(kind = "linear"))$$, language => 'r',
        input_query => 'SELECT g AS x, 3 * g AS y FROM generate_series(1, 10) g WHERE g <> 5') AS t(version int)"""
    )
    assert db.execute("SELECT framework, format FROM dbml.models WHERE name = 'r-line'").fetchone() == ("R", "rds")
    rows = db.execute(
        """SELECT * FROM dbml.run_script($$
OutputDataSet <- suppressWarnings(predict(run$load_model("r-line"), InputDataSet))$$, language => 'r', input_query => 'SELECT 5 AS x')
        AS t(y float8)"""
    ).fetchall()
    assert [round(y, 6) for (y,) in rows] == [15.0]
    missing = "tryCatch(run$load_model('none'), ModelNotFound = function(e) cat('not there')); OutputDataSet <- 1"
    assert db.execute("SELECT * FROM dbml.run_script(%s, language => 'r') AS t(x int)", [missing]).fetchone() == (1,)
    with pytest.raises(errors.ModelNotFound):
        db.execute("SELECT * FROM dbml.run_script($$run$load_model('none')$$, language => 'r') AS t(x int)")


def test_a_raw_vector_is_one_bytea(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        "SELECT * FROM dbml.run_script('OutputDataSet <- serialize(1:3, NULL)', language => 'r') AS t(b bytea)"
    ).fetchall()
    assert len(row) == 1 and bytes(row[0][0])[:2] == b"X\n"


def test_partitions(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT * FROM dbml.run_script($$
stopifnot(!exists("leftover")); leftover <- 1
OutputDataSet <- data.frame(total = sum(InputDataSet$x), key = k)$$, language => 'r',
        input_query => 'SELECT g % 3 AS k, g AS x FROM generate_series(1, 9) g', partition_by => array['k'])
        AS t(k int, total bigint, again int) ORDER BY k"""
    ).fetchall()
    assert rows == [(0, 18, 0), (1, 12, 1), (2, 15, 2)]


def test_streaming_keeps_a_state(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT * FROM dbml.run_script($$
if (first_chunk) state$total <- 0
state$total <- state$total + sum(InputDataSet$x)
OutputDataSet <- if (last_chunk) data.frame(total = state$total)$$, language => 'r',
        input_query => 'SELECT g AS x FROM generate_series(1, 1000) g', rows_per_read => 100) AS t(total bigint)"""
    ).fetchall()
    assert rows == [(500500,)]


def test_output_parameters(db: psycopg.Connection[Any]) -> None:
    row = db.execute(
        """CALL dbml.execute_script($$
n <- n + 1L; items <- rev(items); one <- one; text <- paste0(text, "ü"); nested$a <- 2; gone <- NULL$$, language => 'r',
        params => '{"n": 1, "items": [1, 2], "one": [5], "text": "x", "nested": {"a": 1, "b": "c"}, "gone": true}')"""
    ).fetchone()
    assert row is not None and row[0] == {
        "n": 2, "items": [2, 1], "one": [5], "text": "xü", "nested": {"a": 2, "b": "c"}, "gone": None,
    }  # fmt: skip


def test_as_json(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT * FROM dbml.run_script_json($$OutputDataSet <- data.frame(
            i = 1L, d = 1.5, s = "x", l = NA, f = factor("u"), day = as.Date("2026-01-02"),
            t = as.POSIXct("2026-01-02 03:04:05", tz = "UTC"), check.names = FALSE)$$, language => 'r')"""
    ).fetchall()
    assert rows == [({"i": 1, "d": 1.5, "s": "x", "l": None, "f": "u", "day": "2026-01-02", "t": "2026-01-02T03:04:05+00"},)]


def test_a_text_for_a_json_column_is_json(db: psycopg.Connection[Any]) -> None:
    script = "OutputDataSet <- data.frame(j = c('{\"a\": 1.50}', '[]', NA))"
    rows = db.execute("SELECT * FROM dbml.run_script(%s, language => 'r') AS t(j jsonb)", [script]).fetchall()
    assert rows == [({"a": 1.5},), ([],), (None,)]
    with pytest.raises(errors.UnsupportedType, match='column "j"'):
        db.execute("SELECT * FROM dbml.run_script('OutputDataSet <- data.frame(j = \"no\")', language => 'r') AS t(j jsonb)")


def test_prints_are_notices(db: psycopg.Connection[Any], heard: list[str]) -> None:
    db.execute(
        """SELECT * FROM dbml.run_script('cat("one\n"); print("zwei ü"); message("three"); warning("four"); 5', language => 'r')
        AS t(x int)"""
    )
    assert "\n".join(heard) == 'one\n[1] "zwei ü"\nthree\nWarning: four\n[1] 5'


def test_an_error_has_the_scripts_own_line(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.ScriptError) as caught:
        db.execute("SELECT * FROM dbml.run_script($$x <- 1\nstop('boom')$$, language => 'r') AS t(x int)")
    assert caught.value.message == "boom" and caught.value.detail == {"type": "simpleError", "line": 2}
    assert "script line 2: stop('boom')" in (caught.value.context or "")
    with pytest.raises(errors.ScriptSyntaxError, match="unexpected"):
        db.execute("SELECT * FROM dbml.run_script('x <- <- 1', language => 'r') AS t(x int)")


def test_the_run_is_recorded(db: psycopg.Connection[Any]) -> None:
    (run_id,) = db.execute(
        """SELECT * FROM dbml.run_script($$
run$log("rmse", 1.2)
for (i in 1:2) run$log("loss", 1 / i, step = i)
run$tag("kind", "trial")
run$outputs$residuals <- data.frame(r = c(0.5, NA))
plot(1:3)
OutputDataSet <- run$id$$, language => 'r') AS t(id text)"""
    ).fetchone()  # type: ignore[misc]
    found = db.execute("SELECT name, step, value FROM dbml.metrics WHERE run_id = %s ORDER BY name, step", [run_id]).fetchall()
    assert [(name, value) for name, _, value in found] == [("loss", 1.0), ("loss", 0.5), ("rmse", 1.2)]
    row = db.execute("SELECT language, status FROM dbml.runs WHERE run_id = %s", [run_id]).fetchone()
    assert row == ("r", "completed")
    kept = db.execute("SELECT name FROM dbml.artifacts WHERE run_id = %s ORDER BY 1", [run_id]).fetchall()
    assert ("figure 1",) in kept


def test_a_plot(db: psycopg.Connection[Any]) -> None:
    (png,) = db.execute("SELECT dbml.run_plot('plot(1:3)', language => 'r')").fetchone()  # type: ignore[misc]
    assert bytes(png[:4]) == b"\x89PNG"


def test_1600_columns_and_odd_names(db: psycopg.Connection[Any]) -> None:
    given = ", ".join(f'{i} AS "c {i} é"' for i in range(1600))
    listed = ", ".join(f'"c {i} é" int' for i in range(1600))
    (row,) = db.execute(
        f"SELECT * FROM dbml.run_script('OutputDataSet <- InputDataSet', language => 'r', input_query => $$SELECT {given}$$) AS t({listed})"
    ).fetchall()
    assert row == tuple(range(1600))
