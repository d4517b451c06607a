"""Wire: values between Python and the R process, in bytes that base R reads and writes at speed.

A value is one byte, its tag, and what the tag says; numbers have the machine's own byte order.

    NOTHING                          NULL
    LOGICAL, INTEGER   n, n int32    NA is -2147483648
    DOUBLE             n, n float64  NA is R's own NaN
    INTEGER64          n, n int64    only from R: package bit64
    CHARACTER          n, n int32    lengths in bytes, NA is -1; then all texts, in UTF-8,
                                     from R with a zero after each that is not empty
    RAW                n, n bytes
    LIST               n, n values
    NAMED              a CHARACTER, a value
    CLASSED            one byte (DATE, STAMP, ...), a DOUBLE
    RAWS, SLICES       n, n int32    lengths, NULL is -1; then a vector that they cut: a list of vectors
    FRAME              rows, a CHARACTER of names, a value for each column
    ARRAY              an INTEGER of dimensions, a vector: the first dimension varies fastest

This module knows no process: what it writes goes into a list, what it reads comes from a function.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dbml import errors
from dbml.columns import JSON_NULL, Column
from dbml.columns.json_values import json_text
from dbml.columns.kinds import DAY_US, INT64_LOWEST, INT64_MAX, JSON_AS_TEXT, UTC_CLOCK

NOTHING, LOGICAL, INTEGER, DOUBLE, CHARACTER, RAW, LIST, NAMED, CLASSED, RAWS, SLICES, FRAME, ARRAY, INTEGER64 = range(14)
DATE, STAMP, SPAN, CLOCK, ZONED = range(1, 6)  # ZONED: an instant that R shows in another zone than UTC

NA_INTEGER: Final = -(2**31)
NA_REAL: Final = np.array([0x7FF00000000007A2], np.uint64).view(np.float64)[0]
EXACT: Final = 2**53  # up to here every integer is a double
DIGITS: Final = 15  # of a decimal number that a double always gives back
EPOCH = datetime(1970, 1, 1)
_NAT = np.iinfo(np.int64).min

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Read = Callable[[int], bytes]


@dataclass
class Vector:
    """A vector of R's: tag, class (0 is none), the values as numpy or Arrow has them, and where NA is."""

    tag: int
    kind: int
    values: Any
    missing: Mask

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class Items:
    """A list of R's: of values, or a list column.  names: None where it has none."""

    items: list[Any]
    names: list[str] | None = None


@dataclass
class Named:
    """A vector with names."""

    names: list[str]
    vector: Vector


@dataclass
class Array:
    """A vector with dimensions."""

    dims: list[int]
    vector: Vector


@dataclass
class Table:
    """A data frame of R's."""

    rows: int
    names: list[str]
    columns: list[Any]


# ---------------------------------------------------------------- to R


