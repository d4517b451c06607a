"""Which targets this machine has; `python -m dbml.serving.runner.reach` says whether services that name none go to Docker.

They do where an engine answers that has, or can fetch, what images are built on.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys

from dbml import errors
from dbml.serving.runner.contract import NotHere

WITHIN_S = 20


def able(kind: str) -> bool:
    """Tell whether a service of a target can be brought up here."""
    if kind == "docker":
        from dbml.serving.runner.containers import client

        try:
            client().close()
        except (NotHere, errors.DbmlError):
            return False
        return True
    if kind == "compose":
        from dbml.serving.runner.composing import tool

        return tool() is not None
    return kind == "process" or (kind == "kubernetes" and shutil.which("kubectl") is not None)


def builds() -> bool:
    """Tell whether an engine answers that has, or can fetch, the base of images."""
    import docker

    base = os.environ.get("DBML_PYTHON_IMAGE") or f"python:{'.'.join(platform.python_version_tuple()[:2])}-slim"
    try:
        engine = docker.from_env(timeout=WITHIN_S)
        try:
            engine.images.get(base)
        except docker.errors.ImageNotFound:
            engine.images.get_registry_data(base)
    except (docker.errors.DockerException, OSError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if builds() else 1)
