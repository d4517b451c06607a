"""What a script leaves is taken without rounding, and has the type that it is by itself."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml import columns, errors
from dbml.columns import Column

BIG = 2**60 + 1


@pytest.mark.parametrize(
    "value",
    [
        [{"a": BIG}, {"a": None}], [{"a": BIG}, {}], {"a": [BIG, None]}, pa.table({"a": [BIG, None]}), [BIG, None], pa.array([BIG, None]),
        pa.chunked_array([[BIG], [None]]), {"a": pd.array([BIG, None], dtype="Int64")}, pa.RecordBatch.from_pydict({"a": [BIG, None]}),
    ],
)  # fmt: skip
def test_an_integer_beside_null_is_not_rounded(value: Any) -> None:
    frame = columns.as_frame(value)
    assert frame is not None
    (chunk,) = columns.encode_frame(frame, None, 10)
    assert (chunk.types, chunk.literals) == (["bigint"], [b"{1152921504606846977,NULL}"])


def test_arrow_keeps_nan_and_null_apart() -> None:
    frame = columns.as_frame(pa.table({"a": [float("nan"), None, 1.5], "s": ["x", None, "é"], "b": [True, None, False]}))
    assert frame is not None
    (chunk,) = columns.encode_frame(frame, None, 10)
    assert chunk.types == ["double precision", "text", "boolean"]
    assert chunk.literals == [b"{NaN,NULL,1.5}", '{x,NULL,"é"}'.encode(), b"{true,NULL,false}"]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (np.array([True]), "boolean"), (np.array([1], "i1"), "bigint"), (np.array([2**63], "u8"), "numeric"), (np.float32([1]), "real"), ([1.5], "double precision"),
        (["x"], "text"), ([None], "text"), (pd.Categorical([1, 2]), "bigint"), (pd.Categorical(["x"]), "text"), (pd.array([1, None], dtype="Int64"), "bigint"),
        (pd.to_datetime(["2026-01-01"]), "timestamp without time zone"), (pd.to_datetime(["2026-01-01"], utc=True), "timestamp with time zone"),
        (pd.to_timedelta([1], unit="s"), "interval"), ([Decimal(1)], "numeric"), ([b"x"], "bytea"), ([{"a": 1}], "jsonb"), ([[1, 2]], "bigint[]"), ([[1, 2.5], None], "double precision[]"),
        ([[1], [2.5]], "double precision[]"), ([[], [1]], "bigint[]"), ([["x"], []], "text[]"), ([["x"], [1]], "jsonb"), ([[1, "x"]], "jsonb"), ([[1], [2, [3]]], "jsonb"),
        ([[{"a": 1}]], "jsonb"), ([[]], "text[]"), ([np.zeros(2)], "double precision[]"), ([[date(2026, 1, 1)]], "date[]"), ([date(2026, 1, 1)], "date"),
        ([np.array(["2026-01-01"], "M8[ns]")], "timestamp without time zone[]"), ([time(1)], "time without time zone"), ([time(1, tzinfo=UTC)], "time with time zone"),
        ([UUID(int=1)], "uuid"), ([2**70], "numeric"), ([np.int64(1), None], "bigint"), ([datetime(2026, 1, 1)], "timestamp without time zone"), ([timedelta(1)], "interval"),
        (pd.Series([1.5], dtype=pd.ArrowDtype(pa.float32())), "real"), (pd.Series(["x"], dtype=pd.ArrowDtype(pa.string())), "text"),
    ],
)  # fmt: skip
def test_natural_types(values: Any, type_: str) -> None:
    frame = pd.DataFrame(
        {"x": pd.Series(values, dtype=object if isinstance(values, list) and not isinstance(values[0], float) else None)}
    )
    (column,) = columns.natural_columns(frame)
    assert column.type == type_
    (chunk,) = columns.encode_frame(frame, None, 10)
    assert chunk.n == len(values)


@pytest.mark.parametrize(
    "values", [[1, "x"], [object()], np.array([1j]), [date(2026, 1, 1), 1], pd.period_range("2026", periods=1)]
)
def test_no_type_at_all(values: Any) -> None:
    with pytest.raises(errors.UnsupportedType, match='"x"'):
        columns.natural_columns(pd.DataFrame({"x": values}))


def test_too_many_columns_name_the_limit() -> None:
    for value in (np.zeros((1, 10_000)), pd.DataFrame(np.zeros((1, 10_000))), [{f"c{i}": 1 for i in range(10_000)}]):
        with pytest.raises(errors.LimitExceeded, match="a result can have 1600 columns at most, got 10000"):
            columns.as_frame(value)
    with pytest.raises(errors.UnsupportedType, match="MultiIndex"):
        columns.as_frame(pd.DataFrame({("a", "b"): [1]}))


def test_the_widest_result() -> None:
    frame = pd.DataFrame(np.arange(3200).reshape(2, 1600))
    chunks = list(columns.encode_frame(frame, [Column(f"c{i}", "integer", "int4") for i in range(1600)], 1))
    assert [chunk.literals for chunk in chunks] == [[b"{%d}" % (start + i) for i in range(1600)] for start in (0, 1600)]


VALUES = st.lists(st.one_of(st.none(), st.floats(), st.floats(width=32)), max_size=20)


@given(VALUES, st.sampled_from(["float8", "numeric", "text"]))
def test_whole_columns_are_as_value_by_value(values: list[float | None], kind: str) -> None:
    def read(array: list[str | None]) -> list[Any]:
        return [None if text is None else float(text) for text in array]

    column = Column("x", kind, kind)
    bulk = columns.bulk.whole(pd.Series(values, dtype="float64"), column)
    each = columns.encode._one_by_one(pd.Series(values, dtype="float64"), "x", column)
    assert bulk is None or str(read(bulk.to_pylist())) == str(read(each))


@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))), max_size=20),
    st.integers(0, 20),
)
def test_strings_likewise(values: list[str | None], start: int) -> None:
    column = Column("x", "text", "text")
    series = pd.Series(values, dtype="str").iloc[start:]
    assert columns.bulk.literal(columns.bulk.whole(series, column), "text") == columns.encode.array_of_texts(values[start:])


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), max_size=20), st.sampled_from(["s", "ms", "us", "ns"]))
def test_times_likewise(values: list[int | None], unit: str) -> None:
    for numpy_kind, kind in (("M8", "timestamp"), ("m8", "interval")):
        scale = {"s": 10**7, "ms": 10**4, "us": 10**3, "ns": 1}[unit]
        ticks = [None if value is None else value // scale // 1000 * 1000 for value in values]
        series = pd.Series(
            np.array([np.iinfo(np.int64).min if tick is None else tick for tick in ticks], "i8").view(f"{numpy_kind}[{unit}]")
        )
        column = Column("x", kind, kind)
        try:
            each = columns.encode._one_by_one(series, "x", column)
        except errors.UnsupportedType:
            continue
        bulk = columns.bulk.whole(series, column)
        assert bulk is None or bulk.to_pylist() == each


def test_json_rows_are_as_to_jsonb_prints_them() -> None:
    frame = pd.DataFrame(
        {
            "f": np.float32([0.1, np.inf]), "t": pd.to_datetime(["2026-01-01 12:00:00.500000", None]), "d": [Decimal("1.10"), None], "b": [b"\x00", None],
            "l": [[1.5, float("nan")], None], "j": [{"a": [1, None]}, None], "i": pd.array([BIG, None], dtype="Int64"),
        }
    )  # fmt: skip
    (chunk,) = columns.encode_json_rows(frame, 10)
    first, second = _objects(chunk.literals[0].decode())
    assert first == {
        "f": Decimal("0.1"), "t": "2026-01-01T12:00:00.5", "d": Decimal("1.10"), "b": "\\x00", "l": [Decimal("1.5"), "NaN"], "j": {"a": [1, None]}, "i": BIG,
    }  # fmt: skip
    assert second == {"f": "Infinity", "t": None, "d": None, "b": None, "l": None, "j": None, "i": None}


def _objects(literal: str) -> list[Any]:
    decoder = json.JSONDecoder(parse_float=Decimal)
    plain = literal[1:-1]
    return [decoder.decode(part.replace('\\"', '"').replace("\\\\", "\\")) for part in (plain[1:-1].split('","'))]


@pytest.mark.parametrize("n", [1, 31, 32, 100])
def test_few_and_many_rows_read_the_same(n: int) -> None:
    frame = pd.DataFrame(
        {"f": [1.0, 0.1, 1e16, -0.0] * n, "r": np.float32([0.1] * 4 * n), "i": range(4 * n), "s": ["a b", "x", "NULL", ""] * n}
    )
    kinds = [
        Column("f", "numeric", "numeric"),
        Column("r", "double precision", "float8"),
        Column("i", "bigint", "int8"),
        Column("s", "text", "text"),
    ]
    ones = [chunk.literals for chunk in columns.encode_frame(frame, kinds, 1)]
    (whole,) = columns.encode_frame(frame, kinds, 400)
    for position in range(4):
        each = [literals[position][1:-1].decode() for literals in ones]
        together = whole.literals[position][1:-1].decode().split(",")
        same = each == together or [Decimal(text) for text in each] == [Decimal(text) for text in together]
        assert same, (each[:4], together[:4])
    assert ones[0][1] == b"{0.10000000149011612}"


@pytest.mark.parametrize("n", [1, 100])
def test_one_array(n: int) -> None:
    for values, kind, text in (
        (np.array([True]), "bool", "true"), (np.array([7]), "int8", "7"), (np.array([1.5]), "float8", "1.5"), (np.array([np.nan]), "float8", "NaN"),
        (np.array(["a b"]), "text", '"a b"'), (np.array(["NULL"], object), "text", '"NULL"'), (np.float32([0.1]), "float4", "0.1"),
    ):  # fmt: skip
        assert columns.encode_array(np.repeat(values, n), kind).decode() == "{" + ",".join([text] * n) + "}"
