"""Encode: a script's result into array literals, a column each, of the types that the caller listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.columns.kinds import INT64_LOWEST, INT64_MAX, INTEGER_RANGE, Column
from dbml.columns.literals import array_of_plain, array_of_texts, date_text, float_array, float_text, interval_text, stamp_text
from dbml.columns.natural import column_list, natural_column, natural_columns
from dbml.columns.values import converter, is_missing, json_text, plain

_FRACTION = re.compile(r"(T\d\d:\d\d:\d\d(?:\.\d*[1-9])?)\.?0*")  # to_jsonb prints no zeros at the end
_CHARACTERS = re.compile(r"(?:character varying|character|bit varying|bit)\((\d+)\)$")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a result: names and types of its columns, and an array literal each."""

    n: int
    names: list[str]
    types: list[str]
    literals: list[bytes]


def encode_frame(frame: pd.DataFrame, expected: Sequence[Column] | None, rows: int) -> Iterator[Chunk]:
    """Encode a frame as the expected columns, by position, `rows` rows a chunk.

    Raises: ColumnListMismatch for another number of columns, UnsupportedType for a value that its column's type cannot
    hold exactly.
    """
    width = frame.shape[1]
    if expected is None:
        expected = natural_columns(frame)
    elif len(expected) != width:
        raise errors.ColumnListMismatch(
            f"the script returned {width} columns, the column list has {len(expected)}",
            detail={"returned": width, "listed": len(expected)}, hint=column_list(natural_columns(frame)),
        )  # fmt: skip
    names = [str(name) for name in frame.columns]
    types = [column.type for column in expected]
    series = [_settled(frame.iloc[:, position]) for position in range(width)]
    for start in range(0, len(frame), rows):
        literals = [
            _literal(part.iloc[start : start + rows], name, column)
            for part, name, column in zip(series, names, expected, strict=True)
        ]
        yield Chunk(min(rows, len(frame) - start), names, types, literals)


def encode_array(values: npt.NDArray[Any], kind: str) -> bytes:
    """Encode an array without missing values as a literal; NaN is NaN."""
    if kind in ("float4", "float8"):
        return float_array(values.tolist())
    if kind == "bool":
        return array_of_plain(["t" if value else "f" for value in values.tolist()])
    if kind == "text":
        return array_of_texts([str(value) for value in values.tolist()])
    return array_of_plain(list(map(str, values.tolist())))


def encode_json_rows(frame: pd.DataFrame, rows: int) -> Iterator[Chunk]:
    """Encode a frame as JSON objects, `rows` a chunk, in one literal: values as to_jsonb prints them."""
    natural = natural_columns(frame)
    names = [json_text(column.name) for column in natural]
    cells = [_json_cells(_settled(frame.iloc[:, position]), column) for position, column in enumerate(natural)]
    for start in range(0, len(frame), rows):
        texts = [
            "{" + ",".join([f"{name}:{cell}" for name, cell in zip(names, row, strict=True)]) + "}"
            for row in zip(*(column[start : start + rows] for column in cells), strict=True)
        ]
        yield Chunk(len(texts), ["row"], ["jsonb"], [array_of_texts(texts)])


