"""Scores on their way out: as JSON values, as CSV, as an Arrow stream."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
from starlette.responses import Response

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
# As Content-Type has them: what is text says in which encoding.
HEADERS = {JSON: b"application/json", ARROW: ARROW.encode(), CSV: b"text/csv; charset=utf-8"}
_WRITTEN = (np.dtype(np.float64), np.dtype(np.int64))  # alike by orjson and in a list
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Quick(Response):
    """An answer of status 200 whose headers are given as they are sent: what a Response looks up and copies is not needed."""

    def __init__(self, body: bytes, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", kind), *headers]


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
    """Return scores as lists of plain values, or as an array that `to_json` writes as it would those."""
    if isinstance(scores, np.ndarray) and scores.dtype in _WRITTEN and scores.flags.c_contiguous and scores.ndim:
        return scores
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
    """Write scores as an Arrow stream, a column `prediction` or one for each of several.

    Source: the Arrow format, "IPC Streaming Format": the schema's message, that of one batch, and a mark of the end.
    """
    import pyarrow as pa

    if isinstance(scores, np.ndarray) and scores.ndim == 1 and scores.dtype == np.float64:  # what most models say
        schema, head = _numbers()
        one = pa.record_batch([pa.array(scores, from_pandas=False)], schema=schema)
        return b"".join((head, one.serialize(), END_OF_STREAM))
    columns = columns_of(scores)
    batch = pa.record_batch([pa.array(values, from_pandas=False) for values in columns.values()], names=list(columns))
    if any(pa.types.is_dictionary(kind) for kind in batch.schema.types):  # their values are messages too
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        content: bytes = sink.getvalue().to_pybytes()
        return content
    return b"".join((batch.schema.serialize(), batch.serialize(), END_OF_STREAM))


@lru_cache(1)
def _numbers() -> tuple[Any, bytes]:
    """Return the schema of one column of float8, and its message."""
    import pyarrow as pa

    schema = pa.schema([("prediction", pa.float64())])
    return schema, schema.serialize().to_pybytes()


def to_csv(scores: Any) -> bytes:
    """Write scores as CSV with a line of names."""
    text: str = pd.DataFrame(columns_of(scores)).to_csv(index=False)
    return text.encode()
