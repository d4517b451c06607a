"""Bulk: whole columns into texts and array literals by Arrow's kernels, where no value needs a look of its own.

It may give a column up (None), never refuse one: what is given up goes value by value, in dbml.columns.values, which
knows the exact rules and names the offender.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dbml.columns.kinds import DAY_US, INT64_LOWEST, INT64_MAX, INTEGER_RANGE, TICKS, UTC_CLOCK, Column
from dbml.columns.modifiers import cuts

_PLAIN = r"^[A-Za-z0-9_.:+\-/]+$"
_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_YEAR_1_US, _YEAR_10000_US = -62_135_596_800_000_000, 253_402_300_800_000_000
FEW = 32  # values that a loop writes sooner than Arrow's kernels start
_MOST_BYTES = 2**30  # Arrow counts a string array's bytes in int32


def texts(series: Any, column: Column) -> Any:
    """Return a column as a pyarrow string array, NULL as null, or None where it must go value by value.

    The texts are what PostgreSQL reads as column.type, whatever the session's settings.
    """
    dtype = series.dtype
    if cuts(column.type):
        return None
    if len(series) < FEW and not (dtype.kind == "f" and dtype.itemsize == 4):  # a loop would see floats of eight bytes
        return None
    return whole(series, column)


def whole(series: Any, column: Column) -> Any:
    """Return the same for a column of any length, of a type that cuts nothing off."""
    dtype, kind = series.dtype, column.kind
    if isinstance(dtype, pd.StringDtype):
        return _strings(series) if kind == "text" else None
    if dtype.kind == "M":
        return _stamps(series, kind)
    if dtype.kind == "m":
        return _spans(series) if kind == "interval" else None
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        values = series.to_numpy()
        if dtype.kind == "f" and dtype.itemsize not in (4, 8):
            return None
        array = pa.array(values, mask=np.isnan(values) if dtype.kind == "f" else None)
    elif isinstance(dtype, pd.BooleanDtype) or type(dtype).__name__.removeprefix("U").startswith(("Int", "Float")):
        array = pa.array(series.array)  # NaN stays a value, <NA> is null
    else:
        return None
    return _numbers(array, kind)


def literal(array: Any, kind: str) -> bytes:
    """Return a string array as an array literal, with quotes where they are needed."""
    if kind in ("timestamp", "timestamptz"):
        array = pc.binary_join_element_wise('"', array, '"', "")
    elif kind == "text":
        # Not ascii_upper() == "NULL": in Arrow 26 it reads the wrong bytes of an array cast from a slice.
        plain = pc.and_not(pc.match_substring_regex(array, _PLAIN), pc.match_substring_regex(array, "(?i)^null$"))
        if pc.all(plain, min_count=0).as_py() is not True:
            safe = array
            if pc.any(pc.match_substring_regex(array, r'["\\]')).as_py():
                safe = pc.replace_substring(pc.replace_substring(array, "\\", "\\\\"), '"', '\\"')
            array = pc.if_else(plain, array, pc.binary_join_element_wise('"', safe, '"', ""))
    if array.null_count:
        array = pc.fill_null(array, "NULL")
    rows = pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), array)
    return b"{" + bytes(pc.binary_join(rows, ",")[0].as_buffer()) + b"}"


def _numbers(array: Any, kind: str) -> Any:
    floating = pa.types.is_floating(array.type)
    if pa.types.is_boolean(array.type):
        return array.cast(pa.string()) if kind in ("bool", "text") else None
    if kind in INTEGER_RANGE:
        low, high = INTEGER_RANGE[kind]
        if floating:
            present = array.drop_null().to_numpy(zero_copy_only=False)
            if not (np.isfinite(present).all() and (np.abs(present) < 2.0**63).all() and (present == np.trunc(present)).all()):
                return None
            array = array.cast(pa.int64(), safe=False)
        ends = pc.min_max(array).as_py()
        if ends["min"] is not None and (ends["min"] < low or ends["max"] > high):
            return None
        return array.cast(pa.string())
    if kind == "numeric" or (kind == "text" and not floating):
        return named(array.cast(pa.string())) if floating else array.cast(pa.string())
    if kind == "float8":
        if floating:
            array = array.cast(pa.float64())  # 0.1 of four bytes is another number than 0.1 of eight
        else:
            ends = pc.min_max(array).as_py()
            if ends["min"] is not None and (ends["min"] < -(2**53) or ends["max"] > 2**53):
                return None
        return named(array.cast(pa.string())) if floating else array.cast(pa.string())
    if kind == "float4" and floating:
        if array.type == pa.float64():
            present = array.drop_null().to_numpy(zero_copy_only=False)
            with np.errstate(over="ignore"):
                if not np.array_equal(present.astype(np.float32), present, equal_nan=True):
                    return None
        return named(array.cast(pa.string()))
    return None


def named(array: Any) -> Any:
    """Give what is not finite PostgreSQL's names."""
    if not pc.any(pc.match_substring(array, "n")).as_py():
        return array
    for short, name in _NAMES.items():
        array = pc.if_else(pc.equal(array, short), name, array)
    return array


