"""Natural: which PostgreSQL type a column of a result is by itself, and what counts as a result at all."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from dbml import errors
from dbml.columns.kinds import JSON_NULL, Column, type_of_kind
from dbml.columns.values import is_missing, plain

MOST_COLUMNS = 1600

_CLASSES: list[tuple[type, str]] = [
    (bool, "bool"), (int, "int8"), (float, "float8"), (str, "text"), (Decimal, "numeric"), (bytes, "bytea"),
    (bytearray, "bytea"), (memoryview, "bytea"), (datetime, "timestamp"), (date, "date"), (time, "time"),
    (timedelta, "interval"), (uuid.UUID, "uuid"), (dict, "jsonb"), (type(JSON_NULL), "jsonb"),
]  # fmt: skip
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "column",
        "constraint",
        "create",
        "current_catalog",
        "current_date",
        "current_role",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "from",
        "grant",
        "group",
        "having",
        "in",
        "initially",
        "intersect",
        "into",
        "lateral",
        "leading",
        "limit",
        "localtime",
        "localtimestamp",
        "not",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "placing",
        "primary",
        "references",
        "returning",
        "select",
        "session_user",
        "some",
        "symmetric",
        "table",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "when",
        "where",
        "window",
        "with",
    ]
)


def natural_columns(frame: pd.DataFrame) -> list[Column]:
    """Return the columns of a result with the types that they are by themselves."""
    return [natural_column(str(name), frame.iloc[:, position]) for position, name in enumerate(frame.columns)]


def natural_column(name: str, series: Any) -> Column:
    """Return one column likewise.

    Raises: UnsupportedType for values that PostgreSQL has no type for.
    """
    kind = _kind(name, series)
    return Column(name, type_of_kind(kind), kind)


def column_list(columns: Sequence[Column]) -> str:
    """Return a column list as a call writes it: AS t(x bigint, "odd name" text)."""
    return "AS t(" + ", ".join(f"{_quoted(column.name)} {column.type}" for column in columns) + ")"


def _quoted(name: str) -> str:
    if _IDENTIFIER.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def _kind(name: str, series: Any) -> str:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _kind(name, series.cat.categories.to_series())
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "timestamptz"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    match dtype.kind:
        case "b":
            return "bool"
        case "i" | "u":
            return "numeric" if dtype.kind == "u" and len(series) and series.max() > 2**63 - 1 else "int8"
        case "f":
            return "float4" if dtype.itemsize <= 4 else "float8"
        case "M":
            return "timestamp"
        case "m":
            return "interval"
        case "O":
            return _object_kind(name, series)
    raise _unknown(name, str(dtype))


def _object_kind(name: str, series: Any) -> str:
    kinds: set[str] = set()
    for value in series:
        if not is_missing(value):
            kinds.add(_value_kind(name, value))
    if not kinds:
        return "text"
    for wider in ({"int8", "float8"}, {"int8", "numeric"}, {"int8", "float8", "numeric"}):
        if kinds == wider:
            return "numeric" if "numeric" in wider else "float8"
    if len(kinds) == 1:
        return kinds.pop()
    if all(kind.startswith("array:") or kind in ("jsonb", "textarray") for kind in kinds):
        kinds -= {"textarray"} if len(kinds) == 2 and "textarray" in kinds else set()
        return kinds.pop() if len(kinds) == 1 else "jsonb"
    raise _unknown(name, "a mixture of " + " and ".join(sorted(type_of_kind(kind) for kind in kinds)))


def _value_kind(name: str, value: Any) -> str:
    value = plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "timestamptz"
    if isinstance(value, time) and value.tzinfo is not None:
        return "timetz"
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return "numeric"
    for cls, kind in _CLASSES:
        if isinstance(value, cls):
            return kind
    if isinstance(value, list | tuple | np.ndarray):
        return _array_kind(name, value)
    raise _unknown(name, type(value).__name__)


def _array_kind(name: str, value: Any) -> str:
    kinds = {_value_kind(name, item) for item in _flat(value) if item is not None and item is not pd.NA}
    if kinds <= {"int8", "float8"} and kinds:
        return "array:float8" if "float8" in kinds else "array:int8"
    if not kinds or kinds == {"text"}:
        return "textarray"
    if len(kinds) == 1 and (kind := kinds.pop()) in ("bool", "numeric", "date", "timestamp", "timestamptz", "uuid", "bytea"):
        return "array:" + kind
    return "jsonb"


def _flat(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _unknown(name: str, what: str) -> errors.UnsupportedType:
    return errors.UnsupportedType(
        f'column "{name}" holds {what}, which no PostgreSQL type carries',
        detail={"column": name, "type": what},
        hint="convert it in the script: str(value), pickle.dumps(value), or one column for each part",
    )


def as_frame(value: Any) -> pd.DataFrame | None:
    """Return whatever a script left as its result as a DataFrame; None for None.

    A DataFrame's index is dropped. Series, Arrow tables, polars frames, arrays of one or two dimensions, dicts of columns,
    lists of dicts or of scalars are taken too.
    Raises: UnsupportedType for anything else; LimitExceeded beyond 1600 columns.
    """
    frame = _framed(value)
    if frame is None:
        return None
    if isinstance(frame.columns, pd.MultiIndex):
        raise errors.UnsupportedType(
            "a result's columns must have one level, got a MultiIndex",
            hint="OutputDataSet.columns = ['_'.join(c) for c in OutputDataSet.columns]",
        )
    if frame.shape[1] > MOST_COLUMNS:
        raise errors.LimitExceeded(
            f"a result can have {MOST_COLUMNS} columns at most, got {frame.shape[1]}",
            detail={"limit": "columns", "value": MOST_COLUMNS}, hint="return an array column, or rows of (name, value)",
        )  # fmt: skip
    if frame.shape[1] == 0 and len(frame) == 0:
        return None
    return frame


def _framed(value: Any) -> pd.DataFrame | None:
    if value is None or isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, pd.Series):
        return value.to_frame(name=value.name if value.name is not None else "c1")
    if hasattr(value, "to_arrow"):
        value = value.to_arrow()
    if type(value).__module__.startswith("pyarrow") and hasattr(value, "to_pandas"):
        made = value.to_pandas()
        return made if isinstance(made, pd.DataFrame) else made.to_frame(name="c1")
    if isinstance(value, np.ndarray):
        if value.dtype.names:
            return pd.DataFrame(value)
        if value.ndim == 1:
            return pd.DataFrame({"c1": value})
        if value.ndim == 2:
            if value.shape[1] > MOST_COLUMNS:
                return pd.DataFrame(value)
            return pd.DataFrame(value, columns=[f"c{i + 1}" for i in range(value.shape[1])])
        raise errors.UnsupportedType(f"an array as a result must have one or two dimensions, got {value.ndim}")
    if isinstance(value, Mapping):
        try:
            return pd.DataFrame({name: _column(cells) for name, cells in value.items()})
        except ValueError as error:
            raise errors.UnsupportedType(f"a dict as a result must hold columns of one length: {error}") from None
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, Mapping) for item in value):
            return pd.DataFrame(list(value))
        return pd.DataFrame({"c1": _column(list(value))})
    raise errors.UnsupportedType(
        f"a result must be a DataFrame or what makes one, got {type(value).__name__}",
        hint="OutputDataSet = pandas.DataFrame({'value': [value]})",
    )


def _column(cells: Any) -> Any:
    """Return a column; nested lists stay objects."""
    if isinstance(cells, str | bytes | int | float) or cells is None or not hasattr(cells, "__iter__"):
        return [cells]
    if isinstance(cells, list | tuple) and any(isinstance(cell, list | tuple | dict | np.ndarray) for cell in cells):
        column = np.empty(len(cells), dtype=object)
        for i, cell in enumerate(cells):
            column[i] = cell
        return column
    return cells
