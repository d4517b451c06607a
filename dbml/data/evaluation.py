"""From the definition of a tabular dataset to its rows, and to a query that the database computes on.

Files are read by the client and held in its memory; the rows of a table or query come in batches.  A query runs as the
user's own role, on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
from psycopg import sql

from dbml import errors
from dbml.data import rows, table_rows, text_files
from dbml.data.definition import Definition, Source, sources
from dbml.store.client import datasets

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace
    from dbml.data.abstract_dataset import AbstractDataset

_numbers = count(1)


@contextmanager
def connected(workspace: Workspace) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection of its own to the workspace's database, in autocommit mode."""
    with psycopg.connect(
        workspace._connection.dsn,
        autocommit=True,
        client_encoding="utf8",
        application_name="dbml dataset",
        prepare_threshold=None,
    ) as connection:
        yield connection


def query_of(connection: psycopg.Connection[Any], definition: Definition) -> str:
    """Return the query of a table or query, without the steps; a table is read in the order of its primary key."""
    if definition.kind == "query":
        return str(definition.body["query"]).rstrip("; \n\t")
    name = table_rows.table_name(definition.body["table"])
    key = datasets.primary_key(connection, name.as_string(connection))
    order = sql.SQL(", ").join(map(sql.Identifier, key))
    query = sql.SQL("select * from {} order by {}" if key else "select * from {}")
    return query.format(name, order).as_string(connection)


@contextmanager
def opened(dataset: AbstractDataset) -> Iterator[rows.Rows]:
    """Yield the rows of a tabular dataset after its steps, to be gone through before the context ends."""
    definition = dataset._definition
    if definition.kind in ("table", "query"):
        with connected(dataset._workspace) as connection:
            yield rows.apply(table_rows.read(connection, query_of(connection, definition)), definition.steps)
    else:
        found = sources(definition, dataset._workspace_or_none, dataset._pinned)
        yield rows.apply(read_files(definition, found), definition.steps)


def read_files(definition: Definition, found: list[Source]) -> rows.Rows:
    """Return the rows of files, before the steps."""
    options = definition.body["options"]
    match definition.body["format"]:
        case "delimited":
            return text_files.read_delimited(found, options)
        case "json_lines":
            return text_files.read_json_lines(found, options)
        case "parquet":
            return _read_parquet(found, options)
        case other:
            raise errors.NotSupportedYet(f"files of the format {other!r} are of a newer dbml", hint="pip install --upgrade dbml")


def _read_parquet(found: list[Source], options: Any) -> rows.Rows:
    """Read Parquet files in batches.

    Raises: InvalidArgument for a file that is none, or has a column of another kind than the others.
    """
    schemas = []
    for source in found:
        with source.open() as stream:
            try:
                schema = pa.parquet.read_schema(pa.PythonFile(stream, "r"))
            except (pa.ArrowInvalid, OSError) as error:
                raise errors.InvalidArgument(
                    f"{source.path} must be a Parquet file: {' '.join(str(error).split())[:200]}"
                ) from None
        schemas.append(text_files.with_path(schema.remove_metadata().empty_table(), source.path, options).schema)
    try:
        whole = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise errors.InvalidArgument(f"the files must have columns of one type each: {error}") from None

    def batches() -> Iterator[Any]:
        for source in found:
            with source.open() as stream:
                for batch in pa.parquet.ParquetFile(pa.PythonFile(stream, "r")).iter_batches():
                    table = text_files.with_path(
                        pa.Table.from_batches([batch]).replace_schema_metadata(None), source.path, options
                    )
                    missing = [field for field in whole if field.name not in table.column_names]
                    for field in missing:
                        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
                    yield from table.select(whole.names).cast(whole).to_batches()

    return rows.Rows(whole, batches())


@contextmanager
def computed(connection: psycopg.Connection[Any], dataset: AbstractDataset) -> Iterator[str]:
    """Yield a query of the dataset's rows for the database to compute on.

    Of a table or query without steps it is that query; everything else is copied into a temporary table.
    """
    if dataset._definition.kind in ("table", "query") and not dataset._definition.steps:
        yield query_of(connection, dataset._definition)
        return
    target = sql.Identifier("pg_temp", f"dbml_dataset_{next(_numbers)}")
    with opened(dataset) as found:
        table_rows.create(connection, found, target)
        table_rows.write(connection, found, target)
    try:
        yield sql.SQL("select * from {}").format(target).as_string(connection)
    finally:
        if not connection.broken:
            connection.execute(sql.SQL("drop table {}").format(target))
