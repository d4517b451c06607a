"""Encode: a script's result into array literals, a column each, of the types that the caller listed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dbml import errors
from dbml.columns import bulk
from dbml.columns.json_values import JsonText, json_text
from dbml.columns.kinds import DAY_US, INT64_LOWEST, INT64_MAX, JSON_AS_TEXT, TICKS, UTC_CLOCK, Column, type_of_kind
from dbml.columns.literals import array_of_texts, date_text, float_text, interval_text, stamp_text, with_zone
from dbml.columns.modifiers import keeps
from dbml.columns.natural import column_list, natural_column, natural_columns
from dbml.columns.results import settled
from dbml.columns.values import converter, is_missing, listed, plain

# What PostgreSQL's date and timestamp reach, in microseconds since 1970: from 4714-11-24 BC to the years 5874897 and 294276.
_EARLIEST_US = -2_440_588 * DAY_US
_LATEST_DATE_US = 2_145_042_906 * DAY_US
_LATEST_US = INT64_MAX
_FRACTION = re.compile(r"(T\d\d:\d\d:\d\d(?:\.\d*[1-9])?)\.?0*")  # to_jsonb prints no zeros at the end


@dataclass(frozen=True)
class Chunk:
    """Some rows of a result: names and types of its columns, and an array literal each."""

    n: int
    names: list[str]
    types: list[str]
    literals: list[bytes]


def encode_frame(frame: pd.DataFrame, expected: Sequence[Column] | None, rows: int) -> Iterator[Chunk]:
    """Encode a frame as the expected columns, by position, `rows` rows a chunk.

    NULL: None, NaT, <NA>, and NaN but in nullable Float columns, which tell it from <NA>.
    Raises: ColumnListMismatch for another number of columns, UnsupportedType for a value that its column's type cannot
    hold exactly.
    """
    width = frame.shape[1]
    if expected is None:
        expected = natural_columns(frame)
    elif len(expected) != width:
        raise errors.ColumnListMismatch(
            f"the script returned {width} columns, the column list has {len(expected)}",
            detail={"returned": width, "listed": len(expected)}, hint=_fitting_list(frame),
        )  # fmt: skip
    names = [str(name) for name in frame.columns]
    types = [column.type for column in expected]
    series = [settled(frame.iloc[:, position]) for position in range(width)]
    for start in range(0, len(frame), rows):
        literals = [
            _literal(part.iloc[start : start + rows], name, column)
            for part, name, column in zip(series, names, expected, strict=True)
        ]
        yield Chunk(min(rows, len(frame) - start), names, types, literals)


def encode_array(values: npt.NDArray[Any], kind: str) -> bytes:
    """Encode an array without missing values as a literal; NaN is NaN."""
    if len(values) < bulk.FEW and values.dtype != np.float32:
        return array_of_texts(
            [
                float_text(v) if type(v) is float else str(v).lower() if v is True or v is False else str(v)
                for v in values.tolist()
            ]
        )
    if values.dtype.kind in "biu" or values.dtype in (np.float32, np.float64):
        array = bulk.named(pa.array(np.ascontiguousarray(values)).cast(pa.string()))
    else:
        array = pa.array([str(value) for value in values.tolist()], type=pa.string())
    return bulk.literal(array, kind)


def encode_json_rows(frame: pd.DataFrame, rows: int) -> Iterator[Chunk]:
    """Encode a frame as JSON objects, `rows` a chunk, in one literal: values as to_jsonb prints them.

    Raises: InvalidArgument for two columns of one name, of which JSON would keep one.
    """
    natural = natural_columns(frame)
    names = [column.name for column in natural]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.InvalidArgument(f'a result as JSON has the column "{twice}" more than once', detail={"column": twice})
    keys = [json_text(name) + ":" for name in names]
    series = [settled(frame.iloc[:, position]) for position in range(len(natural))]
    for start in range(0, len(frame), rows):
        cells = [_json_cells(part.iloc[start : start + rows], c) for part, c in zip(series, natural, strict=True)]
        objects = zip(*cells, strict=True) if cells else [()] * min(rows, len(frame) - start)
        texts = ["{" + ",".join([key + cell for key, cell in zip(keys, row, strict=True)]) + "}" for row in objects]
        yield Chunk(len(texts), ["row"], ["jsonb"], [bulk.literal(pa.array(texts, pa.string()), "text")])


def _json_cells(series: Any, column: Column) -> list[str]:
    if column.kind.startswith("array:") or column.kind == "textarray":
        return ["null" if is_missing(value) else _json_list_text(value, column) for value in series.tolist()]
    texts = _texts(series, column.name, column)
    if column.kind in ("bool", "int2", "int4", "int8", "json", "jsonb"):
        return ["null" if text is None else text for text in texts]
    if column.kind in ("float4", "float8", "numeric"):
        return ["null" if t is None else json_text(t) if t in ("NaN", "Infinity", "-Infinity") else t for t in texts]
    if column.kind in ("timestamp", "timestamptz"):
        return ["null" if text is None else json_text(_FRACTION.sub(r"\1", text.replace(" ", "T", 1))) for text in texts]
    return ["null" if text is None else json_text(text) for text in texts]


def _json_list_text(value: Any, column: Column) -> str:
    try:
        return json_text(_json_list(value))
    except (ValueError, TypeError, RecursionError):
        raise _refuse(column.name, column, value, None) from None


def _json_list(value: Any) -> Any:
    value = listed(value)
    if isinstance(value, list):
        return [_json_list(item) for item in value]
    value = plain(value)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return converter("numeric" if isinstance(value, Decimal) else "float8")(value)
    if isinstance(value, bytes | bytearray | memoryview | np.datetime64) and not is_missing(value):
        return converter("timestamp" if isinstance(value, np.datetime64) else "bytea")(value)
    return None if is_missing(value) else value


def _literal(series: Any, name: str, column: Column) -> bytes:
    array = bulk.texts(series, column)
    if array is not None:
        return bulk.literal(array, column.kind)
    return array_of_texts(_one_by_one(series, name, column))


def _texts(series: Any, name: str, column: Column) -> list[str | None]:
    array = bulk.texts(series, column)
    if array is not None:
        found: list[str | None] = array.to_pylist()
        return found
    return _one_by_one(series, name, column)


def _one_by_one(series: Any, name: str, column: Column) -> list[str | None]:
    code = series.dtype.kind
    if code == "M":
        return _stamps(series, name, column)
    if code == "m":
        return _spans(series, name, column)
    if code == "f" and not isinstance(series.dtype, np.dtype):  # nullable: NaN is a value, <NA> is NULL
        array = pa.array(series.array)
        return _convert(array.to_pylist(), array.is_null().to_pylist(), name, column)
    values = series.tolist()
    if column.kind in ("json", "jsonb") and series.attrs.get(JSON_AS_TEXT):
        values = [JsonText(value) if isinstance(value, str) else value for value in values]
    return _convert(values, [is_missing(value) for value in values], name, column)


def _convert(values: list[Any], missing: list[bool], name: str, column: Column) -> list[str | None]:
    convert = converter(column.kind, keeps(column.type))
    texts: list[str | None] = []
    for value, absent in zip(values, missing, strict=True):
        if absent:
            texts.append(None)
            continue
        try:
            texts.append(convert(plain(value)))
        except (ValueError, ArithmeticError, TypeError, RecursionError):
            raise _refuse(name, column, value, None) from None
    return texts


def _stamps(series: Any, name: str, column: Column) -> list[str | None]:
    zone, kind = getattr(series.dtype, "tz", None), column.kind
    if zone is UTC_CLOCK and kind == "timestamp":
        series, zone = series.dt.tz_localize(None), None
    aware = zone is not None
    null = series.isna().to_numpy()
    if kind not in (("text", "timestamptz") if aware else ("text", "timestamp", "date")):
        if null.all():
            return [None] * len(series)
        raise _refuse(name, column, series.dropna().iloc[0], type_of_kind("timestamptz" if aware else "timestamp"))
    naive = (series.dt.tz_convert("UTC").dt.tz_localize(None) if aware else series).to_numpy()
    times, divisor = TICKS[np.datetime_data(naive.dtype)[0]]
    kept = keeps(column.type)
    latest = _LATEST_DATE_US if kind == "date" else _LATEST_US
    texts: list[str | None] = []
    for number, absent in zip(naive.view(np.int64).tolist(), null.tolist(), strict=True):
        if absent:
            texts.append(None)
            continue
        if number in (INT64_MAX, INT64_LOWEST):
            texts.append("infinity" if number > 0 else "-infinity")
            continue
        us, finer = divmod(number * times, divisor)
        if finer or not _EARLIEST_US <= us < latest or (kind == "date" and us % DAY_US):
            fits = "timestamp without time zone" if kind == "date" and not finer and _EARLIEST_US <= us < _LATEST_US else "text"
            raise _refuse(name, column, str(naive[len(texts)]), fits)
        if kind == "date":
            texts.append(date_text(us // DAY_US))
            continue
        text = with_zone(stamp_text(us)) if aware else stamp_text(us)
        if kept is not None and not kept(text):
            raise _refuse(name, column, text, type_of_kind("timestamptz" if aware else "timestamp"))
        texts.append(text)
    return texts


def _spans(series: Any, name: str, column: Column) -> list[str | None]:
    null = series.isna().to_numpy()
    if column.kind not in ("interval", "text"):
        if null.all():
            return [None] * len(series)
        raise _refuse(name, column, series.dropna().iloc[0], "interval")
    values = series.to_numpy()
    times, divisor = TICKS[np.datetime_data(values.dtype)[0]]
    kept = keeps(column.type)
    texts: list[str | None] = []
    for number, absent in zip(values.view(np.int64).tolist(), null.tolist(), strict=True):
        if absent:
            texts.append(None)
        elif number in (INT64_MAX, INT64_LOWEST):
            texts.append("infinity" if number > 0 else "-infinity")
        else:
            us, finer = divmod(number * times, divisor)
            text = interval_text(us)
            if finer or abs(us) >= INT64_MAX or (kept is not None and not kept(text)):
                raise _refuse(name, column, str(values[len(texts)]), "text" if finer else "interval")
            texts.append(text)
    return texts


def _fitting_list(frame: pd.DataFrame) -> str | None:
    try:
        return column_list(natural_columns(frame))
    except errors.UnsupportedType:
        return None  # a column fits no type: that is said when the count is right


def _refuse(name: str, column: Column, value: Any, fits: str | None) -> errors.UnsupportedType:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "…"
    if isinstance(value, str) and "\0" in value:
        fits = "bytea"
    elif fits is None:
        try:
            fits = natural_column(name, pd.Series([value])).type
        except (errors.DbmlError, ValueError, RecursionError):
            fits = None
    return errors.UnsupportedType(
        f'column "{name}": type {column.type} cannot hold {shown} exactly',
        detail={"column": name, "type": column.type, "value": shown},
        hint=f"list it as {fits}, or convert it in the script" if fits and fits != column.type else "convert it in the script",
    )
