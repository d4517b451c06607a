"""MLflow's own client on a workspace of the test's own: in this process, and in a program of its own for what is global."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from dbml.core import Workspace

from ..core.conftest import place as place
from ..core.conftest import ws as ws

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_DISABLE_AUTO_LOGGING_WARNINGS": "true", "GIT_PYTHON_REFRESH": "quiet",
    "MPLBACKEND": "Agg", "DO_NOT_TRACK": "true",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's variables, as far as they would change what it does or says."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


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
