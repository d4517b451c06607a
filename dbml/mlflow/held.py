"""What MLflow says of a run that dbml has no column for, kept as JSON in tags of the run and told again as MLflow's entities.

    mlflow.loggedModel.ID    a model that it has logged: name, folder, status, parameters, metrics
    mlflow.datasetInputs     datasets that it used, as mlflow.data describes them
    mlflow.modelInputs       ids of models that it used

The id of a model begins with that of its run, so that it is found by it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric

from dbml.core.tracking_uri import artifacts_of
from dbml.mlflow.failures import missing

MODEL = "mlflow.loggedModel."
DATASETS = "mlflow.datasetInputs"
INPUTS = "mlflow.modelInputs"
ID = "m-"


def split(tags: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the tags that are the user's, and what is kept in the others; of these, one that is no JSON is the user's."""
    shown, kept = {}, {}
    for key, text in tags.items():
        if key.startswith(MODEL) or key in (DATASETS, INPUTS):
            with contextlib.suppress(ValueError):
                kept[key] = json.loads(text) if isinstance(text, str) else text  # SQL sets any JSON
                continue
        shown[key] = text
    return shown, kept


def text(value: Any) -> str:
    """Return what is kept as the text of a tag."""
    return json.dumps(value, ensure_ascii=False)


def new_model_id(run_id: str) -> str:
    """Return an id for a model of a run."""
    return f"{ID}{UUID(run_id).hex}{secrets.token_hex(4)}"


def run_of(model_id: str) -> str:
    """Return the id of the run that has a model.

    Raises: MlflowException where it is no id of ours.
    """
    try:
        return str(UUID(model_id.removeprefix(ID)[:32]))
    except ValueError:
        raise missing(f"no logged model has the id {model_id!r}") from None


def now_ms() -> int:
    """Return the time, as MLflow has it."""
    return int(time.time() * 1000)


def model(model_id: str, about: Mapping[str, Any], experiment_id: str) -> LoggedModel:
    """Return a model that a run has logged."""
    run_id = run_of(model_id)
    metrics = [Metric(**each, model_id=model_id, run_id=run_id) for each in about["metrics"]]
    return LoggedModel(
        experiment_id, model_id, about["name"], artifacts_of(run_id, about["folder"]), about["created"], about["updated"],
        model_type=about["type"], source_run_id=run_id if about["of_run"] else None, status=LoggedModelStatus(about["status"]),
        tags=dict(about["tags"]), params=dict(about["params"]), metrics=metrics,
    )  # fmt: skip


def outputs(kept: Mapping[str, Any]) -> list[LoggedModelOutput]:
    """Return the models that a run was said to make."""
    found = ((key.removeprefix(MODEL), about) for key, about in kept.items() if key.startswith(MODEL))
    return [LoggedModelOutput(model_id, about["step"]) for model_id, about in found if about["of_run"]]
