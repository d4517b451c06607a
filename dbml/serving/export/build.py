"""Images by the command docker, from a folder that was exported: as `docker build` there would make them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class BuildFailed(Exception):
    """The image was not built, or there is no docker."""


def build_image(folder: Path, tag: str, *, python_image: str | None = None, show: bool = True) -> str:
    """Build an image of an exported folder under a tag, and return its id.

    python_image: what it is built on instead of python:3.x-slim, any image with that Python and its module venv.
    show: docker's own output is seen; else it is in the error.  Which engine: as the command docker finds it (DOCKER_HOST).
    Raises: BuildFailed.
    """
    docker = shutil.which("docker")
    if docker is None:
        raise BuildFailed(f"docker must be here to build an image; elsewhere: docker build -t {tag} {folder}")
    words = [docker, "build", "--tag", tag]
    if python_image is not None:
        words += ["--build-arg", f"PYTHON_IMAGE={python_image}"]
    answer = subprocess.run([*words, str(folder)], capture_output=not show, text=True, check=False)
    if answer.returncode != 0:
        told = "" if show else f": {(answer.stderr or answer.stdout).strip()[-2000:]}"
        raise BuildFailed(f"docker build of {folder} ended with {answer.returncode}{told}")
    found = subprocess.run([docker, "image", "inspect", "--format", "{{.Id}}", tag], capture_output=True, text=True, check=False)
    return found.stdout.strip()
