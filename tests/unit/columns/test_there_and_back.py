"""There and back without a database: rows as SQL sends them, into a frame, and out as what SQL would read again.

The oracle is written here by hand: an encoder of the message of sql/10_channel/chunk.sql and a reader of array literals.
"""

from __future__ import annotations

import json
import math
import struct
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbml import columns
from dbml.columns import JSON_NULL, Column

EPOCH = datetime(2000, 1, 1)
MICRO = timedelta(microseconds=1)


def numeric_send(value: Decimal) -> bytes:
    """Write numeric.c's form: base 10000 digits, weight, sign, display scale."""
    if not value.is_finite():
        sign = 0xC000 if value.is_nan() else 0xD000 if value > 0 else 0xF000
        return struct.pack("!HhHH", 0, 0, sign, 0)
    scale = max(0, -int(value.as_tuple().exponent))
    whole, _, fraction = format(value.copy_abs(), "f").partition(".")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    digits = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    if not digits:
        weight = 0
    return struct.pack(f"!HhHH{len(digits)}H", len(digits), weight, 0x4000 if value < 0 else 0, scale, *digits)


def stamp_send(value: Any) -> bytes:
    ends = {"infinity": 2**63 - 1, "-infinity": -(2**63)}
    return struct.pack("!q", ends[value] if isinstance(value, str) else (value - EPOCH) // MICRO)


def date_send(value: Any) -> bytes:
    ends = {"infinity": 2**31 - 1, "-infinity": -(2**31)}
    return struct.pack("!i", ends[value] if isinstance(value, str) else (value - EPOCH.date()).days)


def interval_send(value: timedelta) -> bytes:
    return struct.pack("!qii", value.seconds * 10**6 + value.microseconds, value.days, 0)


SEND: dict[str, Callable[[Any], bytes]] = {
    "bool": lambda v: struct.pack("!?", v), "int2": lambda v: struct.pack("!h", v), "int4": lambda v: struct.pack("!i", v),
    "int8": lambda v: struct.pack("!q", v), "oid": lambda v: struct.pack("!I", v), "float4": lambda v: struct.pack("!f", v),
    "float8": lambda v: struct.pack("!d", v), "date": date_send, "timestamp": stamp_send, "timestamptz": stamp_send,
    "time": lambda v: struct.pack("!q", (datetime.combine(date.min, v) - datetime.min) // MICRO),
    "interval": interval_send, "uuid": lambda v: v.bytes, "text": str.encode, "bytea": bytes,
    "numeric": lambda v: str(v).encode(), "jsonb": lambda v: json.dumps(v).encode(), "json": lambda v: json.dumps(v).encode(),
    "textarray": lambda v: json.dumps(v).encode(),
}  # fmt: skip
FIXED = {
    "bool",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "date",
    "timestamp",
    "timestamptz",
    "time",
    "interval",
    "uuid",
}


def array_send(value: list[Any], element: str) -> bytes:
    send = numeric_send if element == "numeric" else SEND[element]
    flat, sizes = value, [len(value)]
    while flat and isinstance(flat[0], list):
        sizes.append(len(flat[0]))
        flat = [leaf for inner in flat for leaf in inner]
    if not flat:
        return struct.pack("!iiI", 0, 0, 0)
    head = struct.pack("!iiI", len(sizes), None in flat, 0) + b"".join(struct.pack("!ii", size, 1) for size in sizes)
    return head + b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(send(v))) + send(v) for v in flat)


def message(kinds: list[str], rows: list[tuple[Any, ...]]) -> bytes:
    null = b"".join(struct.pack("!i", i) + bytes(v is None for v in row) for i, row in enumerate(rows) if None in row)
    lines = [null]
    for position, kind in enumerate(kinds):
        values = [row[position] for row in rows if row[position] is not None]
        if kind.startswith("array:"):
            sent = [array_send(value, kind.removeprefix("array:")) for value in values]
        else:
            sent = [SEND[kind](value) for value in values]
        lines += [] if kind in FIXED else [b"".join(struct.pack("!i", len(one)) for one in sent)]
        lines.append(b"".join(sent))
    return b"\n".join(line.hex().encode() for line in lines)


def read_literal(text: str) -> list[Any]:
    """Read an array literal as arrayfuncs.c does: nested lists of texts, None for an unquoted NULL."""
    at = 0

    def element() -> Any:
        nonlocal at
        if text[at] == "{":
            at += 1
            found: list[Any] = []
            while text[at] != "}":
                found.append(element())
                assert text[at] in ",}"
                if text[at] == ",":
                    at += 1
                    assert text[at] != "}"
            at += 1
            return found
        if text[at] == '"':
            at += 1
            taken = ""
            while text[at] != '"':
                at += text[at] == "\\"
                taken += text[at]
                at += 1
            at += 1
            return taken
        start = at
        while text[at] not in ",}":
            assert text[at] not in '"\\{ \t\n', "must be quoted"
            at += 1
        assert at > start
        return None if text[start:at].upper() == "NULL" else text[start:at]

    found = element()
    assert at == len(text)
    return list(found)


