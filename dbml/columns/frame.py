"""Frame: decoded chunks into a pandas DataFrame, each type under its own rule (docs/reference/types.md)."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Sequence
from datetime import time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dbml import errors
from dbml.columns.binary import read_array
from dbml.columns.decode import Decoded, decode_rows, split_values
from dbml.columns.json_values import read_json
from dbml.columns.kinds import DAY_US, EPOCH_DAYS, EPOCH_S, FIXED, INT64_LOWEST, INT64_MAX, Column

_NEAR_US = 9.2e18  # below it a sum of days and microseconds is in int64, whatever float64 rounds


class FrameBuilder:
    """Collects the chunks of one input and makes one DataFrame of them.

    Raises: errors.InvalidArgument for two columns of one name.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise errors.InvalidArgument(f'an input has the column "{twice}" more than once', detail={"column": twice})
        self._columns = list(columns)
        self._parts: list[list[Decoded]] = [[] for _ in columns]
        self._counts: list[int] = []

    def append(self, body: bytes, n: int) -> None:
        """Take a chunk of n rows."""
        self.add(decode_rows(body, self._columns, n), n)

    def add(self, decoded: Sequence[Decoded], n: int) -> None:
        """Take n rows that are decoded already."""
        self._counts.append(n)
        for parts, part in zip(self._parts, decoded, strict=True):
            parts.append(part)

    def frame(self) -> pd.DataFrame:
        """Return all rows; without any, columns and dtypes are still there.

        Raises: errors.UnsupportedType for a value that pandas cannot hold; errors.ProtocolMismatch for bytes that are none.
        """
        series = {}
        for position, column in enumerate(self._columns):
            parts, self._parts[position] = self._parts[position], []
            try:
                series[position] = _series(column, parts, self._counts)
            except (ValueError, IndexError, ArithmeticError, struct.error) as error:
                raise errors.ProtocolMismatch(
                    f'column "{column.name}" must hold values of type {column.type} as PostgreSQL sends them: {error}'
                ) from None
            except RecursionError:
                raise errors.UnsupportedType(
                    f'column "{column.name}" of type {column.type} holds a value nested too deeply'
                ) from None
        frame = pd.DataFrame(series, index=pd.RangeIndex(sum(self._counts)))
        frame.columns = pd.Index([column.name for column in self._columns], dtype="str")
        return frame


def cut(frame: pd.DataFrame, start: int, stop: int) -> pd.DataFrame:
    """Return rows start to stop of a frame as if they had come alone: its dtypes are those of these rows."""
    part = frame.iloc[start:stop].reset_index(drop=True)
    for position, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.BooleanDtype | pd.Int64Dtype):
            if not part.iloc[:, position].isna().any():
                part.isetitem(position, part.iloc[:, position].to_numpy("bool" if dtype.kind == "b" else "int64"))
        elif isinstance(dtype, pd.Float64Dtype | pd.Float32Dtype):
            plain = dtype.numpy_dtype
            if not np.isnan(part.iloc[:, position].to_numpy(plain, na_value=0.0)).any():
                part.isetitem(position, part.iloc[:, position].to_numpy(plain, na_value=np.nan))
    return part


def _series(column: Column, parts: list[Decoded], counts: list[int]) -> Any:
    n = sum(counts)
    null = None
    if any(part.null is not None for part in parts):
        null = np.concatenate(
            [np.zeros(count, bool) if part.null is None else part.null for part, count in zip(parts, counts, strict=True)]
        )
    if column.kind in FIXED:
        dtype = np.dtype(FIXED[column.kind]).newbyteorder("=")
        values = np.concatenate([part.values for part in parts if part.values is not None] or [np.empty(0, dtype)])
        return _FIXED[column.kind](column, values, null, n)
    if column.kind == "text":
        return _strings(column, parts, null, n)
    read = _reader(column)
    try:
        found = [read(content) for part in parts for content in split_values(part)]
    except RecursionError:
        raise _refuse(column, "a value nested deeper than Python reads", "cast it to text") from None
    except ValueError as error:
        raise _refuse(column, f"a value that cannot be read: {error}", "cast it to text") from None
    return _objects(found, null, n)


def _spread(values: Any, null: Any, n: int, fill: Any) -> Any:
    """Put values where there is no NULL, and fill where there is."""
    if null is None:
        return values
    full = np.full(n, fill, dtype=values.dtype)
    full[~null] = values
    return full


def _bools(column: Column, values: Any, null: Any, n: int) -> Any:
    full = _spread(values != 0, null, n, False)
    return pd.Series(full if null is None else pd.arrays.BooleanArray(full, null))


def _integers(column: Column, values: Any, null: Any, n: int) -> Any:
    full = _spread(values.astype(np.int64), null, n, 0)
    return pd.Series(full if null is None else pd.arrays.IntegerArray(full, null))


def _floats(column: Column, values: Any, null: Any, n: int) -> Any:
    if np.isnan(values).any():  # NaN is a value of PostgreSQL's: only the nullable dtypes tell it from NULL
        mask = np.zeros(n, bool) if null is None else null
        return pd.Series(pd.arrays.FloatingArray(_spread(values, null, n, 1.0), mask))
    return pd.Series(_spread(values, null, n, np.nan))


