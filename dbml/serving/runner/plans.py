"""What a service is made of, read from the database: the plan of its folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import psycopg

from dbml import errors
from dbml.serving.export.plan import File, Plan, PlannedModel
from dbml.serving.export.score import generate
from dbml.store.client import models, uploads

AT_ONCE = 8  # parts of 1 MiB


def plan_of(connection: psycopg.Connection[Any], workspace: str, name: str, wanted: dict[str, Any]) -> Plan:
    """Return the plan of a service that serves one model, with a score.py made for it.

    wanted: what `report_service` says.
    Raises: DbmlError where that is not enough to serve by.
    """
    (reference,) = wanted["models"] or (None,)
    if reference is None:
        raise errors.InvalidArgument("a service must have a model to be served, got none")
    model, environment = planned_model(connection, workspace, reference)
    paths = list(model.files)
    if len(paths) != 1:
        raise errors.InvalidArgument(
            f"a score.py can be made for a model of one file, and {reference} has {len(paths)}",
            hint="Model.deploy(…, inference_config=InferenceConfig(entry_script='score.py'))",
        )
    source = {"score.py": File.of(generate(model, paths[0]).encode())}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Plan(name, str(wanted["generation"]), (model,), source, "score.py", environment, python)


def planned_model(connection: psycopg.Connection[Any], workspace: str, reference: str) -> tuple[PlannedModel, str]:
    """Return a version of a model, whose files are read when they are written, and the lock of its environment.

    Raises: ModelNotFound.
    """
    name, _, version = reference.rpartition(":")
    rows = models.list_all(connection, workspace, name=name, version=int(version))
    if not rows:
        raise errors.ModelNotFound(f'model "{reference}" is not in workspace "{workspace}"')
    (row,) = rows
    listed = models.files(connection, workspace, name, int(version))
    suffix = {"safe": "skops", "onnx": "onnx"}.get(row["format"], "pkl")
    files = {str(one["path"]): (str(one["path"]), one) for one in listed} or {f"{name}.{suffix}": (None, row)}
    kept = {
        path: File(one["digest"], int(one["size_bytes"]), _reader(connection, workspace, reference, inside, int(one["size_bytes"])))
        for path, (inside, one) in files.items()
    }  # fmt: skip
    run_id = None if row["run_id"] is None else str(row["run_id"])
    planned = PlannedModel(
        name, int(version), kept, format=_format(row["format"], list(kept)), framework=row["framework"],
        framework_version=row["framework_version"], digest=row["digest"], signature=row["signature"] or {}, workspace=workspace,
        run_id=run_id, description=row["description"],
    )  # fmt: skip
    return planned, ""


def _format(kept_as: str, paths: list[str]) -> str:
    """Return how the score.py reads it: what joblib dumped is registered as a pickle."""
    if kept_as == "safe":
        return "skops"
    endings = {"joblib": "joblib", "onnx": "onnx", "skops": "skops"}
    return endings.get(paths[0].rpartition(".")[2].lower(), "joblib" if kept_as == "pickle" else kept_as)


def _reader(connection: psycopg.Connection[Any], workspace: str, reference: str, path: str | None, size: int) -> Any:
    def read() -> Iterable[bytes]:
        count = max(1, -(-size // uploads.PART_BYTES))
        for first in range(0, count, AT_ONCE):
            asked = [(reference, part, path, workspace) for part in range(first, min(first + AT_ONCE, count))]
            yield from (part or b"" for part in uploads.model_parts(connection, asked))

    return read
