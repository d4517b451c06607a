"""The wheels of a lock, beside the Dockerfile: with them an image is built without an index."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dbml.serving.export.plan import packages

# Of Debian 12 and younger, and of the images python:3.x-slim.
_LINUX = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class WheelsMissing(Exception):
    """A package of the lock has no wheel where it was looked for, or what downloads is not there."""


def fetch_wheels(
    folder: Path, lock: str, python_version: str, *, find_links: Sequence[Path | str] = (), no_index: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Path:  # fmt: skip
    """Download the wheels of a lock into the folder wheels/ of an export, by pip and as pip is configured; returns it.

    What is there is not downloaded again; every file's hash is checked.  find_links: folders or pages of wheels.
    Raises: WheelsMissing with pip's own words.
    """
    target = folder / "wheels"
    target.mkdir(exist_ok=True)
    say(f"downloading {len(packages(lock))} wheels for Python {python_version}")
    minor = ".".join(python_version.split(".")[:2])
    words = [
        *_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--python-version", minor, "--dest", str(target), "--requirement", "-",
    ]  # fmt: skip
    if sys.platform != "linux":
        machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
        words += [word for tag in _LINUX for word in ("--platform", f"{tag}_{machine}")]
    words += [word for place in find_links for word in ("--find-links", str(place))]
    if no_index:
        words.append("--no-index")
    listed = target / ".requirements"
    listed.write_text(lock, encoding="utf-8")
    words[words.index("-")] = str(listed)
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        listed.unlink()
    if answer.returncode != 0:
        said = [line.removeprefix("ERROR: ") for line in answer.stderr.splitlines() if line.startswith("ERROR: ")]
        raise WheelsMissing(f"the wheels of the lock cannot be had: {' '.join(said) or answer.stderr.strip()[-500:]}")
    return target


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if uv is not None:
        return [uv, "run", "--quiet", "--no-project", "--with", "pip", "python", "-m", "pip"]
    raise WheelsMissing("pip or uv must be here to download wheels: python -m ensurepip")
