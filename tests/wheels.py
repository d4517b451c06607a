"""Wheels made on disk, so that environments are resolved and built without an index."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json")


def write(
    directory: Path, name: str, version: str, files: Mapping[str, str | bytes] | None = None, requires: Iterable[str] = ()
) -> Path:
    """Write a wheel of pure Python; by default of one empty module."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    content = {name: value.encode() if isinstance(value, str) else value for name, value in (files or {f"{name}.py": ""}).items()}
    content[f"{info}/METADATA"] = ("\n".join(lines) + "\n").encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in content.items():
            archive.writestr(inner, data)
        archive.writestr(f"{info}/RECORD", _record(content, info))
    return path


def repack(directory: Path, names: Iterable[str]) -> None:
    """Make wheels of installed distributions and of what they require: the very files, under the very versions."""
    waiting, seen = list(names), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = metadata.distribution(requirement.name)
        for line in found.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")):
                waiting.append(str(needed))
        _repack(directory, found)


def _repack(directory: Path, found: metadata.Distribution) -> None:
    wheel = found.read_text("WHEEL") or ""
    tags = [line.partition(": ")[2] for line in wheel.splitlines() if line.startswith("Tag: ")]
    python, abi, platforms = (".".join(dict.fromkeys(part)) for part in zip(*(tag.split("-") for tag in tags), strict=True))
    name = str(found.metadata["Name"]).replace("-", "_").replace(".", "_")
    path = directory / f"{name}-{found.version}-{python}-{abi}-{platforms}.whl"
    if path.exists():
        return
    kept = [
        file for file in found.files or []
        if file.parts[0] != ".." and "__pycache__" not in file.parts and file.name not in LEFT_OUT
    ]  # fmt: skip
    info = next(file.parts[0] for file in kept if file.parts[0].endswith(".dist-info"))
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:  # not compressed: it is read once
        for file in kept:
            archive.write(Path(str(file.locate())), str(file))
        listed = io.StringIO()
        rows = csv.writer(listed, lineterminator="\n")
        rows.writerows((str(file), f"{file.hash.mode}={file.hash.value}" if file.hash else "", file.size or "") for file in kept)
        rows.writerow((f"{info}/RECORD", "", ""))
        archive.writestr(f"{info}/RECORD", listed.getvalue())
    partial.rename(path)


def _record(content: Mapping[str, bytes], info: str) -> str:
    lines = []
    for inner, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{inner},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
