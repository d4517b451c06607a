"""Folders of services, and the processes that serve them, for the tests of the scoring app."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

GENERATED = """
import json, os, pickle
from pathlib import Path
import numpy as np

MADE_BY_DBML = True

def init():
    global model
    model = pickle.loads((Path(os.environ["AZUREML_MODEL_DIR"]) / "model.pkl").read_bytes())

def run(data):
    payload = json.loads(data)
    return predict(np.array(payload["data"], dtype=float), payload.get("method", "predict")).tolist()

def predict(rows, method="predict"):
    return getattr(model, method)(rows)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_service(
    folder: Path, score: str, *, name: str = "m", version: int = 1, model: Any = None, signature: Mapping[str, Any] | None = None
) -> Path:
    """Write a service of one model; returns its folder."""
    files = folder / "azureml-models" / name / str(version)
    files.mkdir(parents=True)
    if model is not None:
        (files / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "source").mkdir()
    (folder / "source" / "score.py").write_text(score)
    (folder / "service.json").write_text(json.dumps({
        "name": name, "version": version,
        "models": [{"name": name, "version": version, "format": "pickle", "framework": "scikit-learn", "signature": signature or {}}],
        "scripts": [{"name": name, "version": version, "entry_script": "source/score.py", "models": [f"{name}:{version}"]}],
    }))  # fmt: skip
    return folder


@dataclass
class Served:
    """A process that serves, and where."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def stop(self) -> int:
        """Ask it to end, as a container is asked; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it logged, as far as the lines are whole."""
        return [json.loads(line) for line in self.log.read_text().rpartition("\n")[0].splitlines() if line.startswith("{")]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def start(command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Served:
    """Start a server, without waiting for it."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True
        )
    return Served(process, f"http://127.0.0.1:{port}", log)


def start_ours(folder: Path, *options: str) -> Served:
    """Start the scoring app on a folder."""
    port = free_port()
    command = [sys.executable, "-m", "dbml.serving.app", str(folder), "--port", str(port), *options]
    return start(command, port, folder / "log")


def wait(served: Served, timeout_s: float = 100) -> Served:
    """Wait until a server answers at /."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            httpx.get(served.url + "/", timeout=5)
            return served
        except httpx.TransportError:
            if served.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the server did not come up:\n{served.log.read_text()}") from None
            time.sleep(0.05)
