"""Results: what counts as a script's result, and its columns without wrappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dbml import errors

MOST_COLUMNS = 1600

# Arrow's integers and booleans go to dtypes with a mask: beside NULL, numpy would make floats of them and round.
_MASKED = {
    pa.bool_(): pd.BooleanDtype(), pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(), pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip


def as_frame(value: Any) -> pd.DataFrame | None:
    """Return whatever a script left as its result as a DataFrame; None for None.

    A DataFrame's index is dropped. Series, Arrow tables, polars frames, arrays of one or two dimensions, dicts of columns,
    lists of dicts or of scalars are taken too; an integer beside a missing value stays an integer.
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


def settled(series: Any) -> Any:
    """Return a column without pandas' wrappings: a categorical, sparse or Arrow column as its values."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = pd.Series(series.cat.categories)
        codes = series.cat.codes.to_numpy()
        if (codes < 0).any() and isinstance(values.dtype, np.dtype) and values.dtype.kind in "biu":
            values = values.astype({"b": "boolean", "i": "Int64", "u": "UInt64"}[values.dtype.kind])
        return values.reindex(codes).reset_index(drop=True)
    if isinstance(dtype, pd.SparseDtype):
        return series.sparse.to_dense()
    if isinstance(dtype, pd.ArrowDtype):
        return from_arrow(pa.chunked_array(pa.array(series.array)))
    return series


def from_arrow(column: Any) -> Any:
    """Return an Arrow column as a Series that has lost nothing."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if column.type in (pa.float16(), pa.float32(), pa.float64()):
        if column.type == pa.float16():
            column = column.cast(pa.float32())
        # By hand: to_pandas() makes NULL of NaN.
        return pd.Series(pd.arrays.FloatingArray(column.fill_null(1.0).to_numpy().copy(), column.is_null().to_numpy().copy()))
    return column.to_pandas(types_mapper=_MASKED.get)


def _framed(value: Any) -> pd.DataFrame | None:
    if value is None or isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, pd.Series):
        return value.to_frame(name=value.name if value.name is not None else "c1")
    if hasattr(value, "to_arrow"):
        value = value.to_arrow()
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        frame = pd.DataFrame(dict(enumerate(map(from_arrow, value.columns))), index=pd.RangeIndex(value.num_rows))
        frame.columns = pd.Index(value.column_names, dtype="str")
        return frame
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return from_arrow(value).to_frame(name="c1")
    if isinstance(value, np.ndarray):
        return _from_array(value)
    if isinstance(value, Mapping):
        try:
            return pd.DataFrame({name: _column(cells) for name, cells in value.items()})
        except ValueError as error:
            raise errors.UnsupportedType(f"a dict as a result must hold columns of one length: {error}") from None
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, Mapping) for item in value):
            names = dict.fromkeys(name for item in value for name in item)
            return pd.DataFrame({name: _column([item.get(name) for item in value]) for name in names})
        return pd.DataFrame({"c1": _column(list(value))})
    raise errors.UnsupportedType(
        f"a result must be a DataFrame or what makes one, got {type(value).__name__}",
        hint="OutputDataSet = pandas.DataFrame({'value': [value]})",
    )


def _from_array(value: Any) -> pd.DataFrame:
    if value.dtype.names:
        return pd.DataFrame(value)
    if value.ndim == 1:
        return pd.DataFrame({"c1": value})
    if value.ndim == 2:
        return pd.DataFrame(value, columns=[f"c{i + 1}" for i in range(value.shape[1])])
    raise errors.UnsupportedType(f"an array as a result must have one or two dimensions, got {value.ndim}")


def _column(cells: Any) -> Any:
    """Return a column that pandas does not round: nested lists stay objects, integers beside None or floats integers."""
    if isinstance(cells, str | bytes | int | float) or cells is None or not hasattr(cells, "__iter__"):
        cells = [cells]
    if isinstance(cells, Mapping):
        return cells
    if not isinstance(cells, list | tuple):
        return cells
    classes = set(map(type, cells))
    missing = bool(classes & {type(None), type(pd.NA)})
    if missing and int in classes and not classes - {int, type(None), type(pd.NA)}:
        if any(isinstance(cell, int) and not -(2**63) <= cell < 2**63 for cell in cells):
            return np.fromiter(cells, dtype=object, count=len(cells))
        return pd.array(list(cells), dtype="Int64")
    if missing and classes <= {bool, type(None), type(pd.NA)} and bool in classes:
        return pd.array(list(cells), dtype="boolean")
    rounds = int in classes and len(classes) > 1 and any(type(c) is int and abs(c) > 2**53 for c in cells)
    if rounds or classes & {dict, list, tuple, np.ndarray}:
        return np.fromiter(cells, dtype=object, count=len(cells))
    return list(cells)