class Writer:
    """Collects the bytes of values."""

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def _head(self, tag: int, n: int) -> None:
        if n > 2**31 - 1:
            raise errors.LimitExceeded(f"R takes 2147483647 elements at most, got {n}", detail={"limit": "elements"})
        self.parts.append(struct.pack("=bi", tag, n))

    def nothing(self) -> None:
        """Write NULL."""
        self.parts.append(struct.pack("=b", NOTHING))

    def logical(self, values: Any, missing: Mask | None = None) -> None:
        """Write a logical vector."""
        self._integers(LOGICAL, values, missing)

    def integer(self, values: Any, missing: Mask | None = None) -> None:
        """Write an integer vector, of values between -2147483647 and 2147483647."""
        self._integers(INTEGER, values, missing)

    def _integers(self, tag: int, values: Any, missing: Mask | None) -> None:
        array = np.array(values, np.int32)
        if missing is not None:
            array[missing] = NA_INTEGER
        self._head(tag, len(array))
        self.parts.append(array.data.cast("B") if len(array) else b"")

    def double(self, values: Any, missing: Mask | None = None, kind: int = 0) -> None:
        """Write a double vector, of a class where kind says so."""
        array = np.array(values, np.float64)
        if missing is not None:
            array[missing] = NA_REAL
        if kind:
            self.parts.append(struct.pack("=bb", CLASSED, kind))
        self._head(DOUBLE, len(array))
        self.parts.append(array.data.cast("B") if len(array) else b"")

    def character(self, texts: Sequence[str | None]) -> None:
        """Write a character vector; None is NA."""
        contents = [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = np.array([-1 if content is None else len(content) for content in contents], np.int32)
        self._head(CHARACTER, len(contents))
        self.parts += [lengths.tobytes(), b"".join(content for content in contents if content)]

    def strings(self, array: Any) -> None:
        """Write an Arrow array of large strings as a character vector, without a look at each."""
        lengths = pc.binary_length(array).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        if array.null_count:
            array = array.fill_null("")
        _, offsets, content = array.buffers()
        borders = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else [0, 0]
        self._head(CHARACTER, len(array))
        self.parts += [lengths.tobytes(), memoryview(content or b"")[int(borders[0]) : int(borders[-1])]]

    def raw(self, content: bytes) -> None:
        """Write a raw vector."""
        self._head(RAW, len(content))
        self.parts.append(content)

    def raws(self, contents: Sequence[bytes | None]) -> None:
        """Write a list of raw vectors; None is NULL."""
        self._head(RAWS, len(contents))
        self.parts.append(np.array([-1 if content is None else len(content) for content in contents], np.int32).tobytes())
        self.raw(b"".join(content for content in contents if content))

    def items(self, n: int) -> None:
        """Begin a list of n values."""
        self._head(LIST, n)

    def names(self, names: Sequence[str]) -> None:
        """Give names to the value that follows."""
        self.parts.append(struct.pack("=b", NAMED))
        self.character(names)

    def value(self, value: Any, name: str) -> None:
        """Write a Python value: what JSON has, bytes, and what cells of a partition's key hold.

        A list of values of one class is a vector, another a list; None in it is NA; a dict is a list with names.
        Raises: UnsupportedType.
        """
        if value is None:
            self.nothing()
        elif isinstance(value, Mapping):
            self.names([str(key) for key in value])
            self.items(len(value))
            for key, item in value.items():
                self.value(item, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            self._list(list(value), name)
        elif isinstance(value, bytes | bytearray | memoryview):
            self.raw(bytes(value))
        else:
            self._vector([value], name)

    def _list(self, value: list[Any], name: str) -> None:
        classes = {type(item) for item in value if item is not None}
        if value and (len(classes) == 1 or classes == {int, float}) and not classes & {dict, list, tuple, bytes}:
            self._vector(value, name)
            return
        self.items(len(value))
        for item in value:
            self.value(item, name)

    def _vector(self, cells: list[Any], name: str) -> None:
        """Write scalars of one class; None is NA."""
        missing = np.array([cell is None for cell in cells], bool)
        first = next(cell for cell in cells if cell is not None)
        if isinstance(first, bool):
            self.logical([bool(cell) for cell in cells], missing)
        elif isinstance(first, int | float | Decimal):
            self._numbers(cells, missing, name)
        elif isinstance(first, datetime):
            self.double([0.0 if c is None else seconds(_us_of(c), name) for c in cells], missing, STAMP)
        elif isinstance(first, date):
            self.double([0 if cell is None else (cell - EPOCH.date()).days for cell in cells], missing, DATE)
        elif isinstance(first, timedelta):
            self.double([0.0 if c is None else seconds(c // timedelta(microseconds=1), name) for c in cells], missing, SPAN)
        elif isinstance(first, time) and first.tzinfo is None:
            self.double([0.0 if cell is None else _clock_s(cell) for cell in cells], missing, CLOCK)
        elif cells == [JSON_NULL]:
            self.nothing()
        elif isinstance(first, str | time | uuid.UUID):
            self.character([None if cell is None else str(cell) for cell in cells])
        else:
            raise errors.UnsupportedType(
                f"{name} holds {type(first).__name__}, which R has no type for", detail={"name": name}, hint="pass it as text"
            )

    def _numbers(self, cells: list[Any], missing: Mask, name: str) -> None:
        if all(cell is None or (isinstance(cell, int) and abs(cell) < 2**31) for cell in cells):
            self.integer([cell or 0 for cell in cells], missing)
            return
        for cell in cells:
            if (isinstance(cell, int) and not -EXACT <= cell <= EXACT) or (isinstance(cell, Decimal) and not is_double(cell)):
                raise _inexact(name, None, cell)
        self.double([0.0 if cell is None else float(cell) for cell in cells], missing)

    # ------------------------------------------------------------ data frames

    def frame(self, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
        """Write a data frame whose columns came from PostgreSQL.

        Raises: UnsupportedType for a value that R cannot hold exactly.
        """
        self._head(FRAME, len(frame))
        self.character([column.name for column in columns])
        for position, column in enumerate(columns):
            self._column(frame.iloc[:, position], column)

    def _column(self, series: Any, column: Column) -> None:
        kind = column.kind
        match kind:
            case "bool" | "int2" | "int4" | "int8" | "oid":
                self._integral(series, column)
            case "float4" | "float8":
                array = pa.array(series.array) if isinstance(series.dtype, pd.Float64Dtype | pd.Float32Dtype) else None
                if array is not None:  # NaN is a value, <NA> is NULL
                    self.double(array.fill_null(0.0).to_numpy(), array.is_null().to_numpy(zero_copy_only=False))
                else:
                    values = series.to_numpy(np.float64)
                    self.double(values, np.isnan(values))
            case "text":
                array = pa.array(series.array, type=pa.large_string())
                self.strings(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
            case "date":
                days = series.to_numpy().astype("datetime64[s]").view(np.int64)
                self.double(_with_ends(days, days // 86400), days == _NAT, DATE)
            case "timestamp" | "timestamptz":
                self._micros(_naive(series).astype("datetime64[us]").view(np.int64), column, STAMP)
            case "interval":
                self._micros(series.to_numpy().astype("timedelta64[us]").view(np.int64), column, SPAN)
            case _:
                self._objects(series.tolist(), column)

    def _integral(self, series: Any, column: Column) -> None:
        missing = series.isna().to_numpy()
        values = series.to_numpy(np.int64, na_value=0) if missing.any() else series.to_numpy(np.int64)
        if column.kind == "bool":
            self.logical(values, missing)
        elif column.kind in ("int2", "int4") and not (values == NA_INTEGER).any():  # which R takes for NA
            self.integer(values, missing)
        else:
            far = (values > EXACT) | (values < -EXACT)
            if far.any():
                raise _inexact(f'column "{column.name}"', column, int(values[far][0]))
            self.double(values, missing)

    def _micros(self, us: Ints, column: Column, kind: int) -> None:
        missing = us == _NAT
        finite = np.where(missing | (us == INT64_MAX) | (us == INT64_LOWEST), 0, us)
        found = finite / 1e6
        wrong = micros(found) != finite
        if wrong.any():
            first = np.datetime64(int(finite[wrong][0]), "us") if kind == STAMP else np.timedelta64(int(finite[wrong][0]), "us")
            raise errors.UnsupportedType(
                f'column "{column.name}" of type {column.type} holds {first}, whose microseconds are beyond R\'s double',
                detail={"column": column.name, "type": column.type}, hint="cast it to text, or to timestamp(0)",
            )  # fmt: skip
        self.double(_with_ends(us, found), missing, kind)

    def _objects(self, cells: list[Any], column: Column) -> None:
        kind, name = column.kind, f'column "{column.name}"'
        if kind == "bytea":
            self.raws(cells)
        elif kind == "numeric":
            for cell in cells:
                if cell is not None and not is_double(cell):
                    raise _inexact(name, column, cell)
            missing = np.array([cell is None for cell in cells], bool)
            self.double([0.0 if cell is None else float(cell) for cell in cells], missing)
        elif kind == "time":
            missing = np.array([cell is None for cell in cells], bool)
            self.double([0.0 if cell is None else _clock_s(cell) for cell in cells], missing, CLOCK)
        elif kind in ("json", "jsonb"):
            self.character([None if cell is None else json_text(cell, binary=kind == "jsonb") for cell in cells])
        elif kind == "textarray" or kind.startswith("array:"):
            self._arrays(cells, column)
        else:
            self.character([None if cell is None else str(cell) for cell in cells])

    def _arrays(self, cells: list[Any], column: Column) -> None:
        element = "text" if column.kind == "textarray" else column.kind.removeprefix("array:")
        if any(cell and isinstance(cell[0], list) for cell in cells):
            self.items(len(cells))
            for cell in cells:
                if cell is None:
                    self.nothing()
                    continue
                flat, dims = _column_major(cell)
                if len(dims) > 1:
                    self.parts.append(struct.pack("=b", ARRAY))
                    self.integer(dims)
                self._elements(flat, element, column)
            return
        if element == "bytea":
            self.items(len(cells))
            for cell in cells:
                if cell is None:
                    self.nothing()
                else:
                    self.raws(cell)
            return
        self._head(SLICES, len(cells))
        self.parts.append(np.array([-1 if cell is None else len(cell) for cell in cells], np.int32).tobytes())
        self._elements([item for cell in cells if cell for item in cell], element, column)

    def _elements(self, cells: list[Any], element: str, column: Column) -> None:
        missing = np.array([cell is None for cell in cells], bool)
        name = f'column "{column.name}"'
        if element == "bool":
            self.logical([bool(cell) for cell in cells], missing)
        elif element in ("int2", "int4") and NA_INTEGER not in cells:
            self.integer([cell or 0 for cell in cells], missing)
        elif element in ("int2", "int4", "int8", "numeric", "float4", "float8"):
            for cell in cells:
                if (isinstance(cell, int) and abs(cell) > EXACT) or (isinstance(cell, Decimal) and not is_double(cell)):
                    raise _inexact(name, column, cell)
            self.double([0.0 if cell is None else float(cell) for cell in cells], missing)
        elif element in ("date", "timestamp", "timestamptz") and not any(isinstance(cell, str) for cell in cells):
            if element == "date":
                self.double([0 if cell is None else (cell - EPOCH.date()).days for cell in cells], missing, DATE)
            else:
                self.double([0.0 if c is None else seconds(_us_of(c), name) for c in cells], missing, STAMP)
        else:
            self.character([None if cell is None else str(cell) for cell in cells])


def is_double(number: Decimal) -> bool:
    """Tell whether a decimal number is a double's as well: it has few digits, and no exponent that overflows."""
    if not number.is_finite():
        return True
    _, digits, _ = number.as_tuple()
    if len(digits) > DIGITS and len("".join(map(str, digits)).strip("0")) > DIGITS:
        return False
    return Decimal(repr(float(number))) == number


def micros(found: Floats) -> Ints:
    """Return seconds in doubles as the nearest microseconds; finite ones, in int64's range."""
    whole = np.floor(found)
    made: Ints = whole.astype(np.int64) * 1_000_000 + np.rint((found - whole) * 1e6).astype(np.int64)
    return made


def seconds(us: int, name: str) -> float:
    """Return microseconds as seconds in a double.

    Raises: UnsupportedType where it would not give them back.
    """
    found = us / 1e6
    if int(micros(np.array([found]))[0]) != us:
        raise errors.UnsupportedType(f"{name} holds a time whose microseconds are beyond R's double", hint="cast it to text")
    return found


def _us_of(moment: datetime) -> int:
    naive = moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta(0))
    return (naive - EPOCH) // timedelta(microseconds=1)


def _clock_s(clock: time) -> float:
    return (clock.hour * 3600 + clock.minute * 60 + clock.second) + clock.microsecond / 1e6


def _naive(series: Any) -> Any:
    aware = getattr(series.dtype, "tz", None) is not None
    return (series.dt.tz_convert("UTC").dt.tz_localize(None) if aware else series).to_numpy()


def _with_ends(given: Ints, found: Any) -> Floats:
    """Return numbers as doubles, infinite where the given ones are pandas' infinities."""
    return np.where(given == INT64_MAX, np.inf, np.where(given == INT64_LOWEST, -np.inf, found))


def _column_major(nested: list[Any]) -> tuple[list[Any], list[int]]:
    array = np.array(nested, dtype=object)
    dims: list[int] = []
    level: Any = nested
    while isinstance(level, list):
        dims.append(len(level))
        level = level[0] if level else None
    array = np.empty(math.prod(dims), dtype=object)
    array[:] = _leaves(nested)
    return array.reshape(dims).ravel(order="F").tolist(), dims


def _leaves(nested: Any) -> list[Any]:
    return [leaf for item in nested for leaf in _leaves(item)] if isinstance(nested, list) else [nested]


def _inexact(name: str, column: Column | None, value: Any) -> errors.UnsupportedType:
    of_type = "" if column is None else f" of type {column.type}"
    return errors.UnsupportedType(
        f"{name}{of_type} holds {value}, which R's double does not hold exactly",
        detail={"column": None if column is None else column.name, "type": None if column is None else column.type},
        hint="cast it to double precision, which rounds it, or to text",
    )


# ---------------------------------------------------------------- from R


MOST_EMPTY = 1_000_000  # lists that an array makes of nothing

# What bytes that are no value make numpy, Arrow and struct raise.
_MALFORMED = (ValueError, TypeError, IndexError, AttributeError, ArithmeticError, RecursionError, struct.error, pa.ArrowException)


def read_value(read: Read) -> Any:
    """Read a value: None, bytes for RAW, else one of the classes above.

    Raises: ProtocolMismatch where what comes is no value; whatever read raises.
    """
    try:
        return _read_value(read)
    except _MALFORMED as error:
        raise errors.ProtocolMismatch(f"the R process sent what is no value: {type(error).__name__}: {error}") from None


def _read_value(read: Read) -> Any:
    tag = read(1)[0]
    match tag:
        case 0:
            return None
        case 1 | 2:
            values = np.frombuffer(read(4 * _count(read)), np.int32)
            return Vector(tag, 0, values, values == NA_INTEGER)
        case 3:
            doubles = np.frombuffer(read(8 * _count(read)), np.float64)
            return Vector(DOUBLE, 0, doubles, _is_na(doubles))
        case 4:
            return _read_character(read)
        case 5:
            return read(_count(read))
        case 6:
            return Items([_read_value(read) for _ in range(_count(read))])
        case 7:
            return _read_named(read)
        case 8:
            kind = read(1)[0]
            vector = _read_value(read)
            vector.kind, vector.missing = kind, np.isnan(vector.values)
            return vector
        case 9 | 10:
            return _read_slices(read)
        case 11:
            rows = _count(read)
            names = [str(name) for name in _read_value(read).values.to_pylist()]
            return Table(rows, names, [_read_value(read) for _ in names])
        case 12:
            dims = _read_value(read).values.tolist()
            return Array(dims, _read_value(read))
        case 13:
            longs = np.frombuffer(read(8 * _count(read)), np.int64)
            return Vector(INTEGER64, 0, longs, longs == _NAT)
    raise errors.ProtocolMismatch(f"the R process sent the tag {tag}, which is not known")


def _count(read: Read) -> int:
    (count,) = struct.unpack("=i", read(4))
    if count < 0:
        raise ValueError(f"a length must be 0 or more, got {count}")
    return int(count)


def _is_na(doubles: Floats) -> Mask:
    """Tell R's NA from NaN: its low word is 1954, and the quiet bit may have been set on the way."""
    missing: Mask = np.isnan(doubles) & ((doubles.view(np.uint64) & np.uint64(0xFFFFFFFF)) == np.uint64(1954))
    return missing


def _read_character(read: Read) -> Vector:
    """Read a character vector, into Arrow's form: it lays offsets over the bytes as they came."""
    lengths = np.frombuffer(read(4 * _count(read)), np.int32).astype(np.int64)
    missing = lengths < 0
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.where(missing, 0, lengths), out=offsets[1:])
    content = read(int(offsets[-1]) + int((lengths > 0).sum())).replace(b"\0", b"")
    if len(content) != offsets[-1]:  # else Arrow would read beyond it
        raise ValueError(f"texts of {offsets[-1]} bytes must come, got {len(content)}")
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes()) if missing.any() else None
    array = pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(content), valid)
    return Vector(CHARACTER, 0, array, missing)


def _read_named(read: Read) -> Any:
    labels = _read_value(read)
    names = ["" if name is None else name for name in labels.values.to_pylist()]
    value = _read_value(read)
    if isinstance(value, Items):
        return Items(value.items, names)
    if isinstance(value, Vector):
        return Named(names, value)
    return value


def _read_slices(read: Read) -> Items:
    lengths = np.frombuffer(read(4 * _count(read)), np.int32).tolist()
    flat = _read_value(read)
    cells = flat if isinstance(flat, bytes) else [] if flat is None else _cells(flat)
    made: list[Any] = []
    start = 0
    for length in lengths:
        made.append(None if length < 0 else cells[start : start + length])
        start += max(0, length)
    return Items(made)


# ---------------------------------------------------------------- to pandas and Python


def to_frame(table: Table) -> pd.DataFrame:
    """Return a data frame of R's as pandas has it, NA and NaN apart.

    Raises: UnsupportedType for a column that has no counterpart; ProtocolMismatch where it is no data frame.
    """
    try:
        series = {position: _series(column, table.names[position]) for position, column in enumerate(table.columns)}
        if any(len(column) != table.rows for column in series.values()):
            raise ValueError(f"a column must have {table.rows} elements")
        frame = pd.DataFrame(series, index=pd.RangeIndex(table.rows))
    except _MALFORMED as error:
        raise errors.ProtocolMismatch(f"the R process sent what is no data frame: {type(error).__name__}: {error}") from None
    frame.columns = pd.Index(table.names, dtype="str")
    frame.attrs[JSON_AS_TEXT] = True
    return frame


def to_python(value: Any, name: str) -> Any:
    """Return a value of R's as Python has it: a vector of one element is a scalar, another a list, NA is None.

    Raises: UnsupportedType; ProtocolMismatch where it is no value of R's.
    """
    try:
        return _to_python(value, name)
    except _MALFORMED as error:
        raise errors.ProtocolMismatch(f"the R process sent what is no value: {type(error).__name__}: {error}") from None


def _to_python(value: Any, name: str) -> Any:
    if isinstance(value, Vector):
        cells = _cells(value)
        return cells[0] if len(cells) == 1 else cells
    if isinstance(value, Named):
        return dict(zip(value.names, _cells(value.vector), strict=True))
    if isinstance(value, Table):
        return {label: to_list(column, name) for label, column in zip(value.names, value.columns, strict=True)}
    if isinstance(value, Items) and value.names is not None:
        return {label: _to_python(item, name) for label, item in zip(value.names, value.items, strict=True)}
    if isinstance(value, Items):
        return [_to_python(item, name) for item in value.items]
    if isinstance(value, Array):
        return _nested(value)
    return value


def to_list(value: Any, name: str) -> list[Any]:
    """Return a vector of R's as a list, whatever its length."""
    found = _cells(value) if isinstance(value, Vector) else to_python(value, name)
    return found if isinstance(found, list) else [found]


def _series(column: Any, name: str) -> Any:
    if isinstance(column, bytes):
        raise errors.UnsupportedType(
            f'column "{name}" is one raw vector', detail={"column": name, "type": "raw"},
            hint=f"I(list({name})) makes a bytea of it, as.integer({name}) a column of numbers",
        )  # fmt: skip
    if isinstance(column, Items):
        cells = [_cell(item, name) for item in column.items]
        return pd.Series(_as_objects(cells), dtype=object)
    values, missing = column.values, column.missing
    match column.tag:
        case 1:
            return pd.Series(pd.arrays.BooleanArray(values == 1, missing) if missing.any() else values == 1)
        case 2 | 13:
            values = values.astype(np.int64)
            return pd.Series(pd.arrays.IntegerArray(np.where(missing, 0, values), missing) if missing.any() else values)
        case 4:
            return pd.Series(values.to_pandas(types_mapper=lambda _: pd.StringDtype("pyarrow", na_value=np.nan)))
    if column.kind:
        return _classed(column, name)
    if np.isnan(values).any():
        return pd.Series(pd.arrays.FloatingArray(np.where(missing, 1.0, values), missing.copy()))
    return pd.Series(values)


def _cell(item: Any, name: str) -> Any:
    """Return an element of a list column: a list, bytes or None."""
    if isinstance(item, Items):
        return item.items
    return to_list(item, name) if isinstance(item, Vector | Array) else item


def _classed(column: Vector, name: str) -> Any:
    values, missing = column.values, column.missing
    finite = np.where(np.isfinite(values), values, 0.0)
    ends = np.where(values == np.inf, INT64_MAX, np.where(values == -np.inf, INT64_LOWEST, 0))
    if column.kind == DATE:
        if (np.abs(finite) > INT64_MAX // 86400).any():
            raise _too_far(name, "Date")
        days = np.floor(finite).astype(np.int64)  # as R prints it
        if not ends.any() and (days >= -719_162).all() and (days <= 2_932_896).all():  # the years 1 to 9999, as Python's date
            dates = days.astype("datetime64[D]").tolist()
            return pd.Series(_as_objects([None if n else d for n, d in zip(missing, dates, strict=True)]), dtype=object)
        return pd.Series(np.where(missing, _NAT, np.where(ends != 0, ends, days * 86400)).view("datetime64[s]"))
    if (np.abs(finite) > INT64_MAX // 1_000_000).any():
        raise _too_far(name, "difftime" if column.kind in (SPAN, CLOCK) else "POSIXct")
    us = np.where(missing, _NAT, np.where(ends != 0, ends, micros(finite)))
    if column.kind == CLOCK and not ends.any() and ((us[~missing] >= 0) & (us[~missing] < DAY_US)).all():
        return pd.Series(_as_objects(_clocks(us, missing)), dtype=object)
    if column.kind in (SPAN, CLOCK):
        return pd.Series(us.view("timedelta64[us]"))
    stamps = pd.Series(us.view("datetime64[us]")).dt.tz_localize("UTC")
    return stamps if column.kind == ZONED else stamps.dt.tz_convert(UTC_CLOCK)


def _cells(vector: Vector) -> list[Any]:
    """Return the elements as Python has them: NA is None, NaN stays one."""
    missing = vector.missing
    if vector.tag == CHARACTER:
        texts: list[Any] = vector.values.to_pylist()
        return texts
    if vector.kind:
        return [None if cell is pd.NaT else cell for cell in _plain_times(_classed(vector, "a list"))]
    values: list[Any] = (vector.values == 1 if vector.tag == LOGICAL else vector.values).tolist()
    if missing.any():
        return [None if absent else value for value, absent in zip(values, missing.tolist(), strict=True)]
    return values


def _plain_times(series: Any) -> list[Any]:
    if series.dtype.kind == "M":
        return [cell if cell is pd.NaT or _beyond(cell) else cell.to_pydatetime() for cell in series.tolist()]
    return [cell.to_pytimedelta() if isinstance(cell, pd.Timedelta) else cell for cell in series.tolist()]


def _beyond(cell: Any) -> bool:
    return not 1 <= cell.year <= 9999


def _clocks(us: Ints, missing: Mask) -> list[time | None]:
    midnight = datetime(1970, 1, 1)
    return [
        None if absent else (midnight + timedelta(microseconds=number)).time()
        for number, absent in zip(us.tolist(), missing.tolist(), strict=True)
    ]


def _nested(array: Array) -> list[Any]:
    rows = math.prod(dim for dim in array.dims if dim)
    if min(array.dims) < 0 or (0 in array.dims and rows > MOST_EMPTY):
        raise ValueError(
            f"an array's dimensions must be 0 or more, of one without elements {MOST_EMPTY} in all, got {array.dims}"
        )
    cells = _as_objects(_cells(array.vector)).reshape(array.dims, order="F")
    made: list[Any] = cells.tolist()
    return made


def _as_objects(cells: Sequence[Any]) -> npt.NDArray[np.object_]:
    objects = np.empty(len(cells), dtype=object)
    for position, cell in enumerate(cells):
        objects[position] = cell
    return objects


def _too_far(name: str, type_: str) -> errors.UnsupportedType:
    return errors.UnsupportedType(
        f'column "{name}" holds a {type_} beyond the year 292277', detail={"column": name, "type": type_}, hint="as.character(x)"
    )