def read_interval(text: str) -> timedelta:
    days, _, rest = text.removeprefix("P").partition("DT")
    return timedelta(days=int(days)) + int(rest.removesuffix("S").replace(".", "")) * MICRO


def read_stamp(text: str) -> Any:
    return text if "infinity" in text else datetime.fromisoformat(text).replace(tzinfo=None)


READ: dict[str, Callable[[str], Any]] = {
    "bool": lambda t: {"true": True, "false": False}[t], "int2": int, "int4": int, "int8": int, "oid": int,
    "float4": lambda t: float(np.float32(t)), "float8": float, "numeric": Decimal, "text": str, "uuid": uuid.UUID,
    "bytea": lambda t: bytes.fromhex(t.removeprefix("\\x")), "json": json.loads, "jsonb": json.loads,
    "date": lambda t: t if "infinity" in t else date.fromisoformat(t), "timestamp": read_stamp, "timestamptz": read_stamp,
    "time": time.fromisoformat, "interval": read_interval, "textarray": str,
}  # fmt: skip


def read_back(kind: str, text: str | None) -> Any:
    def each(value: Any, read: Callable[[str], Any]) -> Any:
        if isinstance(value, list):
            return [each(item, read) for item in value]
        return None if value is None else read(value)

    if text is None:
        return None
    if kind == "textarray" or kind.startswith("array:"):
        return each(read_literal(text), READ[kind.removeprefix("array:")])
    return READ[kind](text)


