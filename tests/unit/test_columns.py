"""The columnar encoding by itself: pandas is the oracle, and what is malformed or does not fit is refused by name."""

from __future__ import annotations

import contextlib
import json
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml import columns, errors
from dbml.columns import Column


def message(kinds: list[str], rows: list[tuple[Any, ...]]) -> bytes:
    """Encode rows as sql/10_channel/chunk.sql does."""
    forms = {"int8": "!q", "float8": "!d", "bool": "!?"}
    nulls = b"".join(
        struct.pack("!i", i) + bytes(value is None for value in row) for i, row in enumerate(rows) if any(v is None for v in row)
    )
    lines = [nulls]
    for position, kind in enumerate(kinds):
        values = [row[position] for row in rows if row[position] is not None]
        if kind in forms:
            lines.append(b"".join(struct.pack(forms[kind], value) for value in values))
        else:
            texts = [value.encode() for value in values]
            lines += [b"".join(struct.pack("!i", len(text)) for text in texts), b"".join(texts)]
    return b"\n".join(line.hex().encode() for line in lines)


ROW = st.tuples(
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.floats(allow_nan=False)),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
)
KINDS = ["int8", "float8", "bool", "text"]
COLUMNS = [Column(f"c{i}", kind, kind) for i, kind in enumerate(KINDS)]


@given(st.lists(st.lists(ROW, max_size=9), max_size=4))
def test_chunks_become_the_frame_that_pandas_would_make(chunks: list[list[tuple[Any, ...]]]) -> None:
    builder = columns.FrameBuilder(COLUMNS)
    for rows in chunks:
        builder.append(message(KINDS, rows), len(rows))
    frame = builder.frame()
    rows = [row for rows in chunks for row in rows]
    assert list(frame.columns) == ["c0", "c1", "c2", "c3"] and len(frame) == len(rows)
    for position in range(4):
        got = [None if pd.isna(value) else value for value in frame.iloc[:, position]]
        assert got == [row[position] for row in rows]


@given(st.binary(max_size=60), st.integers(0, 5))
def test_a_malformed_chunk_is_refused(body: bytes, n: int) -> None:
    with contextlib.suppress(errors.ProtocolMismatch):
        columns.decode_rows(body, COLUMNS, n)


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-(2**40), 2**40)), st.one_of(st.none(), st.floats())), max_size=9))
def test_the_matrix_is_the_frame_as_numbers(rows: list[tuple[Any, ...]]) -> None:
    matrix = columns.decode_matrix(message(["int8", "float8"], rows), COLUMNS[:2], len(rows))
    wanted = np.array([[np.nan if value is None else float(value) for value in row] for row in rows]).reshape(len(rows), 2)
    np.testing.assert_array_equal(matrix, wanted)


def literal(frame: pd.DataFrame, type_: str, kind: str) -> str:
    (chunk,) = columns.encode_frame(frame, [Column("x", type_, kind)], 1000)
    return chunk.literals[0].decode()


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([1, None, 3], "int8", "{1,NULL,3}"), ([1.0, np.nan], "int4", "{1,NULL}"), (["a", None, "NULL", ""], "text", '{a,NULL,"NULL",""}'),
        (['say "hi"', "back\\slash", "{x}"], "text", '{"say \\"hi\\"","back\\\\slash","{x}"}'),
        ([Decimal("1.10"), Decimal("NaN")], "numeric", "{1.10,NaN}"), ([b"\x00\xff"], "bytea", '{"\\\\x00ff"}'),
        ([[1, 2], None, []], "array:int8", '{"{1,2}",NULL,"{}"}'), ([np.inf, -np.inf, 0.1], "float8", "{Infinity,-Infinity,0.1}"),
        ([{"a": [1, None]}], "jsonb", '{"{\\"a\\":[1,null]}"}'), ([True, False], "bool", "{true,false}"),
        (pd.to_datetime(["2026-11-23 12:00"]), "timestamp", '{"2026-11-23 12:00:00.000000"}'),
        (pd.Categorical(["x", "y", "x"]), "text", "{x,y,x}"),
    ],
)  # fmt: skip
def test_literals(values: Any, kind: str, text: str) -> None:
    assert literal(pd.DataFrame({"x": values}), kind, kind) == text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5], "int8"), ([2**15], "int2"), ([2**70], "int8"), (["1"], "int8"), ([b"x"], "text"), (["x"], "bool"), (["nope"], "uuid"),
        ([1 + 2j], "float8"), ([object()], "jsonb"), ([2**53 + 1], "float8"), (["2026-02-30"], "date"), ([[1, "a"]], "array:int8"),
        (["a\x00b"], "text"), (pd.to_datetime(["2026-01-01 00:00:00.000000001"]), "timestamp"), ([{"a": float("nan")}], "jsonb"),
    ],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_refused_by_name(values: Any, kind: str) -> None:
    with pytest.raises(errors.UnsupportedType, match='"x"'):
        literal(pd.DataFrame({"x": values}), kind, kind)


def test_varchar_is_not_cut() -> None:
    assert literal(pd.DataFrame({"x": ["abc"]}), "character varying(3)", "text") == "{abc}"
    with pytest.raises(errors.UnsupportedType):
        literal(pd.DataFrame({"x": ["abcd"]}), "character varying(3)", "text")


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (pd.Series([1, 2], name="s"), ["s"]), (np.zeros(3), ["c1"]), (np.zeros((2, 2)), ["c1", "c2"]), ([{"a": 1}, {"a": 2, "b": 3}], ["a", "b"]),
        ({"a": [1], "b": [2]}, ["a", "b"]), ([1, 2], ["c1"]), (pa.table({"t": [1]}), ["t"]), ([[1, 2], [3]], ["c1"]),
    ],
)  # fmt: skip
def test_what_counts_as_a_result(value: Any, shape: list[str]) -> None:
    frame = columns.as_frame(value)
    assert frame is not None and list(frame.columns) == shape


@pytest.mark.parametrize("value", [5, "text", np.zeros((2, 2, 2)), {"a": [1], "b": [1, 2]}, object()])
def test_what_does_not(value: Any) -> None:
    with pytest.raises(errors.UnsupportedType):
        columns.as_frame(value)
    assert columns.as_frame(None) is None


def test_a_column_list_quotes_what_sql_would_not_read() -> None:
    frame = pd.DataFrame({"plain": [1], "Odd name": ["a"], "select": [1.5], 'q"q': [True]})
    assert columns.column_list(columns.natural_columns(frame)) == (
        'AS t(plain bigint, "Odd name" text, "select" double precision, "q""q" boolean)'
    )


def test_json_rows_are_exact() -> None:
    frame = pd.DataFrame({"n": [Decimal("12345678901234567890.5")], "i": [2**60], "s": ['"\\'], "f": [float("nan")]})
    (chunk,) = columns.encode_json_rows(frame, 10)
    text = chunk.literals[0].decode()[2:-2].replace('\\"', '"').replace("\\\\", "\\")
    assert json.loads(text, parse_float=Decimal) == {"n": Decimal("12345678901234567890.5"), "i": 2**60, "s": '"\\', "f": None}
