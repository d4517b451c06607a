"""Rows out of PostgreSQL and into it, by COPY, with their types; in bounded memory both ways.

What comes out: int2, int4, int8, oid, float4, float8, bool, date, timestamp, timestamptz (as UTC), time, bytea and numeric
with a declared scale as Arrow's own types; numeric without one as the decimal that holds the values of a batch, or float64
where one is NaN or infinite; everything else (json, arrays, uuid, interval, enums, ranges) as PostgreSQL's text.
What goes in: see POSTGRES_TYPES; a structure or list becomes jsonb.  Nothing is rounded: what does not fit is refused,
with the column's name.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from dbml import errors
from dbml.data.rows import Rows

Connection = psycopg.Connection[Any]

_BLOCK_BYTES = 4 << 20
_BATCH_ROWS = 50_000

_ARROW_TYPES: dict[str, Any] = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "oid": pa.uint32(),
    "float4": pa.float32(), "float8": pa.float64(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "time": pa.time64("us"),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A column of a query: its name, the name of its base type, and the type as SQL writes it."""

    name: str
    base: str
    type: str
    scale: tuple[int, int] | None = None

    def arrow(self) -> Any:
        """Return the Arrow type of what is handed on."""
        if self.base == "bytea":
            return pa.binary()
        if self.base == "numeric":
            return _decimal(*self.scale) if self.scale else None
        return _ARROW_TYPES.get(self.base, pa.string())


def _decimal(precision: int, scale: int) -> Any:
    precision = max(precision, scale, 1)
    return (
        pa.decimal128(precision, scale)
        if precision <= 38
        else pa.decimal256(precision, scale)
        if precision <= 76
        else pa.string()
    )


_BASE = """
with recursive base (oid, place, type) as (
    select u.oid, u.place, pg_catalog.format_type(u.oid, u.modifier)
    from unnest(%s::oid[], %s::integer[]) with ordinality u(oid, modifier, place)
    union all
    select t.typbasetype, b.place, b.type from base b join pg_catalog.pg_type t on t.oid = b.oid where t.typtype = 'd')
select t.typname::text, b.type from base b join pg_catalog.pg_type t on t.oid = b.oid where t.typtype <> 'd' order by b.place"""


def describe(connection: Connection, query: str) -> list[Field]:
    """Return the columns of a query, which is planned and not run.

    Raises: InvalidArgument for a query without columns.
    """
    with connection.cursor() as cursor:
        cursor.execute(_plain(f"select * from ({query}\n) q limit 0"))  # noqa: S608 - a query is what is asked for
        found = cursor.description or []
        if not found:
            raise errors.InvalidArgument("a query must have a column at least")
        result = cursor.pgresult
        assert result is not None
        modifiers = [result.fmod(number) for number in range(len(found))]
        bases = connection.execute(_BASE, ([column.type_code for column in found], modifiers)).fetchall()
    return [
        Field(
            column.name, base, type_,
            (column.precision, column.scale or 0) if base == "numeric" and column.precision is not None else None,
        )
        for column, (base, type_) in zip(found, bases, strict=True)
    ]  # fmt: skip


def _plain(query: str) -> bytes:
    """Return the query as bytes, which psycopg takes for no literal's sake."""
    return query.encode()


def read(connection: Connection, query: str) -> Rows:
    """Return the rows of a query, read while they are asked for; the connection is busy until then.

    Raises: UnsupportedType, naming the column, for a date, time or number that Arrow does not hold.
    """
    fields = describe(connection, query)
    schema = pa.schema([(f"f{n}", field.arrow() or pa.string()) for n, field in enumerate(fields)])
    wire = {
        f"f{n}": pa.string() if field.base in ("bytea", "numeric") else schema.field(n).type for n, field in enumerate(fields)
    }
    batches = _converted(_batches(connection, query, fields, wire), fields)
    free = [field.base == "numeric" and field.scale is None for field in fields]
    if any(free):  # their type is known when they have been seen
        return _with_decimals(list(batches), fields).named([field.name for field in fields])
    return Rows(schema, batches).named([field.name for field in fields])


def _batches(connection: Connection, query: str, fields: Sequence[Field], wire: dict[str, Any]) -> Iterator[Any]:
    command = f"copy ({query}\n) to stdout (format csv, force_quote *, encoding 'UTF8')"
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "select set_config(s, v, true) from (values ('datestyle', 'ISO'), ('timezone', 'UTC'), ('extra_float_digits', '1'),"
            " ('bytea_output', 'hex'), ('intervalstyle', 'postgres')) v(s, v)"
        )
        with cursor.copy(_plain(command)) as copy:
            parts: list[bytes] = []
            size = 0
            for row in copy:  # a row each
                parts.append(bytes(row))
                size += len(row)
                if size >= _BLOCK_BYTES:
                    yield from _parsed(parts, fields, wire)
                    parts, size = [], 0
            if parts:
                yield from _parsed(parts, fields, wire)