def _strings(series: Any) -> Any:
    try:
        array = pa.array(series.array, type=pa.large_string())
    except (pa.ArrowException, UnicodeError):  # lone surrogates
        return None
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if (pc.sum(pc.binary_length(array)).as_py() or 0) > _MOST_BYTES or pc.any(pc.match_substring(array, "\0")).as_py():
        return None
    return array.cast(pa.string())


def _us(series: Any) -> tuple[Any, Any] | None:
    """Return microseconds since 1970 and the mask of NaT; None where that is not exact or in no common range."""
    values = series.to_numpy()
    times, divisor = TICKS[np.datetime_data(values.dtype)[0]]
    numbers = values.view(np.int64)
    null = np.isnat(values)
    present = numbers[~null]
    if divisor > 1:
        if (present % divisor).any() or ((present == INT64_MAX) | (present == INT64_LOWEST)).any():
            return None
        return np.where(null, 0, numbers // divisor), null
    if len(present) and (int(present.min()) < INT64_LOWEST // 8 // times or int(present.max()) > INT64_MAX // 8 // times):
        return None
    return np.where(null, 0, numbers) * times, null


def _stamps(series: Any, kind: str) -> Any:
    zone = getattr(series.dtype, "tz", None)
    aware = zone is not None
    if zone is UTC_CLOCK and kind == "timestamp":
        series, aware = series.dt.tz_localize(None), False
    if kind not in (("timestamptz",) if aware else ("timestamp", "date")) or isinstance(series.dtype, pd.ArrowDtype):
        return None
    found = _us(series.dt.tz_convert("UTC").dt.tz_localize(None) if aware else series)
    if found is None:
        return None
    us, null = found
    if len(us) and (int(us.min()) < _YEAR_1_US or int(us.max()) >= _YEAR_10000_US):
        return None
    if kind == "date":
        if (us % DAY_US).any():
            return None
        return pa.array((us // DAY_US).astype(np.int32), mask=null).cast(pa.date32()).cast(pa.string())
    array = pa.array(us, mask=null).cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(array, "+00", "") if aware else array


def _spans(series: Any) -> Any:
    found = _us(series)
    if found is None:
        return None
    us, null = found
    sign = pc.if_else(pa.array(us < 0), "-", "")
    days, rest = np.divmod(np.abs(us), DAY_US)
    seconds, micro = np.divmod(rest, 1_000_000)
    fraction = pc.utf8_lpad(pa.array(micro).cast(pa.string()), 6, "0")
    days_text = pa.array(days, mask=null).cast(pa.string())
    return pc.binary_join_element_wise(
        "P", sign, days_text, "DT", sign, pa.array(seconds).cast(pa.string()), ".", fraction, "S", ""
    )
