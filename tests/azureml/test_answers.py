"""Unmodified programs: their imports of azureml are answered, and the report says how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest

SCRIPT = """
import argparse
import azureml.core
from azureml.core import Workspace, Experiment, Run
from azureml.core.compute import ComputeTarget, AmlCompute
from azureml.core.compute_target import ComputeTargetException
from azureml.core.model import Model
from azureml.pipeline.core import Pipeline
from azureml.train.automl import AutoMLConfig
from azureml.train.hyperdrive import HyperDriveConfig, RandomParameterSampling
from azureml.opendatasets import MNIST
from azureml.widgets import RunDetails

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
arguments = parser.parse_args()
print("SDK version:", azureml.core.VERSION)
ws = Workspace.create(name=NAME, subscription_id="<azure-subscription-id>", resource_group="g", location="eastus2", exist_ok=True)
try:
    target = ComputeTarget(workspace=ws, name="cpu")
except ComputeTargetException:
    target = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4))
    target.wait_for_completion(show_output=True)
run = Experiment(workspace=ws, name="exp").start_logging()
run.log("alpha", arguments.alpha)
run.complete()
assert isinstance(run, Run) and not isinstance(run, (HyperDriveConfig, AutoMLConfig))
try:
    AutoMLConfig(task="regression")
except NotImplementedError as error:
    print("refused:", error)