def _parsed(parts: list[bytes], fields: Sequence[Field], wire: dict[str, Any]) -> Iterator[Any]:
    block = b"".join(parts)
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(block),
            read_options=pyarrow.csv.ReadOptions(column_names=[f"f{n}" for n in range(len(fields))], block_size=len(block) + 1),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=wire, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        raise _unfit(error, fields) from None
    yield from table.to_batches()


def _unfit(error: Exception, fields: Sequence[Field]) -> Exception:
    found = re.search(r"column #(\d+): .*? to (.+?): invalid value '(.*)'", str(error), re.DOTALL)
    if not found:
        return errors.InvalidArgument(f"the rows cannot be read: {str(error)[:300]}")
    field = fields[int(found[1])]
    return errors.UnsupportedType(
        f"column {field.name!r} of type {field.type} has the value {found[3][:50]}, which {found[2]} cannot hold",
        hint=f'cast it: select "{field.name}"::text',
        detail={"column": field.name, "type": field.type, "value": found[3][:50]},
    )


def _converted(batches: Iterator[Any], fields: Sequence[Field]) -> Iterator[Any]:
    """Turn the columns that came as text into what they are."""
    for batch in batches:
        columns = []
        for column, field in zip(batch.columns, fields, strict=True):
            if field.base == "bytea":
                column = pa.array([None if v is None else bytes.fromhex(v[2:]) for v in column.to_pylist()], pa.binary())
            elif field.base == "numeric" and field.scale is not None:
                column = _as_decimal(column, field.arrow(), field)
            columns.append(column)
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_decimal(column: Any, type_: Any, field: Field) -> Any:
    try:
        return column.cast(type_)
    except pa.ArrowInvalid as error:
        raise errors.UnsupportedType(
            f"column {field.name!r} of type {field.type} has a value that {type_} cannot hold: {str(error)[:200]}",
            hint=f'cast it: select "{field.name}"::double precision',
        ) from None


def _with_decimals(batches: list[Any], fields: Sequence[Field]) -> Rows:
    """Give each numeric without a declared scale the smallest decimal that holds its values."""
    table = pa.Table.from_batches(batches) if batches else None
    columns, types = [], []
    for position, field in enumerate(fields):
        type_ = field.arrow()
        column = table.column(position) if table is not None else pa.chunked_array([], type_ or pa.decimal128(1, 0))
        if type_ is None:
            column = _measured(column, field)
        columns.append(column)
        types.append((f"f{position}", column.type))
    whole = pa.Table.from_arrays(columns, schema=pa.schema(types))
    return Rows(whole.schema, whole.to_batches())


def _measured(column: Any, field: Field) -> Any:
    if not pa.types.is_string(column.type):
        return column
    if pc.any(pc.match_substring_regex(column, "^(NaN|-?Infinity)$")).as_py():
        return column.cast(pa.float64())
    parts = pc.extract_regex(column, r"^-?(?P<whole>\d+)(?:\.(?P<fraction>\d+))?$")
    whole = pc.max(pc.binary_length(pc.struct_field(parts, "whole"))).as_py() or 1
    fraction = pc.max(pc.binary_length(pc.struct_field(parts, "fraction"))).as_py() or 0
    return _as_decimal(column, _decimal(whole + fraction, fraction), field)


# Into PostgreSQL -------------------------------------------------------------------------------------------------------

POSTGRES_TYPES = (
    (pa.types.is_boolean, "boolean"), (pa.types.is_int8, "smallint"), (pa.types.is_int16, "smallint"),
    (pa.types.is_uint8, "smallint"), (pa.types.is_int32, "integer"), (pa.types.is_uint16, "integer"),
    (pa.types.is_int64, "bigint"), (pa.types.is_uint32, "bigint"), (pa.types.is_uint64, "numeric(20,0)"),
    (pa.types.is_float16, "real"), (pa.types.is_float32, "real"), (pa.types.is_float64, "double precision"),
    (pa.types.is_date, "date"), (pa.types.is_time, "time"), (pa.types.is_duration, "interval"),
    (pa.types.is_null, "text"), (pa.types.is_string, "text"), (pa.types.is_large_string, "text"),
    (pa.types.is_string_view, "text"), (pa.types.is_binary, "bytea"), (pa.types.is_large_binary, "bytea"),
    (pa.types.is_binary_view, "bytea"), (pa.types.is_fixed_size_binary, "bytea"),
)  # fmt: skip


