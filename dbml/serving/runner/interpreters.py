"""The Python that a service's lock wants: this one where it has every package as locked, else a venv made with uv."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from dbml import errors
from dbml.serving.export.plan import packages

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreter(lock: str, python_version: str, cache: Path, say: Callable[[str], None]) -> Path:
    """Return the interpreter to serve with; says which, and why.

    lock: a pip requirements text with hashes; empty: what is here must do.  cache: where venvs are kept, one a lock.
    Raises: EnvironmentBuildFailed with what uv said.
    """
    locked = packages(lock)
    if not locked:
        say(f"served by this Python {HERE}: there is no lock")
        return Path(sys.executable)
    differing = _differing(lock)
    wanted = ".".join(python_version.split(".")[:2])
    if wanted != HERE:
        differing.insert(0, f"Python {HERE} is here, and {wanted} in the lock")
    if not differing:
        say(f"served by this Python {HERE}, whose packages are as the lock's {len(locked)}")
        return Path(sys.executable)
    why = ", ".join(differing[:3])
    folder = cache / "services" / hashlib.sha256(f"{python_version}\n{lock}".encode()).hexdigest()[:24]
    python = folder / "bin" / "python"
    if (folder / "whole").is_file():
        say(f"served by the environment of its lock ({why})")
        return python
    say(f"building the environment of its lock ({why})")
    _build(lock, python_version, folder)
    return python


def _differing(lock: str) -> list[str]:
    """Return what is not installed here as it is locked."""
    found = []
    for name, version, _ in packages(lock):
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = "not there"
        if here != version:
            found.append(f"{name} is {here} here and {version} in the lock")
    return found


def _build(lock: str, python_version: str, folder: Path) -> None:
    uv = _uv()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        requirements = scratch / "requirements.lock"
        requirements.write_text(lock, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        _run([uv, "venv", "--quiet", "--relocatable", "--python", python_version, str(scratch / "venv")])
        wanted = ["--require-hashes"] if "--hash=" in lock else []
        python = str(scratch / "venv" / "bin" / "python")
        _run([uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", python, *wanted, "-r", str(requirements)])
        (scratch / "venv" / "whole").touch()
        (scratch / "venv").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise errors.EnvironmentBuildFailed(
            "the service's packages are not installed here as they are locked, and uv is not here",
            hint="pip install 'dbml[worker]'",
        )
    return found


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DBML_DSN", "PG"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise errors.EnvironmentBuildFailed("the service's environment cannot be built: " + (done.stderr or done.stdout).strip())


def require_app() -> None:
    """Refuse to serve where the scoring app's own packages are not installed.

    Raises: DbmlError.
    """
    missing = [name for name in ("starlette", "uvicorn", "orjson", "prometheus_client", "werkzeug")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        raise errors.DbmlError(
            f"a service needs what is not installed here: {', '.join(missing)}", hint="pip install 'dbml[serving]'"
        )
