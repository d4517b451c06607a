"""Rows as dictionaries, and values as the JSON that PostgreSQL keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Connection: TypeAlias = "psycopg.Connection[Any]"
Row: TypeAlias = dict[str, Any]


def jsonb(value: Any) -> Jsonb:
    """Return JSON without escapes, which a database in another encoding than UTF-8 does not take."""
    return Jsonb(value, dumps=partial(json.dumps, ensure_ascii=False, allow_nan=False))


def all_rows(connection: Connection, query: sql.Composable, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[Row]:
    """Return every row of a query."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.Composed([query]), values or None).fetchall()


def one_row(connection: Connection, query: sql.Composable, values: Mapping[str, Any] | Sequence[Any] = ()) -> Row | None:
    """Return the first row of a query, None where there is none."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.Composed([query]), values or None).fetchone()


def value(connection: Connection, query: sql.Composable, values: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
    """Return the first column of the first row, None where there is none."""
    row = connection.execute(sql.Composed([query]), values or None).fetchone()
    return None if row is None else row[0]


def call(connection: Connection, function: str, **arguments: Any) -> Any:
    """Call a function of schema dbml by the names of its arguments, and return its value."""
    named = sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in arguments)
    return value(connection, sql.SQL("select dbml.{}({})").format(sql.Identifier(function), named), arguments)


def where(**wanted: Any) -> tuple[sql.Composable, Row]:
    """Return a WHERE of equalities, and its values; what is None is not asked for."""
    asked = {name: wish for name, wish in wanted.items() if wish is not None}
    if not asked:
        return sql.SQL(""), {}
    terms = (sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in asked)
    return sql.SQL(" where ") + sql.SQL(" and ").join(terms), asked


def text_of(row: Row, column: str) -> str | None:
    """Return a column of text, None where it is NULL."""
    found = row[column]
    return None if found is None else str(found)


def finite(value: float) -> Any:
    """Return a float as JSON can say it: not a number and the infinities as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
