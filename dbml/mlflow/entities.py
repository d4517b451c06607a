"""Rows of the database as MLflow's entities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunStatus,
    RunTag,
)

from dbml.core.tracking_uri import artifacts_of
from dbml.mlflow import held
from dbml.store.client.rows import Row

DEFAULT_ID, DEFAULT_NAME = "0", "Default"  # MLflow's experiment where none is set
ARTIFACTS = "dbml:/runs"  # of an experiment: each run has its own
NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
# States of dbml.runs and what MLflow calls them.
STATUSES = {
    "queued": RunStatus.SCHEDULED, "running": RunStatus.RUNNING, "completed": RunStatus.FINISHED, "failed": RunStatus.FAILED,
    "canceled": RunStatus.KILLED, "interrupted": RunStatus.FAILED,
}  # fmt: skip
ENDINGS = {RunStatus.FINISHED: "completed", RunStatus.FAILED: "failed", RunStatus.KILLED: "canceled"}


def milliseconds(moment: datetime | None) -> int | None:
    """Return a moment as Unix time in milliseconds."""
    return None if moment is None else round(moment.timestamp() * 1000)


def experiment(row: Row) -> Experiment:
    """Return a row of dbml.experiments."""
    tags = [ExperimentTag(key, _text(value)) for key, value in row["tags"].items()]
    return Experiment(
        str(row["experiment_id"]), str(row["name"]), ARTIFACTS, LifecycleStage.ACTIVE, tags=tags,
        creation_time=milliseconds(row["created_at"]), last_update_time=milliseconds(row["last_run_at"] or row["created_at"]),
    )  # fmt: skip


def default_experiment() -> Experiment:
    """Return the experiment of runs that name none, before there is one."""
    return Experiment(DEFAULT_ID, DEFAULT_NAME, ARTIFACTS, LifecycleStage.ACTIVE, creation_time=0, last_update_time=0)


def run(row: Row, metrics: Iterable[Row]) -> Run:
    """Return a row of `dbml.store.client.tracking.runs`, with the last values of its metrics."""
    run_id = str(row["run_id"])
    shown, kept = held.split({key: _text(value) for key, value in row["tags"].items()})
    name = shown.get(NAME) or row["name"] or f"run-{run_id[:8]}"
    tags = shown | {NAME: name} | ({} if row["parent_run_id"] is None else {PARENT: str(row["parent_run_id"])})
    info = RunInfo(
        run_id, DEFAULT_ID if row["experiment_id"] is None else str(row["experiment_id"]), str(row["username"]),
        RunStatus.to_string(STATUSES[row["status"]]), milliseconds(row["started_at"]), milliseconds(row["finished_at"]),
        LifecycleStage.ACTIVE, artifacts_of(run_id), name,
    )  # fmt: skip
    data = RunData(
        [metric(value) for value in metrics], [Param(key, _text(value)) for key, value in row["params"].items()],
        [RunTag(key, value) for key, value in tags.items()],
    )  # fmt: skip
    return Run(info, data, inputs(kept), RunOutputs(held.outputs(kept)))


def inputs(kept: Mapping[str, Any]) -> RunInputs:
    """Return the datasets and models that a run was said to use."""
    datasets = [
        DatasetInput(Dataset(**about["dataset"]), [InputTag(key, value) for key, value in about["tags"].items()])
        for about in kept.get(held.DATASETS, [])
    ]
    return RunInputs(datasets, [LoggedModelInput(model_id) for model_id in kept.get(held.INPUTS, [])])


def metric(row: Row) -> Metric:
    """Return a row of `dbml.store.client.tracking`."""
    return Metric(
        row["name"], row["value"], milliseconds(row["logged_at"]) or 0, int(row["step"]), run_id=str(row["run_id"])
    )  # fmt: skip


def _text(value: Any) -> str:
    """Return a value of a JSON column as MLflow has it: text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
