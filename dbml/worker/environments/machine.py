"""The Python versions that this machine has: uv finds them, and downloads none."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from dbml import errors
from dbml.worker.environments.uv import Uv

SUPPORTED = SpecifierSet(">=3.11,<3.15")  # what dbml itself runs on: its code runs in every environment


@dataclass(frozen=True)
class Python:
    """One interpreter."""

    version: str
    path: str

    @property
    def minor(self) -> str:
        """Return its version without the patch: '3.11'."""
        return ".".join(self.version.split(".")[:2])


def own() -> Python:
    """Return the worker's own interpreter."""
    return Python(platform.python_version(), sys.executable)


def wanted_range(version: str) -> SpecifierSet:
    """Return what an argument python_version allows: '3.12' any patch of it, '3.12.4' that one.

    Raises: InvalidArgument.
    """
    try:
        parts = len(Version(version).release)
        if parts not in (2, 3) or str(Version(version)) != version:
            raise InvalidVersion(version)
        return SpecifierSet(f"=={version}.*" if parts == 2 else f"=={version}")
    except (InvalidVersion, InvalidSpecifier):
        raise errors.InvalidArgument(
            f"python_version must be like 3.12 or 3.12.4, got {version!r}", detail={"python_version": version}
        ) from None


async def find(wanted: SpecifierSet, described: str, uv: Uv) -> Python:
    """Return an interpreter in a range: the worker's own where it is, else the newest on the machine.

    described: the range, as its user knows it.
    Raises: EnvironmentUnresolvable, which names those that are there.
    """
    if own().version in wanted:
        return own()
    there = [python for python in await installed(uv) if python.version in SUPPORTED]
    fitting = [python for python in there if python.version in wanted]
    if fitting:
        return max(fitting, key=lambda python: Version(python.version))
    versions = sorted({python.version for python in (*there, own())}, key=Version)
    raise errors.EnvironmentUnresolvable(
        f"Python {described} must be on the worker's machine, which has {', '.join(versions)}",
        detail={"python": described, "installed": versions, "supported": str(SUPPORTED)},
        hint=f"choose one of these, or install it there; dbml runs on Python {SUPPORTED}",
    )


async def installed(uv: Uv) -> list[Python]:
    """Return the interpreters that uv finds on the machine."""
    said = await uv.run(["python", "list", "--only-installed", "--output-format", "json"], cwd=os.sep)
    return [
        Python(found["version"], found["path"])
        for found in json.loads(said)
        if found.get("path") and found.get("implementation") == "cpython" and found.get("variant", "default") == "default"
    ]
