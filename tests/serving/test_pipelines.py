"""Pipelines: accepted by the published schemas of their services, and run step by step here, by their own scripts."""

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
from check_jsonschema import main as check
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression, Ridge

from dbml.core import Workspace
from dbml.serving.export import pipelines
from dbml.serving.export.pipelines import STEPS, Pipeline

from ..conftest import Database

PIPELINE = Pipeline("it's a model", "it's a model@champion", ["a", "b"], "y", "select 1", "a-model", "1.0", workspace="w 1")


@pytest.mark.parametrize(
    ("make", "schema", "path"),
    [
        (pipelines.github, "vendor.github-workflows", ".github/workflows/it-s-a-model.yml"),
        (pipelines.azure, "vendor.azure-pipelines", "azure-pipelines.yml"),
    ],
)
def test_the_published_schemas_take_it(tmp_path: Path, make: Any, schema: str, path: str) -> None:
    written = pipelines.write(make(PIPELINE), tmp_path)
    assert {one.suffix for one in written} == {".py", ".sql", ".sh", ".yml"}
    words = ["--builtin-schema", schema, str(tmp_path / path)]
    if "azure" in schema:
        words += ["--data-transform", "azure-pipelines"]
    answer = CliRunner().invoke(check, words)
    assert answer.exit_code == 0, answer.output
    for script in (tmp_path / PIPELINE.folder).glob("*.sh"):
        assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
    compile((tmp_path / PIPELINE.folder / "train.py").read_text(), "train.py", "exec")
    assert f"sh {PIPELINE.folder}/5-deploy.sh" in (tmp_path / path).read_text()
    (tmp_path / PIPELINE.folder / "query.sql").write_text("select 2")
    with pytest.raises(FileExistsError, match="another content"):
        pipelines.write(make(PIPELINE), tmp_path)


@pytest.fixture
def ws(shared: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A workspace with a model that is the champion, and is bad at what the table says."""
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dbml").write_text(f'#!/bin/sh\nexec {sys.executable} -m dbml.cli "$@"\n')
    (tmp_path / "bin" / "dbml").chmod(0o755)
    workspace = Workspace.create("w-" + os.urandom(6).hex(), show_output=False)
    yield workspace
    for service in workspace.webservices.values():
        service.delete()
    workspace.delete()
    workspace._connection.close()


def dbml(*words: str) -> str:
    done = subprocess.run(["dbml", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def step(at: int) -> str:
    done = subprocess.run(["sh", f"pipelines/points/{at}-{STEPS[at - 1]}.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    assert step(3) == "points:2 is registered as champion\n"
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