def same(left: Any, right: Any) -> bool:
    """Compare exactly: NaN is NaN, 0.0 is not -0.0, 1.10 is not 1.1."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, float | Decimal):
        return (math.isnan(left) and math.isnan(right)) or (left == right and str(left) == str(right))
    return bool(left == right)


def back(kinds: list[str], chunks: list[list[tuple[Any, ...]]], rows_a_chunk: int) -> tuple[pd.DataFrame, list[tuple[Any, ...]]]:
    sent = [Column(f"c{i}", columns.kinds.type_of_kind(kind), kind) for i, kind in enumerate(kinds)]
    builder = columns.FrameBuilder(sent)
    for rows in chunks:
        builder.append(message(kinds, rows), len(rows))
    frame = builder.frame()
    found: list[tuple[Any, ...]] = []
    for chunk in columns.encode_frame(frame, sent, rows_a_chunk):
        cells = [
            [read_back(kind, text) for text in read_literal(literal.decode())]
            for kind, literal in zip(kinds, chunk.literals, strict=True)
        ]
        assert chunk.n <= rows_a_chunk
        assert all(len(column) == chunk.n for column in cells)
        found += zip(*cells, strict=True)
    return frame, found


TEXT = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(["", "NULL", "null", '{"\\', " "])
)
NUMERIC = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=7),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "0.000", "1e-30", "10000", "9" * 5000 + ".5"]).map(Decimal).map(lambda d: Decimal(format(d, "f"))),
)  # fmt: skip
FAR = st.sampled_from(["infinity", "-infinity"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=6,
)  # fmt: skip
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(), "int2": st.integers(-(2**15), 2**15 - 1), "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1), "float4": st.floats(width=32), "float8": st.floats(), "numeric": NUMERIC,
    "uuid": st.uuids(), "bytea": st.binary(max_size=20),
}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = ELEMENTS | {
    "oid": st.integers(0, 2**32 - 1), "text": TEXT, "time": st.times(), "interval": st.timedeltas(timedelta(-106_000_000), timedelta(106_000_000)),
    "date": st.one_of(st.dates(), FAR), "timestamp": st.one_of(st.datetimes(), FAR), "timestamptz": st.one_of(st.datetimes(), FAR),
    "jsonb": JSON, "json": JSON,
}  # fmt: skip
for kind, strategy in [*ELEMENTS.items(), ("text", TEXT), ("date", st.dates()), ("timestamp", st.datetimes())]:
    cell = st.one_of(st.none(), strategy)
    lists = st.one_of(
        st.lists(cell, max_size=9), st.lists(strategy, min_size=6, max_size=9),
        st.integers(1, 3).flatmap(lambda n, cell=cell: st.lists(st.lists(cell, min_size=n, max_size=n), min_size=1, max_size=3)),
    )  # fmt: skip
    VALUES["textarray" if kind == "text" else "array:" + kind] = lists


@pytest.mark.parametrize("kind", VALUES)
def test_every_kind(kind: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.lists(st.tuples(st.one_of(st.none(), VALUES[kind])), max_size=8), max_size=3), st.integers(1, 9))
    def holds(chunks: list[list[tuple[Any, ...]]], rows_a_chunk: int) -> None:
        frame, found = back([kind], chunks, rows_a_chunk)
        rows = [row for rows in chunks for row in rows]
        assert len(frame) == len(rows)
        for sent, got in zip(rows, found, strict=True):
            assert same(sent[0], got[0]), (sent, got)

    holds()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_many_columns_at_once(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    row = st.tuples(*(st.one_of(st.none(), VALUES[kind]) for kind in kinds))
    rows = data.draw(st.lists(row, max_size=6))
    _, found = back(kinds, [rows], 4)
    assert same([list(row) for row in rows], [list(row) for row in found])


def test_the_widest_input() -> None:
    frame, found = back(["int4"] * 1600, [[tuple(range(1600)), (None, *range(1599))]], 1)
    assert frame.shape == (2, 1600)
    assert found == [tuple(range(1600)), (None, *range(1599))]


DTYPES = {
    "bool": "bool", "int2": "int64", "int8": "int64", "oid": "int64", "float4": "float32", "float8": "float64", "text": "str",
    "numeric": "object", "date": "datetime64[s]", "timestamp": "datetime64[us]", "timestamptz": "datetime64[us, UTC]",
    "time": "object", "interval": "timedelta64[us]", "uuid": "object", "jsonb": "object", "bytea": "object", "array:int4": "object",
}  # fmt: skip


@pytest.mark.parametrize("kind", DTYPES)
def test_an_input_without_rows_keeps_its_dtype(kind: str) -> None:
    for chunks in ([], [[]]):
        frame, found = back([kind], chunks, 5)
        assert (list(frame.columns), str(frame.dtypes.iloc[0]), found) == (["c0"], DTYPES[kind], [])


@pytest.mark.parametrize("kind", ["float4", "float8"])
def test_nan_and_null_stay_apart(kind: str) -> None:
    frame, found = back([kind], [[(math.nan,), (None,), (1.5,)]], 9)
    assert str(frame.dtypes.iloc[0]) == ("Float32" if kind == "float4" else "Float64")
    assert same(list(found[0]), [math.nan]) and found[1:] == [(None,), (1.5,)]
    copied = frame.copy().assign(other=1)
    (chunk,) = columns.encode_frame(copied[["c0"]], [Column("c0", "double precision", "float8")], 9)
    assert chunk.literals == [b"{NaN,NULL,1.5}"]


def test_json_null_is_not_null() -> None:
    frame, found = back(["jsonb"], [[(None,)]], 9)
    assert frame.c0.tolist() == [None] and found == [(None,)]
    builder = columns.FrameBuilder([Column("j", "jsonb", "jsonb")])
    builder.append(b"\n00000004\n" + b"null".hex().encode(), 1)
    assert builder.frame().j.tolist() == [JSON_NULL]
    (chunk,) = columns.encode_frame(pd.DataFrame({"j": [JSON_NULL, None]}), [Column("j", "jsonb", "jsonb")], 9)
    assert chunk.literals == [b'{"null",NULL}']


@pytest.mark.parametrize("days", [-2_451_545, -730_120 - 366, 2_921_940, 2_145_031_948])
def test_dates_that_python_has_not(days: int) -> None:
    builder = columns.FrameBuilder([Column("d", "date", "date"), Column("a", "date[]", "array:date")])
    inside = struct.pack("!iiIiiii", 1, 0, 1082, 1, 1, 4, days)
    builder.append(
        b"\n".join([b"", struct.pack("!i", days).hex().encode(), struct.pack("!i", 28).hex().encode(), inside.hex().encode()]), 1
    )
    frame = builder.frame()
    (chunk,) = columns.encode_frame(frame, [Column("d", "date", "date"), Column("a", "date[]", "array:date")], 9)
    one, many = chunk.literals
    assert read_literal(one.decode()) == read_literal(read_literal(many.decode())[0])
    astronomical = str(np.datetime64("2000-01-01", "D") + np.timedelta64(days, "D"))
    year = int(astronomical[:-6].removeprefix("+"))
    assert read_literal(one.decode()) == [f"{year:04}{astronomical[-6:]}" if year > 0 else f"{1 - year:04}{astronomical[-6:]} BC"]
