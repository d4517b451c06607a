"""The folder of a service: what `docker build` takes, and `python -m dbml.serving.app` serves as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import dbml.kernel
import dbml.serving.app
from dbml.serving.app.manifest import FILE, MODELS
from dbml.serving.export.dockerfile import dockerfile
from dbml.serving.export.plan import File, Plan
from dbml.serving.export.sbom import sbom

APP, KERNEL = Path(dbml.serving.app.__file__).parent, Path(dbml.kernel.__file__).parent

_PACKAGE = '"""What travels of dbml into images: the scoring app."""\n'


class ContentWrong(Exception):
    """Bytes do not match the digest under which they are kept."""


def write(
    plan: Plan, folder: Path, *, wheels: bool = False, keep: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
) -> Path:  # fmt: skip
    """Write a service's folder, whole or not at all; returns it.

    folder: must not be there, or be empty, or hold an export that this one replaces.  wheels: the Dockerfile takes
    packages from wheels/, which `fetch_wheels` fills.  keep: folders of the former export that stay as they are.
    Raises: FileExistsError, which says what is in the way; ContentWrong.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise FileExistsError(
            f"{folder} must be empty or hold a former export, and holds {min(path.name for path in folder.iterdir())}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        scratch.chmod(0o755)
        _fill(plan, scratch, wheels, say)
        for name in (*keep, *(("wheels",) if wheels else ())):
            if (folder / name).is_dir():
                (folder / name).rename(scratch / name)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder


def app_digest() -> str:
    """Return the SHA-256 of the scoring app that goes into folders, in hex: a plan says nothing of it."""
    digest = hashlib.sha256()
    for package in (APP, KERNEL):
        for file in sorted(package.rglob("*.py")):
            digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _fill(plan: Plan, folder: Path, wheels: bool, say: Callable[[str], None]) -> None:
    for model in plan.models:
        for path, file in model.files.items():
            say(f"{model.reference}/{path}")
            _write(folder / MODELS / model.name / str(model.version) / path, file)
    for path, file in plan.source.items():
        _write(folder / "source" / path, file)
    texts = {
        FILE: json.dumps(plan.service_json(), indent=2, ensure_ascii=False) + "\n", "requirements.lock": plan.lock,
        "Dockerfile": dockerfile(plan, wheels=wheels), "sbom.cdx.json": sbom(plan), ".dockerignore": "**/__pycache__\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / MODELS).mkdir(exist_ok=True)
    package = folder / "app" / "dbml"
    shutil.copytree(APP, package / "serving" / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(KERNEL, package / "kernel", ignore=shutil.ignore_patterns("__pycache__"))
    for init in (package / "__init__.py", package / "serving" / "__init__.py"):
        init.write_text(_PACKAGE)


def _write(path: Path, file: File) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for part in file.read():
            digest.update(part)
            out.write(part)
    if digest.hexdigest() != file.sha256:
        raise ContentWrong(f"the bytes of {path.name} must have the digest {file.sha256}, got {digest.hexdigest()}")
