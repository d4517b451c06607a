"""Rows of a request, from whatever body they came in, checked against the model's signature.

A body becomes a DataFrame where columns have names, else a two-dimensional array in the model's order.  Nothing is
guessed: a missing column, one of another type, a row of another length is refused by name.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml.serving.app.problems import BadRequest

Rows: TypeAlias = "pd.DataFrame | npt.NDArray[Any]"

_NUMBERS = frozenset({"double precision", "real", "numeric", "float8", "float4"})
_INTEGERS = frozenset({"bigint", "integer", "smallint", "int8", "int4", "int2"})
_WORDS = {"double precision": "numbers", "bigint": "whole numbers", "boolean": "true or false", "text": "text"}


class Known(NamedTuple):
    """A schema of numbers, and the bytes of its message, with which a stream begins."""

    head: bytes
    schema: Any


class Expected:
    """The features that a model's signature names; none where it has no signature, and then every row will do.

    signature: {"features": [{"name": …, "type": …}], "n_features": …}, as dbml.models has it.
    """

    def __init__(self, signature: Mapping[str, Any]) -> None:
        features = signature.get("features") or []
        self.names = [str(feature["name"]) for feature in features]
        self.types = {str(feature["name"]): _family(feature.get("type")) for feature in features}
        count = signature.get("n_features")
        self.count: int | None = len(self.names) or (int(count) if count is not None else None)
        self.numeric = bool(self.names) and all(self.types[name] == "double precision" for name in self.names)
        self.known: Known | None = None  # of the last Arrow stream that was one of numbers: a client's are mostly alike

    def takes_as_array(self, schema: Any) -> bool:
        """Tell whether an Arrow schema has each column once, all numbers: then a frame is not needed."""
        return self.numeric and _are_numbers(schema, self.names)

    def fit(self, rows: Rows) -> Rows:
        """Return the rows as the model takes them: columns in its order, values of its types.

        Raises: BadRequest, which names the column.
        """
        if isinstance(rows, pd.DataFrame):
            return self._fit_frame(rows) if self.names else rows
        if self.count is not None and rows.shape[1] != self.count:
            raise BadRequest(f"the model takes {self.count} features, got {rows.shape[1]} in a row", n_features=self.count)
        if self.names:
            return rows if self.numeric and rows.dtype.kind in "fiu" else self._fit_frame(pd.DataFrame(rows, columns=self.names))
        return rows

    def _fit_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            frame = frame.rename(columns=_with_spaces(missing, frame.columns))
            missing = [name for name in missing if name not in frame.columns]
        if missing:
            raise BadRequest(
                f"the model's feature {missing[0]!r} is not in the input, which has {_listed(frame.columns)}", missing=missing
            )
        if frame.columns.has_duplicates:
            raise BadRequest(f"column {str(frame.columns[frame.columns.duplicated()][0])!r} is in the input twice")
        return pd.DataFrame({name: _convert(frame[name], name, self.types[name]) for name in self.names}, index=frame.index)


def _with_spaces(missing: Sequence[str], columns: Iterable[Any]) -> dict[Any, str]:
    """Return the columns that are features of LightGBM's, by the names that it has given them (dbml/features.py says the same).

    It writes an underscore for each space, and forgets how the name was.
    """
    wanted = frozenset(missing)
    plain = [(str(column).replace(" ", "_"), column) for column in columns]
    counts = Counter(name for name, _ in plain)
    return {column: name for name, column in plain if name in wanted and counts[name] == 1}


def _family(declared: object) -> str | None:
    kind = str(declared).split("(")[0].strip() if declared else None
    if kind is None:
        return None
    if kind in _NUMBERS:
        return "double precision"
    if kind in _INTEGERS:
        return "bigint"
    return (
        "boolean"
        if kind in ("boolean", "bool")
        else "text"
        if kind in ("text", "character varying", "varchar", "character")
        else None
    )


def _convert(column: pd.Series, name: str, family: str | None) -> pd.Series:
    """Return a column in its declared family; NULL is NaN in numbers and None in text."""
    if family is None or (family == "double precision" and column.dtype == np.float64):
        return column
    kind = "O" if column.dtype == object or not isinstance(column.dtype, np.dtype) else column.dtype.kind
    try:
        if family in ("double precision", "bigint"):
            if kind == "O":
                _refuse(
                    column, name, family, lambda value: isinstance(value, int | float | np.number) and not isinstance(value, bool)
                )
                column = pd.to_numeric(column.where(column.notna(), np.nan))
            elif kind not in "iuf":
                raise ValueError
            if family == "bigint" and column.isna().any() is np.False_ and column.dtype.kind == "f":
                if not (column == column.round()).all():
                    raise ValueError
                return column.astype(np.int64)
            return column.astype(np.float64) if family == "double precision" else column
        if family == "boolean":
            if kind == "O":
                _refuse(column, name, family, lambda value: isinstance(value, bool | np.bool_))
            elif kind != "b":
                raise ValueError
            return column
        if kind in "iufb":
            raise ValueError
        _refuse(column, name, family, lambda value: isinstance(value, str))
    except (ValueError, TypeError, OverflowError):
        value = column.iloc[0] if len(column) else None
        raise BadRequest(f"column {name!r} must hold {_WORDS[family]}, got {_short(value)}", column=name) from None
    return column.astype(object).where(column.notna(), None)


def _refuse(column: pd.Series, name: str, family: str, is_right: Any) -> None:
    for at, value in enumerate(column):
        if value is not None and value is not pd.NA and not (isinstance(value, float) and value != value) and not is_right(value):
            raise BadRequest(f"column {name!r} must hold {_WORDS[family]}, got {_short(value)} in row {at + 1}", column=name)


def _short(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[Any] | pd.Index) -> str:
    shown = [str(name) for name in list(names)[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if len(names) else "no columns"


def from_json(value: Any, what: str = "data") -> Rows:
    """Make rows of parsed JSON: a list of lists, of objects, of numbers (one row each a column), or {column: values}.

    Raises: BadRequest.
    """
    if isinstance(value, Mapping):
        return from_columns(value, what)
    if not isinstance(value, list):
        raise BadRequest(f"{what} must be a list of rows, got {_short(value)}")
    if value and isinstance(value[0], Mapping):
        for at, row in enumerate(value):
            if not isinstance(row, Mapping):
                raise BadRequest(f"row {at + 1} of {what} must be an object like the first, got {_short(row)}")
        return pd.DataFrame.from_records(value)
    if value and not isinstance(value[0], list):
        raise BadRequest(f"{what} must be a list of rows, each a list or an object; got {_short(value[0])} as a row")
    return from_lists(value, what)


def from_lists(value: Sequence[Any], what: str) -> npt.NDArray[Any]:
    """Make an array of a list of rows, float64 where all values are numbers or null, else of objects."""
    try:
        array = np.array(value)
        if array.ndim == 2 and array.dtype.kind in "fiub" and array.size:
            return array.astype(np.float64, copy=False)  # numbers alone, which is what most have
    except (ValueError, TypeError, OverflowError):
        pass  # of several lengths, or more than numbers: said below
    width = len(value[0]) if value else 0
    for at, row in enumerate(value):
        if not isinstance(row, list) or len(row) != width:
            got = f"{len(row)} values" if isinstance(row, list) else _short(row)
            raise BadRequest(f"row {at + 1} of {what} must be a list of {width} values like the first, got {got}")
    try:
        array = np.array(value, dtype=np.float64)  # null becomes NaN; text that looks like a number would too
        if array.ndim == 2 and not _has_text(value):
            return array
    except (ValueError, TypeError):
        pass
    array = np.empty((len(value), width), dtype=object)
    for at, row in enumerate(value):
        array[at, :] = row
    return array


def _has_text(value: Sequence[Sequence[Any]]) -> bool:
    return any(isinstance(item, str) for row in value for item in row)


def from_columns(value: Mapping[str, Any], what: str) -> pd.DataFrame:
    """Make a frame of {column: list of values}."""
    lengths = set()
    for name, values in value.items():
        if not isinstance(values, list):
            raise BadRequest(f"column {name!r} of {what} must be a list of values, got {_short(values)}")
        lengths.add(len(values))
    if len(lengths) > 1:
        raise BadRequest(f"the columns of {what} must be equally long, got lengths {', '.join(map(str, sorted(lengths)))}")
    return pd.DataFrame(dict(value))


def from_split(value: Any, what: str) -> Rows:
    """Make a frame of {"columns": […], "data": [[…]]}, pandas' split orientation; without columns, an array.

    Raises: BadRequest.
    """
    if not isinstance(value, Mapping) or "data" not in value:
        raise BadRequest(f"{what} must be an object with columns and data")
    if not isinstance(value["data"], list):
        raise BadRequest(f"data of {what} must be a list of rows, got {_short(value['data'])}")
    array = from_lists(value["data"], f"data of {what}")
    columns = value.get("columns")
    if columns is None:
        return array
    if not isinstance(columns, list) or (len(array) and len(columns) != array.shape[1]):
        count = len(columns) if isinstance(columns, list) else "no list of"
        raise BadRequest(f"{what} has {count} columns for rows of {array.shape[1]} values")
    frame = pd.DataFrame(array if len(array) else None, columns=columns)
    return frame if array.dtype != object else frame.infer_objects()


def from_csv(body: bytes) -> pd.DataFrame:
    """Read a CSV body; its first line holds the names."""
    try:
        return pd.read_csv(io.BytesIO(body))
    except (ValueError, UnicodeDecodeError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise BadRequest(f"the body could not be read as CSV: {error}") from None


def from_arrow(body: bytes, expected: Expected | None = None) -> Rows:
    """Read an Arrow IPC stream or file; as an array in the model's order, where that is expected and all are numbers."""
    import pyarrow as pa

    try:
        source = pa.BufferReader(body)
        if expected is not None and expected.known is not None and body.startswith(expected.known.head):
            source.seek(len(expected.known.head))
            return _together(_messages(source, expected.known.schema), expected.names)
        is_file = body[:6] == b"ARROW1"
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        if expected is not None and expected.takes_as_array(reader.schema):
            if not is_file:
                expected.known = Known(body[: source.tell()], reader.schema)
            return _together(_batches(reader), expected.names)
        table = reader.read_all()
        table.validate(full=True)
        frame: pd.DataFrame = table.to_pandas()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise BadRequest(f"the body could not be read as an Arrow stream: {error}") from None
    return frame


