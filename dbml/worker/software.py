"""Software: what runs a script, as far as no environment's lock says it."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import dbml


def software_of(environment: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return versions of dbml and Python, and where no environment is named a digest of the worker's own packages."""
    if environment is not None:
        return {"dbml": dbml.__version__, "python": environment["python_version"]}
    return {"dbml": dbml.__version__, "python": platform.python_version(), "packages_sha256": own_packages()}


@functools.cache
def own_packages() -> str:
    """Return the SHA-256 of the names and versions of the packages that this process can import."""
    found = sorted({f"{each.name}=={each.version}".lower() for each in metadata.distributions() if each.name})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()
