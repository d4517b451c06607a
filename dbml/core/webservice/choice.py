"""Which target a service gets that names none."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SOCKET = Path("/var/run/docker.sock")
WITHIN_S = 60


def target_for(compute_type: str) -> str:
    """Return the target: kubernetes for AKS; else docker where an engine can build here, and process where none can.

    The variable DBML_TARGET names another one for all.
    """
    given = os.environ.get("DBML_TARGET")
    if given:
        return given
    if compute_type == "AKS":
        return "kubernetes"
    there = "DOCKER_HOST" in os.environ or SOCKET.exists()
    if not there or importlib.util.find_spec("docker") is None:
        return "process"
    # In a process of its own: a program that deploys needs no docker module, and no memory for it.
    try:
        done = subprocess.run([sys.executable, "-m", "dbml.serving.runner.reach"], capture_output=True, cwd="/", timeout=WITHIN_S)
    except subprocess.TimeoutExpired:
        return "process"
    return "docker" if done.returncode == 0 else "process"
