"""Projects to run the command line in, as a user does: whole processes in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("DBML_DSN", "DBML_DEBUG")}


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without what would point the command line elsewhere."""
    return dict(ENVIRONMENT)


@pytest.fixture
def dbml() -> Callable[..., str]:
    """Run the command line in a folder, and return what it printed."""

    def run(project: Path, *arguments: str, code: int = 0) -> str:
        answer = subprocess.run(
            [sys.executable, "-m", "dbml.cli", *arguments],
            cwd=project, capture_output=True, text=True, timeout=115, env={**ENVIRONMENT, "COLUMNS": "120"},
        )  # fmt: skip
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    return run


@pytest.fixture(scope="session")
def projects() -> Iterator[Path]:
    """A folder for projects that a server's account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="dbml-cli-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def project(projects: Path, dbml: Callable[..., str]) -> Iterator[Path]:
    """A folder; whatever is started in it is stopped."""
    folder = Path(tempfile.mkdtemp(dir=projects))
    folder.chmod(0o755)
    yield folder
    dbml(folder, "down")
