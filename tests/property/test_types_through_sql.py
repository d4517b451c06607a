"""Every type there and back through a script: what comes out is what went in, compared by PostgreSQL itself.

The property: for values v of a type, run_script with `OutputDataSet = InputDataSet` gives the same v, NULLs included.
pandas is the other oracle: what the script sees has the promised dtype and the values that pandas would give.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbml import errors

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
FLOAT8 = st.floats(width=64).map(repr).map(lambda text: {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text))
FLOAT4 = st.floats(width=32).map(repr).map(lambda text: {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text))
NUMERIC = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40, places=12).map(str),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "0.00", "-1e-30", "123456789012345678901234567890.5"]),
)
SECONDS = st.integers(0, 86_399_999_999).map(
    lambda us: f"{us // 3_600_000_000:02}:{us // 60_000_000 % 60:02}:{us // 1_000_000 % 60:02}.{us % 1_000_000:06}"
)
DATE = st.one_of(st.dates().map(str), st.sampled_from(["infinity", "-infinity", "4713-01-01 BC", "0044-03-15 BC", "12026-11-23"]))
TIMESTAMP = st.one_of(
    st.datetimes().map(str), st.sampled_from(["infinity", "-infinity", "4713-01-01 00:00:00 BC", "20260-01-02 03:04:05.000006"])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)), max_leaves=8,
).map(json.dumps)  # fmt: skip


def array(element: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make array literals, flat ones and two-dimensional ones, with NULLs among the elements."""

    def quote(value: str | None) -> str:
        return "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    cell = st.one_of(st.none(), element).map(quote)
    flat = st.lists(cell, max_size=4).map(lambda cells: "{" + ",".join(cells) + "}")
    square = st.lists(st.tuples(cell, cell), min_size=1, max_size=3).map(
        lambda rows: "{" + ",".join("{" + ",".join(row) + "}" for row in rows) + "}"
    )
    return st.one_of(flat, square)


INTEGERS = {size: st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1).map(str) for size in (2, 4, 8)}
TYPES: dict[str, st.SearchStrategy[str]] = {
    "boolean": st.sampled_from(["true", "false"]), "smallint": INTEGERS[2], "integer": INTEGERS[4], "bigint": INTEGERS[8],
    "oid": st.integers(0, 2**32 - 1).map(str), "real": FLOAT4, "double precision": FLOAT8, "numeric": NUMERIC,
    "text": TEXT, "varchar": TEXT, "name": st.text(string.ascii_letters, max_size=20), '"char"': st.sampled_from(["a", "Z", ""]),
    "bytea": st.binary(max_size=40).map(lambda raw: "\\x" + raw.hex()), "uuid": st.uuids().map(str),
    "date": DATE, "timestamp": TIMESTAMP, "timestamptz": TIMESTAMP.map(lambda text: text if "inf" in text else (
        text.replace(" BC", "+02 BC") if "BC" in text else text + "+02")),
    "time": SECONDS, "timetz": st.tuples(SECONDS, st.sampled_from(["+00", "-08", "+05:45"])).map("".join),
    "interval": st.integers(-(10**15), 10**15).map(lambda us: f"{us} microseconds"),
    "json": JSON, "jsonb": JSON, "inet": st.sampled_from(["10.0.0.1", "192.168.0.0/16", "::1"]),
    "macaddr": st.just("08:00:2b:01:02:03"), "bit varying": st.text("01", max_size=9), "money": st.just("12.34"),
    "int4range": st.sampled_from(["[1,5)", "empty", "(,7)"]), "tstzrange": st.just('["2026-01-01 00:00:00+00",infinity)'),
    "point": st.just("(1.5,-2)"), "xid": st.just("7"), "tsvector": st.just("'a' 'fat':2"),
    "types_mood": st.sampled_from(["happy", "so-so", "très triste"]), "types_positive": st.integers(1, 10**6).map(str),
    "types_pair": st.sampled_from(["(1,a)", '(,"x y")', "(3,)"]),
    "boolean[]": array(st.sampled_from(["t", "f"])), "smallint[]": array(INTEGERS[2]), "integer[]": array(INTEGERS[4]),
    "bigint[]": array(INTEGERS[8]), "real[]": array(FLOAT4), "double precision[]": array(FLOAT8), "numeric[]": array(NUMERIC),
    "text[]": array(TEXT), "uuid[]": array(st.uuids().map(str)), "date[]": array(DATE), "timestamp[]": array(TIMESTAMP),
    "bytea[]": array(st.binary(max_size=9).map(lambda raw: "\\x" + raw.hex())),
    "types_mood[]": array(st.sampled_from(["happy", "so-so", "très triste"])),
}  # fmt: skip


