"""Runs as MLflow wants them: with the key of their experiment, and the last value of each metric."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows

_RUNS = sql.SQL(
    "select r.run_id, e.experiment_id, r.experiment, r.parent_run_id, r.display_name as name, r.source, r.status, r.username,"
    " r.started_at, r.finished_at, r.logged_params || coalesce(r.params, '{}') as params, r.tags"
    " from dbml.runs r left join dbml.experiments e on e.workspace = r.workspace and e.name::text = r.experiment"
    " where r.workspace = %(workspace)s and "
)

# The value that counts is that of the highest step, of these the latest, of these the largest, as MLflow has it.
_LATEST = sql.SQL(
    "select distinct on (run_id, name) run_id, name, coalesce(step, 0) as step, value, logged_at from dbml.metrics"
    " where run_id = any(%(run_ids)s) and value is not null"
    " order by run_id, name, coalesce(step, 0) desc, logged_at desc, value desc"
)

_HISTORY = sql.SQL(
    "select run_id, name, coalesce(step, 0) as step, value, logged_at from dbml.metrics"
    " where run_id = %(run_id)s and name = any(%(names)s) and value is not null"
)


def runs(
    connection: Connection, workspace: str, *, run_ids: Sequence[UUID] | None = None, experiment_ids: Sequence[int] | None = None
) -> list[Row]:
    """Return runs of a workspace by their ids, or those of experiments."""
    by = sql.SQL("r.run_id = any(%(keys)s)" if run_ids is not None else "e.experiment_id = any(%(keys)s)")
    keys = list(run_ids if run_ids is not None else experiment_ids or ())
    return all_rows(connection, _RUNS + by, {"workspace": workspace, "keys": keys})


def latest(connection: Connection, run_ids: Sequence[UUID]) -> list[Row]:
    """Return the last value of each metric of runs."""
    return all_rows(connection, _LATEST, {"run_ids": list(run_ids)})


def history(connection: Connection, run_id: UUID, names: Sequence[str]) -> list[Row]:
    """Return all values of metrics of a run, in the order of logging."""
    return all_rows(connection, _HISTORY, {"run_id": run_id, "names": list(names)})