"""


def run(file: Path, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbml.azureml", str(file), *arguments], capture_output=True, text=True, timeout=100,
        env={**os.environ, "DBML_DSN": dsn}, cwd=file.parent,
    )  # fmt: skip


@pytest.fixture
def name() -> str:
    return "az-" + uuid.uuid4().hex[:8]


def test_a_script_runs_as_it_is_and_the_report_says_how(dsn: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.replace("NAME", repr(name)))
    done = run(file, dsn, "--alpha", "0.5")
    assert done.returncode == 0, done.stderr
    assert "refused: AutoMLConfig is not there; what is: choose estimators in a script" in done.stdout
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select r.status, m.name, m.value from dbml.runs r join dbml.metrics m using (run_id) where r.workspace = %s", [name]
        ).fetchone()
    assert row == ("completed", "alpha", 0.5)
    whole, _, rest = done.stderr.partition("answered nearly:")
    nearly, _, missing = rest.partition("not there:")
    assert "azureml.core.Experiment" in whole and "Run.log" in whole
    assert "Workspace.create: makes a workspace in the database" in nearly and "ComputeTarget.create" in nearly
    assert (
        "azureml.opendatasets.MNIST: Dataset.Tabular over files" in missing
        and "azureml.pipeline.core.Pipeline: runs one after the other" in missing
    )
    assert "Run.log" not in missing


def notebook(path: Path, *cells: str) -> Path:
    path.write_text(json.dumps({"nbformat": 4, "cells": [
        {"cell_type": "markdown", "source": ["# Title"]}, *({"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells),
    ]}))  # fmt: skip
    return path


def test_a_notebook_runs_cell_by_cell(dsn: str, tmp_path: Path, name: str) -> None:
    file = notebook(
        tmp_path / "n.ipynb", "%matplotlib inline\n!pip install azureml-sdk\nimport os\nfrom azureml.core import Workspace",
        f"ws = Workspace.create({name!r})\nws.name", "%%bash\nls", "if True:\n    %time x = 1\n    y = 2\ny;", "x = 40 + 2\nx",
    )  # fmt: skip
    done = run(file, dsn)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [name, "42"]
    assert "left out of the notebook:" in done.stderr
    for line in ("cell 2: !pip install azureml-sdk", "cell 4: %%bash", "cell 5: %time x = 1"):
        assert line in done.stderr
    assert "matplotlib" not in done.stderr


def test_a_notebook_writes_the_script_that_it_submits_and_its_imports_are_answered_too(
    dsn: str, tmp_path: Path, name: str
) -> None:
    script = "from azureml.core import Run\nimport azureml.opendatasets\nRun.get_context().log('a', 1)\nprint('ran')\n"
    first = script.index("import azureml.o")  # a line's beginning
    file = notebook(
        tmp_path / "n.ipynb", "import os\nfrom azureml.core import Workspace, Experiment, ScriptRunConfig\n"
        f"ws = Workspace.create({name!r})\nfolder = 'code'\nos.makedirs(folder)",
        "%%writefile $folder/train.py\n" + script[:first], "%%writefile -a {folder + '/train'}.py\n" + script[first:],
        "run = Experiment(ws, 'e').submit(ScriptRunConfig(folder, script='train.py'))\n"
        "run.wait_for_completion(show_output=True)['status']", "run.get_metrics()",
    )  # fmt: skip
    done = run(file, dsn)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code/train.py").read_text() == script
    assert "Writing code/train.py\nAppending to code/train.py\n" in done.stdout and "\nran\n" in done.stdout
    assert done.stdout.endswith("Completed\n{'a': 1}\n") and "left out" not in done.stderr


def test_an_error_in_a_notebook_names_its_cell_and_line(dsn: str, tmp_path: Path) -> None:
    done = run(notebook(tmp_path / "n.ipynb", "a = 1", "b = 2\nraise ValueError('here')"), dsn)
    assert done.returncode == 1
    assert 'n.ipynb[cell 3]", line 2' in done.stderr
    assert "raise ValueError('here')" in done.stderr and "answers.py" not in done.stderr


def test_an_import_at_the_top_does_the_same(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "s.py"
    file.write_text(
        "import dbml.azureml\nimport azureml.core\nfrom azureml.core import Dataset\nimport azureml.nothing.at.all\n"
        "from azureml.exceptions import NobodyKnowsThisError\ntry:\n    1 / 0\nexcept (NobodyKnowsThisError, ZeroDivisionError):\n"
        "    print(Dataset.Tabular is not None, azureml.data.__version__ == dbml.__version__)\n"
    )
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr
    assert "azureml.core.Dataset" in done.stderr and "azureml.nothing.at.all" in done.stderr


def test_the_classes_are_the_very_same(tmp_path: Path) -> None:
    file = tmp_path / "s.py"
    file.write_text(
        "import dbml.azureml, dbml.core, dbml.core.run\nfrom azureml.core import Run\nfrom azureml.core.run import Run as R\n"
        "import azureml.core as c, azureml.core.run\nassert Run is R is dbml.core.Run is c.Run is azureml.core.run.Run\n"
        "assert dbml.core.run.__name__ == 'dbml.core.run' and dbml.core.run.__spec__.name == 'dbml.core.run'\n"
        "try:\n    from azureml.core import run as module\n    module.NoSuch\nexcept AttributeError:\n    raise SystemExit(1)\n"
    )
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "content", "words"), [("no.py", None, "is no file"), ("n.ipynb", "{}", "must be a Jupyter notebook")]
)
def test_what_cannot_be_run_is_said(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / file).write_text(content)
    done = run(tmp_path / file, "postgresql://nobody")
    assert done.returncode == 2
    assert words in done.stderr


def test_the_exit_code_is_the_scripts_own(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import sys; sys.exit(7)")
    assert run(tmp_path / "s.py", "postgresql://nobody").returncode == 7


def test_names_that_numpy_had_are_the_builtins_here_and_in_submitted_scripts(dsn: str, tmp_path: Path, name: str) -> None:
    script = "import numpy as np\nfrom azureml.core import Run\nRun.get_context().log('a', np.float(1.5))\n"
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text(script)
    file = notebook(
        tmp_path / "n.ipynb", "import numpy as np\nfrom azureml.core import Workspace, Experiment, ScriptRunConfig\n"
        f"run = Experiment(Workspace.create({name!r}), 'e').submit(ScriptRunConfig('code', script='train.py'))\n"
        "run.wait_for_completion()['status']", "run.get_metrics(), np.int is int, hasattr(np, 'none'), np.float64(1).dtype",
    )  # fmt: skip
    done = run(file, dsn)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Completed\n({'a': 1.5}, True, False, dtype('float64'))\n")
    assert "numpy.int: the builtin, as NumPy had it until 1.24" in done.stderr
