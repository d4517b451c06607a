"""A pipeline run step by step, by its own scripts: what is better is registered and deployed, and what is not is not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sklearn.linear_model import LinearRegression, Ridge

from dbml.core import Workspace
from dbml.serving.export.pipelines import STEPS

pytestmark = pytest.mark.once


@pytest.fixture
def dbml_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command dbml, as the steps call it."""
    (place / "bin").mkdir()
    (place / "bin" / "dbml").write_text(f'#!/bin/sh\nexec {sys.executable} -m dbml.cli "$@"\n')
    (place / "bin" / "dbml").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")


def dbml(*words: str) -> str:
    done = subprocess.run(["dbml", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def step(at: int) -> str:
    done = subprocess.run(["sh", f"pipelines/points/{at}-{STEPS[at - 1]}.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("dbml_here", "house")
def test_step_by_step_what_is_better_is_registered_and_deployed_and_what_is_not_is_not(
    ws: Workspace, db: psycopg.Connection[Any]
) -> None:
    bad = Ridge(alpha=0.1).fit([[0.0, 0.0], [1.0, 1.0]], [5.0, 5.0])
    signature = '{"features": [{"name": "a", "type": "double precision"}, {"name": "b", "type": "double precision"}]}'
    db.execute(
        "SELECT dbml.register_model('points', %s, signature => %s, alias => 'champion', workspace => %s)",
        [pickle.dumps(bad), signature, ws.name],
    )
    db.commit()
    query = "SELECT i::float8 AS a, sqrt(i) AS b, 2 * i + sqrt(i) AS y FROM generate_series(1, 200) i"
    told = dbml("export", "points", "--github", ".", "--query", query, "--label", "y", "--workspace", ws.name)
    assert "pipelines/points/1-train.sh" in told and "on:" in Path(".github/workflows/points.yml").read_text()
    assert list(yaml.safe_load(Path(".github/workflows/points.yml").read_text())["jobs"]) == ["train-and-deploy"]
    step(1)
    assert step(2).startswith("better: score = ")
    assert step(3) == "points:2\n"
    step(4)
    assert (Path("build/image") / "Dockerfile").is_file()
    assert "waits for a machine" in step(5)
    row = db.execute("SELECT models FROM dbml.services WHERE workspace = %s", [ws.name]).fetchone()
    assert row == (["points:2"],)
    # Once more, on the same rows: as good is not better, and nothing changes.
    step(1)
    assert step(2).startswith("not better: score = ")
    assert [step(at) for at in (3, 4, 5)] == ["", "", ""]
    rows = db.execute("SELECT version FROM dbml.models WHERE workspace = %s AND name = 'points' ORDER BY 1", [ws.name]).fetchall()
    assert rows == [(1,), (2,)]


@pytest.mark.usefixtures("dbml_here")
def test_what_a_pipeline_needs_is_said(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    db.execute(
        "SELECT dbml.register_model('m', %s, workspace => %s)", [pickle.dumps(LinearRegression().fit([[0.0]], [1.0])), ws.name]
    )
    db.commit()
    for words, said in (
        (("--query", "select 1"), "needs --query and --label"), (("--query", "select 1", "--label", "y"), "set_model_alias('m:1', 'champion')"),
    ):  # fmt: skip
        done = subprocess.run(
            ["dbml", "export", "m", "--github", ".", *words, "--workspace", ws.name], capture_output=True, text=True
        )
        assert done.returncode != 0 and said in done.stderr, done.stderr
