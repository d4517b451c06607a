"""How a run is told: its states by the SDK's names, its details as a dictionary, its picture as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from dbml.store.client.rows import Row

# The states of dbml.runs by the names that the SDK has for them.
AZURE_STATUS = {
    "queued": "Queued", "running": "Running", "completed": "Completed", "failed": "Failed", "canceled": "Canceled",
    "interrupted": "NotResponding",
}  # fmt: skip
STATUSES = {said: kept for kept, said in AZURE_STATUS.items()}
ENDED = frozenset({"Completed", "Failed", "Canceled", "NotResponding"})


def describe(row: Row, log_files: Mapping[str, str] | Iterable[str]) -> dict[str, Any]:
    """Return a run as the SDK's dictionary; what has no value is left out."""
    details: dict[str, Any] = {
        "runId": str(row["run_id"]),
        "target": row["pool"] or ("worker" if row["source"] == "worker" else "sdk"),
        "status": AZURE_STATUS[row["status"]],
        "startTimeUtc": _utc(row["started_at"]),
        "endTimeUtc": _utc(row["finished_at"]),
        "services": {},
        "properties": dict(row["properties"]),
        "tags": dict(row["tags"]),
        "inputDatasets": [],
        "outputDatasets": [],
        "parameters": dict(row["params"] or {}),
        "runDefinition": {"script": row["script"], "language": row["language"], "environment": _environment(row)},
        "logFiles": dict(log_files) if isinstance(log_files, Mapping) else dict.fromkeys(log_files, ""),
        "submittedBy": row["username"],
    }
    if row["script"] is None:
        del details["runDefinition"]
    if row["error"]:
        details["error"] = {
            "error": {"code": row["sqlstate"] or "UserError", "message": row["error"], "details": row["error_context"]}
        }  # fmt: skip
    return {name: value for name, value in details.items() if value is not None}


def html(row: Row, metrics: Mapping[str, Any]) -> str:
    """Return a run and its metrics as a table."""
    cells = [
        ("Experiment", row["experiment"] or ""), ("Id", str(row["run_id"])), ("Name", row["name"] or ""),
        ("Status", AZURE_STATUS[row["status"]]), ("Started", _utc(row["started_at"]) or ""), ("Seconds", f"{row['seconds']:.1f}"),
        ("Error", row["error"] or ""),
    ]  # fmt: skip
    shown = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in cells if value)
    logged = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(short(value))}</td></tr>" for name, value in metrics.items()
    )  # fmt: skip
    return f"<table>{shown}</table>" + (f"<table><tr><th>metric</th><th>value</th></tr>{logged}</table>" if logged else "")


def short(value: Any) -> str:
    """Return a metric in a few characters: of a series its last value and its length."""
    if isinstance(value, list):
        return f"{short(value[-1])} ({len(value)} values)" if value else "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _environment(row: Row) -> str | None:
    return None if row["environment"] is None else f"{row['environment']}:{row['environment_version']}"