@pytest.fixture
def types(db: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Give a connection whose session has an enum, a domain and a composite type."""
    db.execute("SET search_path = pg_temp, public")
    db.execute(
        "SET datestyle = 'German'; SET intervalstyle = 'sql_standard'; SET extra_float_digits = 0; SET timezone = 'Asia/Kathmandu'"
    )
    db.execute("CREATE TYPE pg_temp.types_mood AS ENUM ('happy', 'so-so', 'très triste')")
    db.execute("CREATE DOMAIN pg_temp.types_positive AS integer CHECK (value > 0)")
    db.execute("CREATE TYPE pg_temp.types_pair AS (a integer, b text)")
    db.execute("CREATE TEMPORARY TABLE given_values (i serial, v text)")
    return db


def there_and_back(db: psycopg.Connection[Any], type_: str, values: list[str | None]) -> None:
    db.execute("TRUNCATE given_values RESTART IDENTITY")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO given_values (v) VALUES (%s)", [(value,) for value in values])
    db.execute("DROP TABLE IF EXISTS sent_values")
    # A value that PostgreSQL itself refuses is no value of the type.
    db.execute("SET datestyle = 'ISO'")
    db.execute(f"CREATE TEMPORARY TABLE sent_values AS SELECT i, v::{type_} AS v FROM given_values")  # type: ignore[arg-type]
    db.execute("SET datestyle = 'German'")
    different = db.execute(
        f"""WITH back AS MATERIALIZED (SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet',
                input_query => 'SELECT i, v FROM sent_values ORDER BY i') AS t(i int, v {type_}))
        SELECT s.i, s.v::text, b.v::text FROM sent_values s FULL JOIN back b USING (i)
        WHERE s.v::text IS DISTINCT FROM b.v::text AND {EQUAL.get(type_, "true")}"""  # type: ignore[arg-type]
    ).fetchall()
    assert different == []


@pytest.mark.parametrize("type_", TYPES)
def test_there_and_back(types: psycopg.Connection[Any], type_: str) -> None:
    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(st.none(), TYPES[type_]), max_size=12))
    def holds(values: list[str | None]) -> None:
        there_and_back(types, type_, values)

    holds()
    there_and_back(types, type_, [])
    there_and_back(types, type_, [None, None])


# Types of which one value has several texts: '24:00:00' and '1 day' are the same interval.
EQUAL = {"json": "s.v::jsonb IS DISTINCT FROM b.v::jsonb", "interval": "s.v IS DISTINCT FROM b.v"}

SEEN: list[tuple[str, str, Callable[[], str]]] = [
    ("SELECT 1 AS v", "int64", lambda: "1"), ("SELECT null::int AS v UNION ALL SELECT 2", "Int64", lambda: "<NA>"),
    ("SELECT true AS v", "bool", lambda: "True"), ("SELECT 1.5::real AS v", "float32", lambda: "1.5"),
    ("SELECT 'x'::text AS v", "str", lambda: "x"), ("SELECT 1.10::numeric AS v", "object", lambda: "1.10"),
    ("SELECT date '2026-11-23' AS v", "datetime64[s]", lambda: "2026-11-23 00:00:00"),
    ("SELECT timestamp '2026-11-23 12:00' AS v", "datetime64[us]", lambda: "2026-11-23 12:00:00"),
    ("SELECT timestamptz '2026-11-23 12:00+02' AS v", "datetime64[us, UTC]", lambda: "2026-11-23 10:00:00+00:00"),
    ("SELECT interval '90 minutes' AS v", "timedelta64[us]", lambda: "0 days 01:30:00"),
    ("SELECT array[1, null, 3] AS v", "object", lambda: "[1, None, 3]"), ("SELECT '\\x00ff'::bytea AS v", "object", lambda: "b'\\x00\\xff'"),
    ("SELECT '{\"a\": [1, null]}'::jsonb AS v", "object", lambda: "{'a': [1, None]}"),
    ("SELECT 'NaN'::float8 AS v UNION ALL SELECT null", "Float64", lambda: "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "dtype", "first"), SEEN)
def test_what_the_script_sees(db: psycopg.Connection[Any], query: str, dtype: str, first: Callable[[], str]) -> None:
    row = db.execute(
        "SELECT * FROM dbml.run_script('OutputDataSet = {\"d\": [str(InputDataSet.v.dtype)], \"f\": [str(InputDataSet.v.iloc[0])]}',"
        " input_query => %s) AS t(d text, f text)", (query,)
    ).fetchone()  # fmt: skip
    assert row == (dtype, first())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT interval '1 month' AS v", '"v".*interval'), ("SELECT time '24:00' AS v", '"v".*time'),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_name(db: psycopg.Connection[Any], query: str, said: str) -> None:
    with pytest.raises(errors.UnsupportedType, match=said):
        db.execute("SELECT * FROM dbml.run_script('x = 1', input_query => %s) AS t(a int)", (query,))
