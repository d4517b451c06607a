"""Pipelines are accepted by the published schemas of their services."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema import main as check
from click.testing import CliRunner

from dbml.serving.export import pipelines
from dbml.serving.export.pipelines import Pipeline

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
        words += ["--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"]
    answer = CliRunner().invoke(check, words)
    assert answer.exit_code == 0, answer.output
    for script in (tmp_path / PIPELINE.folder).glob("*.sh"):
        assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
    compile((tmp_path / PIPELINE.folder / "train.py").read_text(), "train.py", "exec")
    assert f"sh {PIPELINE.folder}/5-deploy.sh" in (tmp_path / path).read_text()
    (tmp_path / PIPELINE.folder / "query.sql").write_text("select 2")
    with pytest.raises(FileExistsError, match="another content"):
        pipelines.write(make(PIPELINE), tmp_path)