def _timestamps(column: Column, values: Any, null: Any, n: int) -> Any:
    infinite = (values == INT64_MAX) | (values == INT64_LOWEST - 1)
    if (values[~infinite] > INT64_MAX - EPOCH_S * 1_000_000 - 1).any():
        raise _refuse(column, "a time after the year 294246", "cast it to text")
    shifted = np.where(
        infinite, np.where(values > 0, INT64_MAX, INT64_LOWEST), values + np.where(infinite, 0, EPOCH_S * 1_000_000)
    )
    stamps = _spread(shifted.astype(np.int64), null, n, np.iinfo(np.int64).min).view("datetime64[us]")
    if column.kind == "timestamptz":
        return pd.Series(stamps).dt.tz_localize("UTC")
    return pd.Series(stamps)


def _dates(column: Column, values: Any, null: Any, n: int) -> Any:
    days = values.astype(np.int64)
    seconds = (days + EPOCH_DAYS) * 86400
    seconds[days == 2**31 - 1] = INT64_MAX
    seconds[days == -(2**31)] = INT64_LOWEST
    return pd.Series(_spread(seconds, null, n, np.iinfo(np.int64).min).view("datetime64[s]"))


def _intervals(column: Column, values: Any, null: Any, n: int) -> Any:
    us, days, months = values["us"].astype(np.int64), values["days"].astype(np.int64), values["months"].astype(np.int64)
    largest = (us == INT64_MAX) & (days == 2**31 - 1) & (months == 2**31 - 1)
    smallest = (us == INT64_LOWEST - 1) & (days == -(2**31)) & (months == -(2**31))
    finite = ~(largest | smallest)
    if (months[finite] != 0).any():
        raise _refuse(column, "months, which have no fixed length", "cast it to text, or pass extract(epoch from …)")
    days, us = days[finite], us[finite]
    far = np.abs(days.astype(np.float64) * DAY_US + us) > _NEAR_US
    if any(abs(d * DAY_US + t) >= INT64_MAX for d, t in zip(days[far].tolist(), us[far].tolist(), strict=True)):
        raise _refuse(column, "a span longer than 292,000 years", "cast it to text")
    total = np.where(largest, INT64_MAX, INT64_LOWEST)
    total[finite] = days * DAY_US + us
    return pd.Series(_spread(total, null, n, np.iinfo(np.int64).min).view("timedelta64[us]"))


def _clock(us: int, zone: timezone | None = None) -> time:
    seconds, micro = divmod(us, 1_000_000)
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, micro, zone)


def _objects(cells: list[Any], null: Any, n: int) -> Any:
    objects = np.full(n, None, dtype=object)
    objects[slice(None) if null is None else ~null] = np.fromiter(cells, dtype=object, count=len(cells))
    return pd.Series(objects, dtype=object)


def _times(column: Column, values: Any, null: Any, n: int) -> Any:
    if (values >= DAY_US).any():
        raise _refuse(column, "24:00:00, which Python's time does not have", "cast it to interval or text")
    return _objects([_clock(us) for us in values.tolist()], null, n)


def _times_with_zone(column: Column, values: Any, null: Any, n: int) -> Any:
    if (values["us"] >= DAY_US).any():
        raise _refuse(column, "24:00:00, which Python's time does not have", "cast it to text")
    pairs = zip(values["us"].tolist(), values["west_s"].tolist(), strict=True)
    return _objects([_clock(us, timezone(timedelta(seconds=-west))) for us, west in pairs], null, n)


def _uuids(column: Column, values: Any, null: Any, n: int) -> Any:
    raw = values.tobytes()
    return _objects([uuid.UUID(bytes=raw[i : i + 16]) for i in range(0, len(raw), 16)], null, n)


_FIXED: dict[str, Callable[[Column, Any, Any, int], Any]] = {
    "bool": _bools, "int2": _integers, "int4": _integers, "int8": _integers, "oid": _integers, "float4": _floats,
    "float8": _floats, "date": _dates, "timestamp": _timestamps, "timestamptz": _timestamps, "time": _times,
    "timetz": _times_with_zone, "interval": _intervals, "uuid": _uuids,
}  # fmt: skip


def _strings(column: Column, parts: list[Decoded], null: Any, n: int) -> Any:
    """Make a str column by laying Arrow's offsets over the bytes as they came."""
    lengths = np.zeros(n, dtype=np.int64)
    found = [part.lengths for part in parts if part.lengths is not None]
    if found:
        lengths[slice(None) if null is None else ~null] = np.concatenate(found)
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    valid = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    content = b"".join(part.content for part in parts)
    array = pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(content), valid)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raise _refuse(
            column, "bytes that are not UTF-8", "convert_from names their encoding, a cast to bytea sends them"
        ) from None
    return pd.Series(array.to_pandas(types_mapper=lambda _: pd.StringDtype("pyarrow", na_value=np.nan)))


def _reader(column: Column) -> Callable[[bytes], Any]:
    kind = column.kind
    if kind == "numeric":
        return lambda text: Decimal(text.decode("ascii"))
    if kind in ("json", "jsonb"):
        return read_json
    if kind == "bytea":
        return bytes
    if kind == "textarray":
        return json.loads
    if kind.startswith("array:"):
        element = kind.removeprefix("array:")
        return lambda content: read_array(content, element)
    raise errors.ProtocolMismatch(f"the kind {kind!r} is not known")


def _refuse(column: Column, what: str, hint: str) -> errors.UnsupportedType:
    return errors.UnsupportedType(
        f'column "{column.name}" of type {column.type} holds {what}',
        detail={"column": column.name, "type": column.type},
        hint=hint,
    )
