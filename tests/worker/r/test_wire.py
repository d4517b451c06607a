"""Values there and back through a real R process: what PostgreSQL sent is what it would get."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbml import errors
from dbml.columns import JSON_NULL, Column, encode_frame, natural_columns
from dbml.worker.r.language import RScript
from dbml.worker.sandbox import Limits

pytestmark = pytest.mark.needs_r

NAIVE = st.datetimes(datetime(1900, 1, 1), datetime(2100, 12, 31))
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False)
DECIMALS = st.builds(lambda n, e: Decimal(n).scaleb(e), st.integers(-(10**15) + 1, 10**15 - 1), st.integers(-20, 20))
INT4 = st.integers(-(2**31), 2**31 - 1)
CELLS: dict[str, Any] = {
    "bool": st.booleans(), "int2": st.integers(-(2**15), 2**15 - 1), "int4": INT4, "int8": st.integers(-(2**53), 2**53),
    "oid": st.integers(0, 2**32 - 1), "float4": st.floats(width=32, allow_nan=False), "float8": FLOATS, "numeric": DECIMALS,
    "text": TEXT, "date": st.dates(), "timestamp": NAIVE, "timestamptz": NAIVE, "time": st.times(),
    "timetz": st.times(timezones=st.just(timezone(timedelta(hours=2)))), "uuid": st.uuids(),
    "interval": st.timedeltas(timedelta(days=-30000), timedelta(days=30000)), "bytea": st.binary(max_size=20),
    "json": st.recursive(st.booleans() | TEXT | st.integers() | FLOATS.filter(np.isfinite) | st.just(JSON_NULL),
                         lambda inner: st.lists(inner.filter(lambda x: x is not JSON_NULL), max_size=3)),
    "array:int4": st.lists(st.none() | INT4, max_size=4), "array:float8": st.lists(st.none() | st.floats(), max_size=4),
    "textarray": st.lists(st.none() | TEXT, max_size=4), "array:bool": st.lists(st.none() | st.booleans(), max_size=4),
    "array:timestamp": st.lists(st.none() | NAIVE, max_size=3), "array:date": st.lists(st.none() | st.dates(), max_size=3),
    "array:bytea": st.lists(st.none() | st.binary(max_size=4), max_size=3),
}  # fmt: skip


def series(kind: str, cells: list[Any]) -> Any:
    """A column as FrameBuilder makes it."""
    missing = any(cell is None for cell in cells)
    match kind:
        case "bool":
            return pd.Series(cells, dtype="boolean" if missing else "bool")
        case "int2" | "int4" | "int8" | "oid":
            return pd.Series(cells, dtype="Int64" if missing else "int64")
        case "float4" | "float8":
            dtype = np.float32 if kind == "float4" else np.float64
            if any(cell != cell for cell in cells if cell is not None):
                values = np.array([1.0 if cell is None else cell for cell in cells], dtype)
                return pd.Series(pd.arrays.FloatingArray(values, np.array([cell is None for cell in cells])))
            return pd.Series([np.nan if cell is None else cell for cell in cells], dtype=dtype)
        case "text":
            return pd.Series(cells, dtype=pd.StringDtype("pyarrow", na_value=np.nan))
        case "date":
            return pd.Series(np.array(cells, "datetime64[s]"))
        case "timestamp":
            return pd.Series(np.array(cells, "datetime64[us]"))
        case "timestamptz":
            return pd.Series(np.array(cells, "datetime64[us]")).dt.tz_localize("UTC")
        case "interval":
            return pd.Series(np.array(cells, "timedelta64[us]"))
    objects = np.empty(len(cells), object)
    objects[:] = [None] * len(cells)
    for position, cell in enumerate(cells):
        objects[position] = cell
    return pd.Series(objects, dtype=object)


def column(kind: str, name: str = "x") -> Column:
    from dbml.columns.kinds import type_of_kind

    return Column(name, type_of_kind(kind), kind)


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RScript]:
    """One R process for all."""
    script = RScript(Limits())
    yield script
    script.close()


def there_and_back(r: RScript, frame: pd.DataFrame, columns: list[Column], text: str = "OutputDataSet <- x") -> pd.DataFrame:
    r.load(text)
    r.run({"x": frame}, {"x": columns})
    found = r.result("OutputDataSet")
    assert found is not None
    return found


def literals(frame: pd.DataFrame, columns: list[Column]) -> list[list[bytes]]:
    return [chunk.literals for chunk in encode_frame(frame, columns, 1000)]


@pytest.mark.parametrize("kind", CELLS)
def test_a_column_there_and_back(r: RScript, kind: str) -> None:
    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | CELLS[kind], max_size=40))
    def check(cells: list[Any]) -> None:
        frame = pd.DataFrame({"x": series(kind, cells)})
        columns = [column(kind)]
        for text in ("OutputDataSet <- x", "OutputDataSet <- x[seq_len(nrow(x)), , drop = FALSE]"):
            found = there_and_back(r, frame, columns, text)
            assert len(found) == len(cells) and list(found.columns) == ["x"]
            expected = literals(frame, columns)
            if kind == "numeric":  # 1.50 returns as 1.5
                kept = [None if cell is None else Decimal(repr(float(cell))).normalize() for cell in cells]
                back = [None if pd.isna(cell) else Decimal(repr(cell)).normalize() for cell in found["x"].tolist()]
                assert back == kept
            elif kind == "float4":  # which prints fewer digits
                assert np.array_equal(found["x"].to_numpy(np.float32, na_value=np.nan), frame["x"].to_numpy(), equal_nan=True)
            else:
                assert literals(found, columns) == expected

    check()


def test_long_columns(r: RScript) -> None:
    n = 200_000
    frame = pd.DataFrame({"i": np.arange(n), "t": pd.Series([f"é{i}" for i in range(n)], dtype="str"), "d": np.arange(n) / 7})
    columns = [column("int8", "i"), column("text", "t"), column("float8", "d")]
    found = there_and_back(r, frame, columns)
    assert found["i"].tolist() == list(range(n)) and found["t"].equals(frame["t"]) and found["d"].equals(frame["d"])


def test_na_and_nan_stay_apart(r: RScript) -> None:
    frame = pd.DataFrame({"x": series("float8", [1.0, None, float("nan"), float("inf")])})
    found = there_and_back(r, frame, [column("float8")], "stopifnot(identical(is.nan(x$x), c(F, F, T, F)))\nOutputDataSet <- x")
    assert literals(found, [column("float8")]) == [[b"{1,NULL,NaN,Infinity}"]]


def test_the_types_that_a_script_sees(r: RScript) -> None:
    kinds = {
        "bool": (True, "logical"), "int4": (1, "integer"), "int8": (1, "numeric"), "float8": (1.5, "numeric"),
        "numeric": (Decimal("1.5"), "numeric"), "text": ("é", "character"), "date": (date(2026, 1, 2), "Date"),
        "timestamp": (datetime(2026, 1, 2), "POSIXct"), "timestamptz": (datetime(2026, 1, 2), "POSIXct"),
        "time": (time(1), "hms"), "interval": (timedelta(1), "difftime"), "uuid": (uuid.UUID(int=1), "character"),
        "jsonb": ([1], "character"), "bytea": (b"\0", "list"), "array:int4": ([1], "list"),
    }  # fmt: skip
    frame = pd.DataFrame({kind: series(kind, [cell]) for kind, (cell, _) in kinds.items()})
    found = there_and_back(
        r, frame, [column(kind, kind) for kind in kinds], "OutputDataSet <- vapply(x, function(c) class(c)[1], '')"
    )
    assert dict(zip(kinds, found["c1"], strict=True)) == {kind: class_ for kind, (_, class_) in kinds.items()}


RESULTS = {
    "data.frame(a = 1:2, `b c` = c('x', NA), check.names = FALSE)": {"a": "bigint", "b c": "text"},
    "1:3": {"c1": "bigint"},
    "c(a = 1.5, b = 2)": {"c1": "double precision"},
    "matrix(1:4, 2)": {"c1": "bigint", "c2": "bigint"},
    "matrix(c('a', 'b'), 1, dimnames = list(NULL, c('x', 'é')))": {"x": "text", "é": "text"},
    "list(a = 1:2, b = factor(c('u', 'v')))": {"a": "bigint", "b": "text"},
    "factor(c('u', NA))": {"c1": "text"},
    "as.Date('2026-01-02') + 0:1": {"c1": "date"},
    "Sys.time()": {"c1": "timestamp with time zone"},
    "as.POSIXlt('2026-01-02', tz = 'Europe/Berlin')": {"c1": "timestamp with time zone"},
    "as.difftime(1.5, units = 'hours')": {"c1": "interval"},
    "as.raw(1:3)": {"c1": "bytea"},
    "list(as.raw(1), NULL, raw(0))": {"c1": "bytea"},
    "list(model = serialize(1, NULL))": {"model": "bytea"},
    "data.frame(x = I(list(1:2, NULL, 3L)))": {"x": "bigint[]"},
    "data.frame(x = I(list(matrix(1:4, 2))))": {"x": "bigint[]"},
    "table(c('a', 'b', 'a'))": {"Var1": "text", "Freq": "bigint"},
    "structure(list(x = 1), class = c('tbl_df', 'tbl', 'data.frame'), row.names = 1L)": {"x": "double precision"},
    "structure(c(4.94065645841246544e-324, 0), class = 'integer64')": {"c1": "bigint"},
    "NA": {"c1": "boolean"},
    "data.frame(x = character())": {"x": "text"},
}  # fmt: skip


@pytest.mark.parametrize("value", RESULTS)
def test_what_makes_a_result(r: RScript, value: str) -> None:
    r.load(f"OutputDataSet <- {value}")
    r.run({}, {})
    found = r.result("OutputDataSet")
    assert found is not None
    assert {c.name: c.type for c in natural_columns(found)} == RESULTS[value]


@pytest.mark.parametrize("value", ["NULL", "data.frame()", "list()"])
def test_what_makes_no_rows(r: RScript, value: str) -> None:
    r.load(f"OutputDataSet <- {value}")
    r.run({}, {})
    found = r.result("OutputDataSet")
    assert found is None or found.shape[0] == 0
    assert r.result("never set") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("data.frame(z = 1i)", 'column "z" holds complex'),
        ("data.frame(m = I(list(1, 'a')))", 'column "m" holds a mixture of character and double'),
        ("data.frame(m = I(list(list(1))))", 'column "m" holds lists in a list'),
        ("{ d <- data.frame(a = 1:2); d$m <- matrix(1:4, 2); d }", 'column "m" is itself a matrix'),
        ("mean", "OutputDataSet must be a data.frame or what makes one, got function"),
        ("lm(y ~ x, data.frame(x = 1:3, y = c(1, 3, 2)))", "OutputDataSet must be a data.frame or what makes one, got lm"),
        ("array(1:8, c(2, 2, 2))", "must have one or two dimensions, got 3"),
        ("list(a = 1:2, b = 1:3)", "must have one length, got 2, 3"),
        ("data.frame(t = '\\xe9')", 'column "t" holds bytes that are not UTF-8'),
        ("globalenv()", "got environment"),
    ],
)
def test_what_is_refused(r: RScript, value: str, words: str) -> None:
    r.load(f"OutputDataSet <- {value}")
    r.run({}, {})
    with pytest.raises(errors.UnsupportedType) as caught:
        r.result("OutputDataSet")
    assert words in caught.value.message and caught.value.hint


def test_an_encoding_that_r_knows_is_converted(r: RScript) -> None:
    r.load("t <- '\\xe9'; Encoding(t) <- 'latin1'; OutputDataSet <- c(t, NA, 'ü', '')")
    r.run({}, {})
    found = r.result("OutputDataSet")
    assert found is not None and found["c1"].tolist()[0::2] == ["é", "ü"] and pd.isna(found["c1"][1])


def test_a_stamp_of_utc_is_a_timestamp_too_and_one_of_berlin_is_not(r: RScript) -> None:
    r.load(
        "x <- as.POSIXct('2026-01-02 03:04:05', tz = 'UTC'); OutputDataSet <- data.frame(u = x, b = `attr<-`(x, 'tzone', 'Europe/Berlin'))"
    )
    r.run({}, {})
    found = r.result("OutputDataSet")
    assert found is not None
    for kind in ("timestamp", "timestamptz"):
        (made,) = literals(found[["u"]], [column(kind)])
        assert made[0].startswith(b'{"2026-01-02 03:04:05')
    assert literals(found[["b"]], [column("timestamptz")])
    with pytest.raises(errors.UnsupportedType):
        literals(found[["b"]], [column("timestamp")])


@pytest.mark.parametrize(
    ("kind", "cell", "words"),
    [
        ("int8", 2**53 + 1, "holds 9007199254740993"), ("numeric", Decimal("1234567890.1234567"), "double"),
        ("timestamp", datetime(9999, 1, 1, 0, 0, 0, 1), "microseconds"), ("array:int8", [2**53 + 1], "9007199254740993"),
    ],
)  # fmt: skip
def test_what_r_cannot_hold_is_refused(r: RScript, kind: str, cell: Any, words: str) -> None:
    r.load("1")
    with pytest.raises(errors.UnsupportedType, match=words) as caught:
        r.run({"x": pd.DataFrame({"x": series(kind, [cell, None])})}, {"x": [column(kind)]})
    assert '"x"' in caught.value.message and caught.value.hint


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, min_size=2, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, min_size=1, max_size=3),
    max_leaves=8,
)


def same(given_: Any, found: Any) -> bool:
    if isinstance(given_, list):
        return isinstance(found, list) and len(found) == len(given_) and all(map(same, given_, found))
    if isinstance(given_, dict):
        return list(given_) == list(found) and all(same(given_[key], found[key]) for key in given_)
    return bool(given_ == found) and isinstance(found, bool) == isinstance(given_, bool)


def test_parameters_there_and_back(r: RScript) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(VALUES)
    def check(value: Any) -> None:
        r.load("q <- p")
        r.run({"p": value, "one": [value]}, {})
        assert same(value, r.parameter("p"))

    check()


def test_bytes_and_lists_of_one_as_parameters(r: RScript) -> None:
    r.load("stopifnot(is.raw(b), identical(v, 5L), is.null(n), identical(m, list(1L, 'a')), identical(d, c(1, 2.5)))")
    r.run({"b": b"\0\1", "v": [5], "n": None, "m": [1, "a"], "d": [1, 2.5], "e": []}, {})
    assert [r.parameter(name) for name in "bvnmde"] == [b"\0\1", [5], None, [1, "a"], [1.0, 2.5], []]