def _messages(source: Any, schema: Any) -> Iterator[Any]:
    """Yield the batches of a stream whose schema has been read: what a reader of streams does, without making one."""
    import pyarrow as pa

    while True:
        try:
            message = pa.ipc.read_message(source)
        except EOFError:
            return
        yield pa.ipc.read_record_batch(message, schema)


def _together(batches: Iterable[Any], names: Sequence[str]) -> npt.NDArray[Any]:
    arrays = [_array(batch, names) for batch in batches]
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty((0, len(names))), *arrays])


def _batches(reader: Any) -> Any:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(at) for at in range(reader.num_record_batches))
    return iter(reader)


def _array(batch: Any, names: Sequence[str]) -> npt.NDArray[Any]:
    """Return columns of a batch, (n, features) float64, column by column in memory; NULL is NaN."""
    batch.validate(full=True)
    chosen = batch if batch.schema.names == names else batch.select(names)
    array: npt.NDArray[Any] = chosen.to_tensor(null_to_nan=True, row_major=False).to_numpy()
    return array.astype(np.float64, copy=False)


def _are_numbers(schema: Any, names: Sequence[str]) -> bool:
    """Tell whether a schema has each of these columns once, as floats of 32 or 64 bits or whole numbers."""
    import pyarrow as pa

    known = (pa.float64(), pa.float32(), pa.int64(), pa.int32(), pa.int16(), pa.int8())
    types = dict(zip(schema.names, schema.types, strict=True))
    return len(types) == len(schema.names) and all(types.get(name) in known for name in names)
