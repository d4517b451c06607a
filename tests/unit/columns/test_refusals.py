"""What a type cannot hold exactly is refused with the column, the type and the value; what it can is carried."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dbml import columns, errors
from dbml.columns import Column
from dbml.columns.kinds import type_of_kind


def literal(values: Any, kind: str, type_: str | None = None) -> str:
    series = values if isinstance(values, pd.Series) else pd.Series(values, dtype=object if isinstance(values, list) else None)
    (chunk,) = columns.encode_frame(pd.DataFrame({"odd name": series}), [Column("x", type_ or type_of_kind(kind), kind)], 1000)
    return chunk.literals[0].decode()


@pytest.mark.parametrize(
    ("values", "kind", "type_", "hint"),
    [
        (np.array([1.0, 3.5]), "int8", None, "double precision"), (np.array([1, 2**40]), "int4", None, "bigint"),
        (np.array([np.inf]), "int8", None, "double precision"), (np.array([2.0**63]), "int8", None, "double precision"),
        (np.array([2**53 + 1]), "float8", None, "bigint"), (np.array([2**63], dtype="u8"), "int8", None, "numeric"),
        (np.array([1 / 3]), "float4", None, "double precision"), (np.array([1e300]), "float4", None, "double precision"),
        (np.array([1e-300]), "float4", None, "double precision"), ([Decimal("0.1000000000000000055")], "float8", None, "numeric"),
        ([Decimal("1e400")], "float8", None, "numeric"), (["1"], "int4", None, "text"), ([1], "bool", None, "bigint"),
        ([Decimal("1.005")], "numeric", "numeric(10,2)", "numeric"), ([Decimal("100")], "numeric", "numeric(4,2)", "numeric"),
        ([Decimal("Infinity")], "numeric", "numeric(4,2)", "numeric"), ([Decimal("1e-20000")], "numeric", None, ""),
        (["abcd"], "text", "character varying(3)", "text"), (["abc "], "text", "character varying(3)", "text"),
        (["x" * 64], "text", "name", "text"), (["é"], "text", '"char"', "text"), (["10"], "text", "bit(3)", "text"),
        ([["abcd"]], "textarray", "character varying(3)[]", "text[]"), ([["x" * 64]], "textarray", "name[]", "text[]"),
        (["a\0b"], "text", None, "bytea"), (["\ud800"], "text", None, ""), (["\ud800"], "jsonb", None, ""),
        ([{"a\0": 1}], "jsonb", None, ""), ([{"a": math.nan}], "jsonb", None, ""), ([{1: 1, "1": 2}], "jsonb", None, ""),
        ([{None: 1}], "jsonb", None, ""), ([{"a": {1, 2}}], "jsonb", None, ""),
        ([[1, [2]]], "array:int8", None, "jsonb"), ([[[1], [2, 3]]], "array:int8", None, "jsonb"), ([[[], []]], "array:int8", None, "jsonb"),
        ([[[[[[[[1]]]]]]]], "array:int8", None, ""), ([[2**31]], "array:int4", None, "bigint[]"), ([5], "array:int4", None, "bigint"),
        (pd.Series(pd.to_datetime(["2026-01-01 00:00:00.000000001"])), "timestamp", None, "text"),
        ([pd.Timestamp("2026-01-01 00:00:00.000000001")], "date", None, "timestamp without time zone"),
        (pd.Series(pd.to_datetime(["2026-01-01 12:00"])), "date", None, "timestamp without time zone"),
        (pd.Series(pd.to_datetime(["2026-01-01 12:00"])), "timestamptz", None, "timestamp without time zone"),
        (pd.Series(pd.to_datetime(["2026-01-01 12:00"], utc=True)), "timestamp", None, "timestamp with time zone"),
        (pd.Series(pd.to_datetime(["2026-01-01 12:00:00.5"])), "timestamp", "timestamp(0) without time zone", ""),
        (pd.Series(np.array(["300000-01-01"], "M8[s]")), "timestamp", None, "text"),
        (pd.Series(np.array(["-4800-01-01"], "M8[s]")), "date", None, "text"),
        (pd.Series(np.array(["6000000-01-01"], "M8[s]")), "date", None, "text"),
        (pd.Series(pd.to_timedelta([1], unit="ns")), "interval", None, "text"), (pd.Series(pd.to_timedelta([1], unit="s")), "int8", None, "interval"),
        ([time(1, tzinfo=ZoneInfo("Europe/Paris"))], "timetz", None, ""), ([time(1)], "timetz", None, "time without time zone"),
        (["2026-01-01 00:00:00.1234567"], "timestamp", None, "text"), (["tomorrow BC"], "date", None, "text"), (["99999-x"], "timestamp", None, "text"),
        (np.array([1 + 1j]), "float8", None, ""), ([object()], "text", None, ""), ([b"x"], "text", None, "bytea"),
    ],
)  # fmt: skip
def test_refused_by_name(values: Any, kind: str, type_: str | None, hint: str) -> None:
    with pytest.raises(errors.UnsupportedType, match=r'^column "odd name"') as caught:
        literal(values, kind, type_)
    assert (type_ or type_of_kind(kind)) in caught.value.message
    assert caught.value.detail["column"] == "odd name" and caught.value.detail["value"]
    assert f"list it as {hint}," in str(caught.value.hint) if hint else caught.value.hint


@pytest.mark.parametrize(
    ("values", "kind", "type_", "text"),
    [
        (np.array([1.0, np.nan, -(2.0**63)]), "int8", None, "{1,NULL,-9223372036854775808}"), (np.array([0.1, np.float32(0.1)]), "float4", None, "{0.1,0.10000000149011612}"),
        (np.array([2**53]), "float8", None, "{9007199254740992}"), (np.float32([0.1, np.inf]), "float4", None, "{0.1,Infinity}"),
        ([np.float32("nan"), 1], "int8", None, "{NULL,1}"), ([Decimal("0.1")], "float8", None, "{0.1}"), ([True, None], "bool", None, "{true,NULL}"),
        ([Decimal("-NaN"), Decimal("1E+3")], "numeric", None, "{NaN,1000}"), ([Decimal("1.5000"), 0], "numeric", "numeric(3,1)", "{1.5000,0}"),
        (["a  "], "text", "character(2)", '{"a  "}'), (pd.Series(["é", None]), "text", "character varying(1)", '{"é",NULL}'),
        ([np.array([1.5, np.nan])], "array:float8", None, '{"{1.5,NaN}"}'), ([np.array([[1, 2]])], "array:int4", None, '{"{{1,2}}"}'),
        ([np.array(["2026-01-01"], "M8[ns]")], "array:timestamp", None, '{"{\\"2026-01-01 00:00:00.000000\\"}"}'), ([(1, None)], "array:int8", None, '{"{1,NULL}"}'),
        (["\ud800"], "json", None, '{"\\"\\\\ud800\\""}'), (["\0"], "json", None, '{"\\"\\\\u0000\\""}'), ([{"n": 10**5000}], "jsonb", None, '{"{\\"n\\":1' + "0" * 5000 + '}"}'),
        ([10**5000], "numeric", None, "{1" + "0" * 5000 + "}"), (pd.Series(pd.to_timedelta([-1, None], unit="us")), "interval", None, "{P-0DT-0.000001S,NULL}"),
        ([timedelta(days=-1, microseconds=5)], "interval", None, "{P-0DT-86399.999995S}"), (pd.Series([pd.NaT, pd.NaT]), "date", None, "{NULL,NULL}"),
        (pd.Categorical([2**60 + 1, None]), "int8", None, "{1152921504606846977,NULL}"), (pd.Categorical(["x", None]), "text", None, "{x,NULL}"),
        (pd.Series([2**60 + 1, None], dtype=pd.ArrowDtype(pa.int64())), "int8", None, "{1152921504606846977,NULL}"),
        (pd.Series(["a b", None], dtype=pd.ArrowDtype(pa.string())), "text", None, '{"a b",NULL}'), (pd.arrays.SparseArray([0, 1]), "int8", None, "{0,1}"),
        (pd.Series([1, None], dtype="UInt8"), "float4", None, "{1,NULL}"), ([date(44, 3, 15)], "date", None, "{0044-03-15}"),
        (pd.Series([datetime(2026, 1, 1, tzinfo=UTC)]), "timestamptz", None, '{"2026-01-01 00:00:00.000000+00"}'),
        (pd.Series(np.array(["-0043-03-15"], "M8[s]")), "date", None, '{"0044-03-15 BC"}'), ([time(1, 2, tzinfo=UTC)], "timetz", None, "{01:02:00+00:00}"),
        (np.float16([1.5]), "float8", None, "{1.5}"), ([], "int8", None, None),
    ],
)  # fmt: skip
def test_carried(values: Any, kind: str, type_: str | None, text: str | None) -> None:
    if text is None:
        assert list(columns.encode_frame(pd.DataFrame({"x": values}), [Column("x", "bigint", kind)], 10)) == []
        return
    assert literal(values, kind, type_) == text


def read(kind: str, content: bytes) -> pd.DataFrame:
    lines = [b"", struct.pack("!i", len(content)).hex().encode(), content.hex().encode()]
    if kind in ("interval", "time", "timetz", "timestamp"):
        del lines[1]
    builder = columns.FrameBuilder([Column("odd name", type_of_kind(kind), kind)])
    builder.append(b"\n".join(lines), 1)
    return builder.frame()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("interval", struct.pack("!qii", 0, 0, 1)), ("interval", struct.pack("!qii", 0, 106_751_992, 0)), ("time", struct.pack("!q", 86_400_000_000)),
        ("timetz", struct.pack("!qi", 86_400_000_000, 0)), ("timestamp", struct.pack("!q", 9_223_371_331_199_999_999)),
        ("jsonb", b"[" * 100_000 + b"]" * 100_000), ("text", b"\xff"), ("json", b"\xff"),
    ],
)  # fmt: skip
def test_what_pandas_cannot_hold(kind: str, content: bytes) -> None:
    with pytest.raises(errors.UnsupportedType, match=f'column "odd name" of type {type_of_kind(kind)} ') as caught:
        read(kind, content)
    assert caught.value.hint


def test_long_numbers_are_exact() -> None:
    digits = "1" + "23456789" * 1000
    assert read("jsonb", digits.encode()).iloc[0, 0] == int(Decimal(digits))
    assert read("jsonb", b"[1.10, 0.12345678901234567890, 1e400]").iloc[0, 0] == [
        1.1,
        Decimal("0.12345678901234567890"),
        Decimal("1e400"),
    ]
    spans = read("interval", struct.pack("!qii", -(2**62), 106_000_000, 0))["odd name"].to_numpy()
    assert spans.view(np.int64).tolist() == [106_000_000 * 86_400_000_000 - 2**62]


def test_two_columns_of_one_name() -> None:
    with pytest.raises(errors.InvalidArgument, match='"a"'):
        columns.FrameBuilder([Column("a", "text", "text"), Column("a", "text", "text")])
    with pytest.raises(errors.InvalidArgument, match='"a"'):
        list(columns.encode_json_rows(pd.DataFrame([[1, 2]], columns=["a", "a"]), 9))


def test_another_number_of_columns() -> None:
    frame = pd.DataFrame({"a": [1], "left": ["x"]})
    with pytest.raises(errors.ColumnListMismatch) as caught:
        list(columns.encode_frame(frame, [Column("a", "bigint", "int8")], 9))
    assert caught.value.hint == 'AS t(a bigint, "left" text)'
    with pytest.raises(errors.ColumnListMismatch):
        list(columns.encode_frame(frame.assign(o=object()), [Column("a", "bigint", "int8")], 9))