def _settled(series: Any) -> Any:
    """Return a column without pandas' wrappings: a categorical as its values."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.astype(series.cat.categories.dtype)
    return series


def _json_cells(series: Any, column: Column) -> list[str]:
    texts = _texts(series, column.name, column)
    if column.kind in ("bool", "int2", "int4", "int8", "json", "jsonb"):
        return ["null" if text is None else text for text in texts]
    if column.kind in ("float4", "float8", "numeric"):
        return ["null" if t is None else json_text(t) if t in ("NaN", "Infinity", "-Infinity") else t for t in texts]
    if column.kind in ("timestamp", "timestamptz"):
        return ["null" if text is None else json_text(_FRACTION.sub(r"\1", text.replace(" ", "T", 1))) for text in texts]
    if column.kind.startswith("array:") or column.kind == "textarray":
        return ["null" if is_missing(value) else json_text(_listed(value)) for value in series.tolist()]
    return ["null" if text is None else json_text(text) for text in texts]


def _listed(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_listed(item) for item in value]
    value = plain(value)
    if isinstance(value, float) and not np.isfinite(value):
        return float_text(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value


def _literal(series: Any, name: str, column: Column) -> bytes:
    dtype = series.dtype
    if dtype == np.float64 and column.kind in ("float4", "float8"):
        values = series.to_numpy()
        if not np.isnan(values).any():
            return float_array(values.tolist())
    elif isinstance(dtype, np.dtype) and dtype.kind in "iu" and column.kind in INTEGER_RANGE:
        values = series.to_numpy()
        low, high = INTEGER_RANGE[column.kind]
        if len(values) == 0 or (int(values.min()) >= low and int(values.max()) <= high):
            return array_of_plain(list(map(str, values.tolist())))
    texts = _texts(series, name, column)
    if limit := _CHARACTERS.match(column.type):
        most = int(limit[1])
        long = next((text for text in texts if text is not None and len(text.rstrip(" ")) > most), None)
        if long is not None:
            raise _refuse(name, column, long, "text")
    return array_of_texts(texts)


def _texts(series: Any, name: str, column: Column) -> list[str | None]:
    dtype = series.dtype
    code = dtype.kind
    if code == "M":
        return _stamps(series, name, column)
    if code == "m":
        return _spans(series, name, column)
    if code == "c":
        raise _refuse(name, column, series.iloc[0] if len(series) else "complex", "double precision")
    if code == "f" and not isinstance(dtype, np.dtype):  # nullable: NaN is a value, <NA> is NULL
        mask = series.isna().to_numpy()
        if hasattr(series.array, "_mask"):
            mask = series.array._mask
        found: list[Any] = series.array._data.tolist() if hasattr(series.array, "_data") else series.tolist()
        return _convert(found, mask.tolist(), name, column)
    values = series.tolist()
    return _convert(values, [is_missing(value) for value in values], name, column)


def _convert(values: list[Any], missing: list[bool], name: str, column: Column) -> list[str | None]:
    convert = converter(column.kind)
    texts: list[str | None] = []
    for value, absent in zip(values, missing, strict=True):
        if absent:
            texts.append(None)
            continue
        try:
            texts.append(convert(plain(value)))
        except (ValueError, OverflowError, TypeError, RecursionError):
            raise _refuse(name, column, value, None) from None
    return texts


def _stamps(series: Any, name: str, column: Column) -> list[str | None]:
    aware = getattr(series.dtype, "tz", None) is not None
    kind = column.kind
    if (
        kind not in ("date", "timestamp", "timestamptz", "text")
        or (aware and kind in ("date", "timestamp"))
        or (not aware and kind == "timestamptz")
    ):
        if len(series) == 0 or series.isna().all():
            return [None] * len(series)
        raise _refuse(name, column, series.dropna().iloc[0], "timestamp with time zone" if aware else "timestamp")
    naive = series.dt.tz_convert("UTC").dt.tz_localize(None) if aware else series
    unit = np.datetime_data(naive.to_numpy().dtype)[0]
    numbers = naive.to_numpy().view(np.int64).tolist()
    scale, divide = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}[unit]
    texts: list[str | None] = []
    for number in numbers:
        if number == np.iinfo(np.int64).min:
            texts.append(None)
        elif number in (INT64_MAX, INT64_LOWEST):
            texts.append("infinity" if number > 0 else "-infinity")
        elif number % divide:
            raise _refuse(name, column, f"{_stamp(number, unit)} (nanoseconds)", None)
        elif kind == "date":
            us = number * scale // divide
            if us % 86_400_000_000:
                raise _refuse(name, column, _stamp(number, unit), "timestamp")
            texts.append(date_text(us // 86_400_000_000))
        else:
            text = stamp_text(number * scale // divide)
            texts.append(text.removesuffix(" BC") + "+00" + (" BC" if text.endswith(" BC") else "") if aware else text)
    return texts


def _spans(series: Any, name: str, column: Column) -> list[str | None]:
    if column.kind not in ("interval", "text"):
        raise _refuse(name, column, series.dropna().iloc[0] if len(series.dropna()) else "interval", "interval")
    unit = np.datetime_data(series.to_numpy().dtype)[0]
    scale, divide = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}[unit]
    texts: list[str | None] = []
    for number in series.to_numpy().view(np.int64).tolist():
        if number == np.iinfo(np.int64).min:
            texts.append(None)
        elif number in (INT64_MAX, INT64_LOWEST):
            texts.append("infinity" if number > 0 else "-infinity")
        elif number % divide:
            raise _refuse(name, column, f"{number} ns", None)
        else:
            texts.append(interval_text(number * scale // divide))
    return texts


def _stamp(number: int, unit: Any) -> str:
    return str(np.datetime64(number, unit))


def _refuse(name: str, column: Column, value: Any, fits: str | None) -> errors.UnsupportedType:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "…"
    if fits is None:
        try:
            fits = natural_column(name, pd.Series([value])).type
        except errors.DbmlError:
            fits = None
    return errors.UnsupportedType(
        f'column "{name}": type {column.type} cannot hold {shown} exactly',
        detail={"column": name, "type": column.type, "value": shown},
        hint=f"list it as {fits}, or convert it in the script" if fits and fits != column.type else "convert it in the script",
    )
