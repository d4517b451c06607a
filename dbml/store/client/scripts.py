"""Scripts and predictions, by clients: the calls whose results are frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from dbml.store.client import uploads
from dbml.store.client.rows import Connection, Row

OUTPUT = "OutputDataSet"
WINDOW = 16  # parts a round trip


def keep(connection: Connection, **given: Any) -> UUID:
    """Run a script and keep its result with the run; returns the run's id."""
    row = connection.execute(
        "select dbml_channel.keep_script(%(script)s, null, %(inputs)s::jsonb, %(params)s::jsonb, %(language)s, 'InputDataSet',"
        " 'OutputDataSet', %(partition_by)s::text[], %(order_by)s::text[], %(rows_per_read)s::integer, %(parallel)s::integer,"
        " %(environment)s, %(pool)s, %(timeout)s::interval, %(workspace)s, %(experiment)s)",
        given,
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def columns_of(connection: Connection, run_id: UUID) -> list[Row] | None:
    """Return names and types of a kept result, None where the script left none."""
    row = connection.execute("select columns from dbml.outputs where run_id = %s and name = %s", (run_id, OUTPUT)).fetchone()
    return None if row is None else list(row[0])


def output_query(run_id: UUID, columns: Sequence[Row]) -> sql.Composed:
    """Return the query of a kept result's rows."""
    return sql.SQL("select * from dbml.run_output({}, {}) as t({})").format(run_id, OUTPUT, _listed(columns))


def forget(connection: Connection, run_id: UUID) -> None:
    """Drop a kept result, which has been read."""
    connection.execute("select dbml_channel.forget_output(%s, %s)", (run_id, OUTPUT))


def predict_one(connection: Connection, model: str, features: Sequence[float]) -> float:
    """Score one row."""
    row = connection.execute("select dbml.predict(%s, %s::double precision[])", (model, list(features))).fetchone()
    assert row is not None
    return float(row[0])


def predict_query(connection: Connection, model: str, query: str) -> sql.Composed:
    """Return the query of a query's rows with their predictions."""
    row = connection.execute(
        "select d.names, d.types, dbml_channel.prediction_type(%s, null) from dbml_channel.describe(%s) d", (model, query)
    ).fetchone()
    assert row is not None
    names, types, predicted = row
    columns = [{"name": name, "type": type_} for name, type_ in zip(names, types, strict=True)]
    listed = _listed([*columns, {"name": "prediction", "type": predicted}])
    return sql.SQL("select * from dbml.predict({}, {}) as t({})").format(model, query, listed)


def model_bytes(connection: Connection, reference: str, workspace: str) -> bytes:
    """Return a model's bytes, read in parts."""
    parts: list[bytes] = []
    while True:
        wanted = [(reference, len(parts) + number, None, workspace) for number in range(WINDOW)]
        for part in uploads.model_parts(connection, wanted):
            if part is None:
                return b"".join(parts)
            parts.append(part)


def _listed(columns: Sequence[Row]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column["name"]), sql.SQL(column["type"])) for column in columns
    )
