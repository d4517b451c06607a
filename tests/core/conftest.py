"""The SDK against a real server: a workspace of the test's own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from dbml.core import Experiment, Run, Workspace
from dbml.serving.export.score import NEEDED

from .. import wheels
from ..conftest import Database


@pytest.fixture
def place(shared: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder, with DBML_DSN in the environment."""
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.delenv("DBML_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ws(place: Path) -> Iterator[Workspace]:
    """A workspace, deleted afterwards."""
    workspace = Workspace.create("w-" + uuid.uuid4().hex[:12], show_output=False)
    yield workspace
    for experiment in workspace.experiments.values():
        for run in experiment.get_runs(status="Running", include_children=True):
            run.cancel()
    workspace.delete()
    workspace._connection.close()


@pytest.fixture
def run(ws: Workspace) -> Run:
    """A run that has been started."""
    return Experiment(ws, "trials").start_logging()


@pytest.fixture(scope="session")
def house(wheelhouse: Path) -> Path:
    """The folder of wheels, with what an image of scikit-learn needs."""
    for name in ("scikit-learn", "skops", *(re.split(r"[\[>=<]", one)[0] for one in NEEDED)):
        if name not in ("numpy", "pandas"):  # these are there as they are; of the others the names and versions will do
            wheels.write(wheelhouse, name.replace("-", "_"), version(name))
    return wheelhouse
