"""Datasets of rows: of delimited files, Parquet, JSON lines, a table or a query."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from psycopg import sql

from dbml import errors
from dbml.data import evaluation, rows, table_rows
from dbml.data.abstract_dataset import AbstractDataset
from dbml.data.definition import columns as named
from dbml.data.definition import sources
from dbml.data.expressions import Column, Condition
from dbml.exceptions import DatasetTimestampMissingError, UserErrorException
from dbml.store.client import datasets

if TYPE_CHECKING:
    from typing import Self

_SCHEMA_BYTES = 64 << 20  # files of more are not read for their types alone
_Moment = datetime.datetime | datetime.date


class TabularDataset(AbstractDataset):
    """Rows with named columns, read when they are asked for; made by `Dataset.Tabular`.

    Every method that changes what is in it returns another dataset.
    """

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> pd.DataFrame:
        """Return its rows as a pandas DataFrame.

        Dates and times are datetime64, missing numbers NaN.  on_error, out_of_range_datetime: accepted; a value that does
        not fit its column's type is always an error that names it.
        """
        return rows.frame(self.to_arrow())

    def to_arrow(self) -> Any:
        """Return its rows as a pyarrow Table."""
        with evaluation.opened(self) as found:
            return found.table()

    def to_spark_dataframe(self) -> Any:
        """Refuse: there is no Spark."""
        raise NotImplementedError("there is no Spark here; to_arrow and to_pandas_dataframe give the rows")

    def to_table(self, target: str, mode: str = "create") -> int:
        """Write its rows into a table, by COPY, for queries and scripts in the database; returns how many.

        target: as written in SQL, 'schema.table'.  mode: create, append (columns go by name) or replace.
        A table or query without steps is written by the database itself.  All or nothing is written.
        Raises: psycopg.errors.DuplicateTable for a table that is there; UnsupportedType for what a column cannot hold.
        """
        if mode not in ("create", "append", "replace"):
            raise errors.InvalidArgument(f"mode must be create, append or replace, got {mode!r}")
        name = table_rows.table_name(target)
        with evaluation.connected(self._workspace) as connection, connection.transaction():
            if self._definition.kind in ("table", "query") and not self._definition.steps:
                return _by_query(connection, evaluation.query_of(connection, self._definition), name, mode)
            with evaluation.opened(self) as found:
                table_rows.require_names(found.schema.names)
                if mode == "replace":
                    beside = sql.Identifier("pg_temp", "dbml_to_table")  # what is replaced may be what is read
                    table_rows.create(connection, found, beside)
                    written = table_rows.write(connection, found, beside)
                    _by_query(connection, sql.SQL("select * from {}").format(beside).as_string(connection), name, mode)
                    connection.execute(sql.SQL("drop table {}").format(beside))
                    return written
                if mode == "create":
                    table_rows.create(connection, found, name)
                return table_rows.write(connection, found, name)

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> Self:
        """Return it with these columns alone, in this order.

        validate: look now whether they are there, rather than when rows are read.
        """
        return self._checked(self._then(step="keep_columns", columns=named(columns)), validate)

    def drop_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it without these columns; a name that is no column's is passed over, with a warning when rows are read."""
        return self._then(step="drop_columns", columns=named(columns))

    def __getitem__(self, name: str | Sequence[str]) -> Any:
        """Return a column to make a condition of, or with a list of names what `keep_columns` does."""
        return Column(name) if isinstance(name, str) else self.keep_columns(name)

    def filter(self, condition: Condition) -> Self:
        """Return the rows for which a condition holds: `dataset.filter((dataset["age"] > 30) & ~dataset["name"].is_null())`."""
        if not isinstance(condition, Condition):
            raise errors.InvalidArgument(f"filter takes a condition on columns, got {condition!r}", hint='dataset["age"] > 30')
        return self._then(step="filter", where=condition.where)

    # Time ------------------------------------------------------------------------------------------------------------

    def with_timestamp_columns(
        self, timestamp: str | None = None, partition_timestamp: str | None = None, validate: bool = False, **former: Any
    ) -> Self:
        """Return it with a column named that says when a row is of; the methods time_… go by it.

        partition_timestamp: remembered, and compared nowhere.  validate: look now whether the column holds dates or times.
        """
        timestamp = timestamp or former.get("fine_grain_timestamp")
        partition_timestamp = partition_timestamp or former.get("coarse_grain_timestamp")
        body = {**self._definition.body, "timestamps": {"timestamp": timestamp, "partition_timestamp": partition_timestamp}}
        if timestamp is None:
            del body["timestamps"]
        definition = type(self._definition)(self._definition.kind, body, self._definition.steps)
        marked = type(self)(definition, self._workspace_or_none, None, self._pinned)
        return marked._checked(marked, validate and timestamp is not None, timestamp)

    @property
    def timestamp_columns(self) -> tuple[str | None, str | None]:
        """Return the timestamp column and the one of partitions; None for one that a later step has left out."""
        named = self._definition.body.get("timestamps", {})
        found = [named.get("timestamp"), named.get("partition_timestamp")]
        for step in self._definition.steps:
            if step["step"] in ("keep_columns", "drop_columns"):
                kept = step["step"] == "keep_columns"
                found = [name if (name in step["columns"]) is kept else None for name in found]
        return found[0], found[1]

    def _during(self, start: _Moment | None, end: _Moment | None, include_boundary: bool, validate: bool) -> Self:
        column = self.timestamp_columns[0]
        if column is None:
            raise DatasetTimestampMissingError(
                "a dataset must have a timestamp column for that", hint="dataset.with_timestamp_columns('day')"
            )
        step: dict[str, Any] = {"step": "time", "column": column, "include_boundary": include_boundary}
        for name, value in (("start", start), ("end", end)):
            if value is not None:
                if not isinstance(value, datetime.date):
                    raise errors.InvalidArgument(f"{name} must be a date or datetime, got {value!r}")
                step[name] = value.isoformat()
        return self._checked(self._then(**step), validate)

    def time_before(self, end_time: _Moment, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return the rows up to a moment; one without an offset is UTC for a column that has a zone."""
        return self._during(None, end_time, include_boundary, validate)

    def time_after(self, start_time: _Moment, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return the rows from a moment on."""
        return self._during(start_time, None, include_boundary, validate)

    def time_between(self, start_time: _Moment, end_time: _Moment, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return the rows from one moment to another."""
        return self._during(start_time, end_time, include_boundary, validate)

    def time_recent(self, time_delta: datetime.timedelta, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return the rows of so long before now; now is when this is called, UTC."""
        return self._during(datetime.datetime.now(datetime.UTC) - time_delta, None, include_boundary, validate)

    # What is known of the rows -----------------------------------------------------------------------------------------

    @property
    def schema(self) -> list[dict[str, str]]:
        """Return names and PostgreSQL types of its columns: as they were registered, or as they are now."""
        if self._row is not None and self._row["schema"] is not None:
            return list(self._row["schema"])
        with evaluation.opened(self) as found:
            return _described(found)

    def profile(self, probabilities: Sequence[float] | None = None) -> pd.DataFrame:
        """Return a row a column: count, missing, distinct_values, min, max, mean, std, quantiles.

        The database computes it, dbml.profile, which says what each is.  Rows of files are copied into a temporary table
        for it.  probabilities: of the quantiles.
        """
        with evaluation.connected(self._workspace) as connection, evaluation.computed(connection, self) as query:
            return pd.DataFrame(datasets.profile(connection, query, probabilities))

    def get_profile(self, workspace: Any = None) -> pd.DataFrame:
        """Do what `profile` does."""
        return self.profile()

    def compare(self, reference: TabularDataset | int | str, bins: int = 10) -> pd.DataFrame:
        """Return how this dataset differs from an earlier one, a row a column.

        reference: a dataset, or a version of this one.  change is same, added, dropped or type changed; psi is the
        population stability index and ks the two-sample Kolmogorov-Smirnov statistic with ks_p; appeared and vanished are
        categories.  The database computes it, dbml.data_drift, whose manual entry has the definitions.
        """
        if not isinstance(reference, TabularDataset):
            from dbml.core.dataset import Dataset

            name = self._reference.rpartition(":")[0]
            found = Dataset.get_by_name(self._workspace, name, reference)
            if not isinstance(found, TabularDataset):
                raise UserErrorException(f"version {reference} of dataset {name!r} is of files, and has no columns")
            reference = found
        with (
            evaluation.connected(self._workspace) as connection,
            evaluation.computed(connection, reference) as before,
            evaluation.computed(connection, self) as after,
        ):
            return pd.DataFrame(datasets.drift(connection, before, after, bins))

    def _columns(self) -> list[dict[str, str]] | None:
        if self._definition.kind in ("table", "query") and not self._definition.steps:
            with evaluation.connected(self._workspace) as connection:
                query = evaluation.query_of(connection, self._definition)
                return [{"name": f.name, "type": f.type} for f in table_rows.describe(connection, query)]
        if self._definition.kind == "tabular":
            found = sources(self._definition, self._workspace_or_none, self._pinned)
            if self._definition.body["format"] != "parquet" and sum(source.size for source in found) > _SCHEMA_BYTES:
                return None
        with evaluation.opened(self) as read:
            return _described(read)

    def _checked(self, dataset: Self, validate: bool, timestamp: str | None = None) -> Self:
        if validate:
            with evaluation.opened(dataset) as found:
                if timestamp is not None:
                    step = {"step": "time", "column": timestamp, "include_boundary": True}
                    rows.apply(found, [step])
        return dataset

    def register(self, workspace: Any, name: str, *arguments: Any, **options: Any) -> Self:
        """Register it, and return the registered version; see `AbstractDataset.register` for arguments and rules."""
        if self._workspace_or_none is None:  # local files have none until now
            return type(self)(self._definition, workspace, None, self._pinned).register(workspace, name, *arguments, **options)
        return super().register(workspace, name, *arguments, **options)


def _described(found: rows.Rows) -> list[dict[str, str]]:
    return [{"name": field.name, "type": table_rows.postgres_type(field.name, field.type)} for field in found.schema]


def _by_query(connection: Any, query: str, name: sql.Composable, mode: str) -> int:
    """Let the database write a query's rows; returns how many."""
    text = sql.SQL(query)
    if mode == "append":
        listed = sql.SQL(", ").join(sql.Identifier(field.name) for field in table_rows.describe(connection, query))
        statement = sql.SQL("insert into {} ({}) {}").format(name, listed, text)
    elif mode == "replace":
        beside = sql.Identifier("pg_temp", "dbml_replaced")
        connection.execute(sql.SQL("create table {} as {}").format(beside, text).as_string(connection).encode())
        connection.execute(sql.SQL("drop table if exists {}").format(name))
        statement = sql.SQL("create table {} as select * from {}").format(name, beside)
    else:
        statement = sql.SQL("create table {} as {}").format(name, text)
    written = connection.execute(statement.as_string(connection).encode()).rowcount
    if mode == "replace":
        connection.execute("drop table pg_temp.dbml_replaced")
    return int(written)
