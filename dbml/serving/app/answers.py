"""Scores on their way out: as JSON values, as CSV, as an Arrow stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"


def to_json(value: Any) -> bytes:
    """Write JSON; NaN and infinities become null, as JSON has none; numpy and pandas values become plain ones."""
    return orjson.dumps(value, default=plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def plain(value: Any) -> Any:
    """Return a value of plain Python for one that JSON does not know.

    Raises: TypeError for what has no JSON form.
    """
    if isinstance(value, np.ndarray):
        return value.tolist()  # of objects, or not in the order of C: what orjson leaves
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="records")
    if isinstance(value, pd.Series | pd.Index):
        return value.tolist()
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, set | frozenset | map | range):
        return list(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def as_list(scores: npt.NDArray[Any] | pd.DataFrame | pd.Series | list[Any]) -> Any:
    """Return scores as lists of plain values."""
    return plain(scores) if not isinstance(scores, list) else scores


def columns_of(scores: Any) -> dict[str, Any]:
    """Return scores as named columns: `prediction`, or `0`, `1`, … where there are several a row."""
    if isinstance(scores, pd.DataFrame):
        return {str(name): scores[name].to_numpy() for name in scores.columns}
    array = np.asarray(scores)
    if array.ndim == 2:
        return {str(at): array[:, at] for at in range(array.shape[1])}
    return {"prediction": array}


def to_arrow(scores: Any) -> bytes:
    """Write scores as an Arrow stream, a column `prediction` or one for each of several."""
    import pyarrow as pa

    columns = columns_of(scores)
    batch = pa.record_batch([pa.array(values, from_pandas=False) for values in columns.values()], names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def to_csv(scores: Any) -> bytes:
    """Write scores as CSV with a line of names."""
    text: str = pd.DataFrame(columns_of(scores)).to_csv(index=False)
    return text.encode()