def postgres_type(name: str, type_: Any) -> str:
    """Return the PostgreSQL type of an Arrow column.

    Raises: UnsupportedType, naming the column.
    """
    if pa.types.is_dictionary(type_):
        return postgres_type(name, type_.value_type)
    if pa.types.is_timestamp(type_):
        return "timestamp with time zone" if type_.tz else "timestamp"
    if pa.types.is_decimal(type_):
        return f"numeric({type_.precision},{type_.scale})"
    if pa.types.is_nested(type_):
        return "jsonb"
    for is_of, found in POSTGRES_TYPES:
        if is_of(type_):
            return found
    raise errors.UnsupportedType(f"column {name!r} has the type {type_}, which no PostgreSQL type holds", detail={"column": name})


def write(connection: Connection, rows: Rows, target: sql.Composable) -> int:
    """Append rows to a table whose first columns are theirs, by name; returns how many.

    Raises: UnsupportedType for a value that the table cannot hold exactly.
    """
    names = rows.schema.names
    kinds = [postgres_type(field.name, field.type) for field in rows.schema]
    command = sql.SQL("copy {} ({}) from stdin (format csv, encoding 'UTF8')").format(
        target, sql.SQL(", ").join(map(sql.Identifier, names))
    )
    count = 0
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for batch in rows.batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                part = batch.slice(start, _BATCH_ROWS)
                columns = [_as_text(c, n, k) for c, n, k in zip(part.columns, names, kinds, strict=True)]
                buffer = io.BytesIO()
                pyarrow.csv.write_csv(pa.RecordBatch.from_arrays(columns, [f"f{n}" for n in range(len(names))]), buffer, options)
                copy.write(buffer.getbuffer())
                count += part.num_rows
    return count


def _as_text(column: Any, name: str, kind: str) -> Any:
    """Return a column as Arrow's CSV writer and PostgreSQL understand each other."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    type_ = column.type
    try:
        if kind == "jsonb":
            return pa.array([None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in column.to_pylist()])
        if kind == "bytea":
            return pa.array([None if v is None else "\\x" + v.hex() for v in column.to_pylist()], pa.string())
        if kind == "interval":
            return pa.array(
                [None if v is None else f"{v} microseconds" for v in column.cast(pa.duration("us")).cast(pa.int64()).to_pylist()],
                pa.string(),
            )
        if pa.types.is_timestamp(type_):
            return column.cast(pa.timestamp("us", "UTC" if type_.tz else None))
        if pa.types.is_time(type_):
            return column.cast(pa.time64("us")).cast(pa.string())
        if pa.types.is_date64(type_):
            return column.cast(pa.date32())
        if kind == "text":
            column = column.cast(pa.string())
            if pc.any(pc.match_substring(column, "\0")).as_py():
                raise errors.UnsupportedType(
                    f"column {name!r} has a text with the letter U+0000, which PostgreSQL does not keep", detail={"column": name}
                )
            return column
        if pa.types.is_decimal(type_) or pa.types.is_float16(type_):
            return column.cast(pa.float32()) if pa.types.is_float16(type_) else column.cast(pa.string())
    except pa.ArrowInvalid as error:  # nanoseconds that microseconds would round
        raise errors.UnsupportedType(
            f"column {name!r} of type {type_} has a value that {kind} cannot hold: {str(error)[:200]}", detail={"column": name}
        ) from None
    return column


def require_names(names: Sequence[str]) -> None:
    """Raise InvalidArgument where a table could not have these columns: empty, twice, or longer than 63 bytes."""
    for name in names:
        if not name or "\0" in name or len(name.encode()) > 63:
            raise errors.InvalidArgument(f"a table's column must have a name of 1 to 63 bytes, got {name!r}")
    twice = {name for name in names if list(names).count(name) > 1}
    if twice:
        raise errors.InvalidArgument(f"a table's columns must have different names, got {', '.join(sorted(twice))} twice")


def create(connection: Connection, rows: Rows, target: sql.Composable, *, temporary: bool = False) -> None:
    """Make a table with the columns of the rows."""
    require_names(rows.schema.names)
    if not rows.schema.names:
        raise errors.InvalidArgument("a table must have a column at least, the dataset has none")
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(postgres_type(field.name, field.type)))
        for field in rows.schema
    ]
    connection.execute(
        sql.SQL("create {}table {} ({})").format(sql.SQL("temporary " if temporary else ""), target, sql.SQL(", ").join(columns))
    )


def table_name(written: str) -> sql.Composable:
    """Return a table's name, written as in SQL with quotes where it needs them, quoted anew.

    Raises: InvalidArgument for what is no name.
    """
    parts = re.fullmatch(r'\s*(?:("(?:[^"]|"")+"|[^\W\d][\w$]*)\.)?("(?:[^"]|"")+"|[^\W\d][\w$]*)\s*', written)
    if not parts:
        raise errors.InvalidArgument(f"a table must be named as in SQL, got {written!r}", hint="to_table('sales.orders')")
    plain = [p[1:-1].replace('""', '"') if p.startswith('"') else p.lower() for p in parts.groups() if p]
    return sql.Identifier(*plain)
