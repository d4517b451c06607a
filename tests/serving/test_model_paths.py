"""What score.py finds where it asks the SDK for its model's path, in an app that has no SDK."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from dbml.serving.app import model_paths
model_paths.exists = lambda name, known=model_paths.exists: not name.startswith("dbml.core") and known(name)
model_paths.answer_imports()
import dbml.core.model
from azureml.core import Model
from azureml.core.model import Model as Same
assert Model is Same is dbml.core.model.Model
for folder in sys.argv[1:]:
    os.environ["AZUREML_MODEL_DIR"] = folder
    print(Model.get_model_path("one"), Model.get_model_path("one", 2), Model.get_model_path("one", version="1"))
print(Model.get_model_path("two"))
try:
    Model.get_model_path("none")
except Exception as error:
    print(error)
"""


def test_the_path_of_a_model(tmp_path: Path) -> None:
    for path in ("one/1/a.pkl", "one/2/a.pkl", "one/10/a.pkl", "two/1/a", "two/1/b"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "one/10"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    each = " ".join(f"{tmp_path}/one/{version}/a.pkl" for version in (10, 2, 1))
    assert done.stdout.splitlines() == [each, each, f"{tmp_path}/two/1", "model 'none' is not served here, but one, two"]
