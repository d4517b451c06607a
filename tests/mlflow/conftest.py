"""MLflow's own client on a workspace of the test's own: in this process, and in a program of its own for what is global."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbml.core import Workspace

from ..conftest import Database

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_DISABLE_AUTO_LOGGING_WARNINGS": "true", "GIT_PYTHON_REFRESH": "quiet",
    "MPLBACKEND": "Agg", "DO_NOT_TRACK": "true",
}  # fmt: skip


@pytest.fixture
def ws(shared: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace, deleted afterwards; the current folder is an empty one."""
    for name, value in {**QUIET, "DBML_DSN": shared.dsn}.items():
        monkeypatch.setenv(name, value)
    for name in ("DBML_RUN_ID", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create("mlflow-" + uuid.uuid4().hex[:12], show_output=False)
    yield workspace
    for experiment in workspace.experiments.values():
        for run in experiment.get_runs(status="Running", include_children=True):
            run.cancel()
    workspace.delete()
    workspace._connection.close()


@pytest.fixture
def program(ws: Workspace) -> Callable[[str], str]:
    """Runs a program with `uri` of the workspace, and returns what it prints."""

    def run(text: str, **environment: str) -> str:
        head = f"import mlflow\nuri = {ws.get_mlflow_tracking_uri()!r}\n"
        done = subprocess.run(
            [sys.executable, "-c", head + text], capture_output=True, text=True, timeout=240, env={**os.environ, **environment}
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()

    return run
