"""The servers that are compared: each serves the same Ridge from a process of its own, with one worker, logging to a file."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sklearn.linear_model import Ridge

COLUMNS = [f"c{i}" for i in range(10)]

AZUREML = """
import json, os, pickle
import numpy as np

def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl"), "rb") as file:
        model = pickle.load(file)

def run(data):
    return model.predict(np.array(json.loads(data)["data"])).tolist()
"""
FASTAPI = """
import pickle
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

with open("model.pkl", "rb") as file:
    model = pickle.load(file)
app = FastAPI()

class Rows(BaseModel):
    data: list[list[float]]

@app.post("/score")
async def score(rows: Rows):
    return model.predict(np.array(rows.data)).tolist()
"""


def trained(random: np.random.Generator) -> Ridge:
    """Return the model that all of them serve, of `COLUMNS`."""
    features = random.random((500, len(COLUMNS)))
    return Ridge().fit(features, features @ random.random(len(COLUMNS)))


@dataclass
class Server:
    """One that is compared: how it is started, and how it is asked for rows."""

    name: str
    command: Sequence[str]
    folder: Path
    path: str = "/score"
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0

    def body(self, rows: np.ndarray[Any, Any]) -> bytes:
        """Return a request's body."""
        import json

        if self.path == "/invocations":
            return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": rows.tolist()}}).encode()
        return json.dumps({"data": rows.tolist()}).encode()

    def start(self) -> None:
        """Start it, and wait until it has scored a row."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [word.replace("PORT", str(self.port)) for word in self.command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
        began = time.perf_counter()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        body = self.body(np.zeros((1, len(COLUMNS))))
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}{self.path}", body, {"Content-Type": "application/json"}
            )
            try:
                urllib.request.urlopen(request, timeout=10).read()
                break
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    self.stop()
                    raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text()[-2000:]}") from None
                time.sleep(0.01)
        self.started_s = time.perf_counter() - began

    def memory_mb(self) -> float:
        """Return the memory that it and its children alone hold (USS), in MB."""
        assert self.process is not None
        whole = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().uss for one in [whole, *whole.children(recursive=True)]) / 1e6

    def stop(self) -> None:
        """End it, and whatever it has started."""
        if self.process is not None:
            with_children = self.process
            os.killpg(with_children.pid, signal.SIGTERM)
            try:
                with_children.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(with_children.pid, signal.SIGKILL)
                with_children.wait()


def make(folder: Path, model: Any) -> tuple[list[Server], list[str]]:
    """Return the servers, ours first, and which others are not installed."""
    content = pickle.dumps(model)
    python = sys.executable
    servers, missing = [_ours(folder / "dbml", content)], []
    if importlib.util.find_spec("azureml_inference_server_http") is not None:
        place = _folder(folder / "azureml", content, AZUREML)
        command = [str(Path(python).with_name("azmlinfsrv")), "--entry_script", "score.py", "--port", "PORT"]
        environment = {"AZUREML_MODEL_DIR": str(place), "AML_APP_ROOT": str(place)}
        servers.append(Server("azureml-inference-server-http", command, place, environment=environment))
    else:
        missing.append("azureml-inference-server-http")
    if all(importlib.util.find_spec(name) is not None for name in ("mlflow", "fastapi", "uvicorn")):
        place = _folder(folder / "mlflow", content, "")
        _mlflow_model(place / "model")
        # What `mlflow models serve` runs, with one worker.
        command = [python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--workers", "1",
                   "mlflow.pyfunc.scoring_server.app:app"]  # fmt: skip
        servers.append(Server("MLflow", command, place, "/invocations", {"__pyfunc_model_path__": str(place / "model")}))
    else:
        missing.append("MLflow (mlflow-skinny)")
    if importlib.util.find_spec("fastapi") is not None:
        place = _folder(folder / "fastapi", content, FASTAPI)
        command = [python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--no-access-log", "score:app"]
        servers.append(Server("FastAPI", command, place))
    else:
        missing.append("FastAPI")
    return servers, missing


def _folder(folder: Path, model: bytes, score: str) -> Path:
    folder.mkdir()
    (folder / "model.pkl").write_bytes(model)
    (folder / "score.py").write_text(score)
    return folder


def _ours(folder: Path, model: bytes) -> Server:
    from dbml.serving.export import folder as folders
    from dbml.serving.export import score
    from dbml.serving.export.plan import File, Plan, PlannedModel

    signature = {"features": [{"name": name, "type": "double precision"} for name in COLUMNS], "n_features": len(COLUMNS),
                 "prediction": {"type": "double precision"}}  # fmt: skip
    planned = PlannedModel("ridge", 1, {"model.pkl": File.of(model)}, framework="scikit-learn", signature=signature)
    source = {"score.py": File.of(score.generate(planned, "model.pkl").encode())}
    written = folders.write(Plan("ridge", "1", (planned,), source, "score.py", "", "3"), folder)
    command = [sys.executable, "-m", "dbml.serving.app", str(written), "--port", "PORT"]
    return Server("dbml", command, written, environment={"PYTHONPATH": str(written / "app")})


def _mlflow_model(folder: Path) -> None:
    """Write an MLflow model as its own library would, without what that needs besides."""
    folder.mkdir()
    (folder.parent / "model.pkl").rename(folder / "model.pkl")
    (folder / "code").mkdir()
    (folder / "code" / "ridge_loader.py").write_text(
        "import pickle\n\n\ndef _load_pyfunc(path):\n    with open(path, 'rb') as file:\n        return pickle.load(file)\n"
    )
    inputs = ", ".join(f'{{\\"type\\": \\"double\\", \\"name\\": \\"{name}\\", \\"required\\": true}}' for name in COLUMNS)
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    code: code\n    data: model.pkl\n    loader_module: ridge_loader\n"
        f'signature:\n  inputs: "[{inputs}]"\n  outputs: null\n  params: null\n'
    )
