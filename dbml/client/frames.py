"""Frames out of queries and into them, by way of Arrow, so that no value changes on its way.

A column of whole numbers or truth values that has NULLs becomes pandas' Int64 or boolean, not float; numeric stays exact,
as Decimal; a type that Arrow has not is PostgreSQL's text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from dbml import errors

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_AT_ONCE = 10_000


def read(session: psycopg.Connection[Any], query: sql.Composable, values: Any = None) -> pd.DataFrame:
    """Run a statement, and return its rows as a frame; one without a result gives an empty frame."""
    import pandas as pd
    import pyarrow as pa

    with session.cursor() as cursor:
        cursor.execute(sql.Composed([query]), values)
        if cursor.description is None:
            return pd.DataFrame()
        names = [column.name for column in cursor.description]
        types = [_arrow_type(column.type_code) for column in cursor.description]
        parts: list[list[Any]] = [[] for _ in names]
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            for part, cells, wanted in zip(parts, zip(*rows, strict=True), types, strict=True):
                part.append(_array(cells, wanted))
    columns = [pa.chunked_array(part, type=None if part else pa.null()) for part in parts]
    frame = pd.DataFrame({number: _series(column) for number, column in enumerate(columns)})
    frame.columns = pd.Index(names)
    return frame


@contextmanager
def lent(session: psycopg.Connection[Any], frame: pd.DataFrame) -> Iterator[str]:
    """Put a frame into a temporary table, and yield the query of its rows; the index is left out.

    Raises: UnsupportedType for a column of another kind than numbers, text, truth values, dates, times, bytes and decimals.
    """
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise errors.UnsupportedType(f"a frame's columns must each hold one kind of value: {error}") from None
    name = sql.Identifier("pg_temp", f"frame_{uuid.uuid4().hex}")
    listed = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_postgres_type(field))) for field in table.schema
    )
    session.execute(sql.SQL("create temporary table {} ({})").format(sql.Identifier(name._obj[1]), listed))
    try:
        with session.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(name)) as copy:
            for batch in table.to_batches(ROWS_AT_ONCE):
                columns = [_cells(column) for column in batch.columns]
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
        yield f"select * from {name.as_string(session)}"  # noqa: S608 - a name made above
    finally:
        if not session.closed and session.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
            session.execute(sql.SQL("drop table if exists {}").format(name))


def _array(cells: Sequence[Any], wanted: pa.DataType | None) -> pa.Array:
    import pyarrow as pa

    if wanted is not None:
        return pa.array(cells, wanted)
    try:
        return pa.array([None if cell is None else cell if isinstance(cell, str) else str(cell) for cell in cells], pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise errors.UnsupportedType(f"a column cannot be read: {error}") from None


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    import pandas as pd
    import pyarrow as pa

    if column.null_count and pa.types.is_integer(column.type):
        return column.to_pandas(types_mapper={column.type: pd.Int64Dtype()}.get)
    if column.null_count and pa.types.is_boolean(column.type):
        return column.to_pandas(types_mapper={column.type: pd.BooleanDtype()}.get)
    return column.to_pandas()


def _cells(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    # A missing float of pandas is Arrow's null; a NaN that Arrow kept is PostgreSQL's NaN.
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return list(column.to_pylist())


def _arrow_type(oid: int) -> pa.DataType | None:
    """Return how a column of a PostgreSQL type is read, None for as text."""
    import pyarrow as pa

    known = {
        16: pa.bool_(), 21: pa.int16(), 23: pa.int32(), 20: pa.int64(), 26: pa.int64(), 700: pa.float32(), 701: pa.float64(),
        25: pa.string(), 1043: pa.string(), 1042: pa.string(), 19: pa.string(), 17: pa.binary(), 1082: pa.date32(),
        1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"), 1016: pa.list_(pa.int64()), 1007: pa.list_(pa.int32()),
        1022: pa.list_(pa.float64()), 1009: pa.list_(pa.string()), 1000: pa.list_(pa.bool_()),
    }  # fmt: skip
    return known.get(oid)


def _postgres_type(field: pa.Field) -> Any:
    import pyarrow as pa

    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for fits, name in (
        (pa.types.is_boolean, "boolean"), (pa.types.is_uint64, "numeric"), (pa.types.is_int64, "bigint"),
        (pa.types.is_uint32, "bigint"), (pa.types.is_integer, "integer"), (pa.types.is_float64, "double precision"),
        (pa.types.is_floating, "real"), (pa.types.is_string, "text"), (pa.types.is_large_string, "text"),
        (pa.types.is_binary, "bytea"), (pa.types.is_large_binary, "bytea"), (pa.types.is_date, "date"),
        (pa.types.is_decimal, "numeric"), (pa.types.is_null, "text"), (pa.types.is_time, "time"),
        (pa.types.is_duration, "interval"),
    ):  # fmt: skip
        if fits(kind):
            return name
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp with time zone"
    raise errors.UnsupportedType(f"a column must be of a kind that PostgreSQL has, {field.name!r} is {field.type}")


@contextmanager
def many_lent(session: psycopg.Connection[Any], given: Mapping[str, str | pd.DataFrame]) -> Iterator[dict[str, str]]:
    """Yield a query for each name: as it was given, or of a temporary table with the frame that was."""
    with ExitStack() as tables:
        yield {
            name: value if isinstance(value, str) else tables.enter_context(lent(session, value)) for name, value in given.items()
        }
