"""The resolver: a specification becomes a lock, the exact versions of everything with the hashes of their files."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from dbml import errors
from dbml.worker.environments import machine
from dbml.worker.environments.spec import Specification, parse
from dbml.worker.environments.uv import Uv, UvFailed

# What dbml's own modules import in an environment: dbml.columns, the satellite, the scorer.  The oldest versions that
# the tests of dbml.columns pass with.
NEEDED = (
    "numpy>=1.26,<3", "pandas>=2.3,<4", "pyarrow>=21", "cloudpickle>=3", "threadpoolctl>=3", "psycopg[binary]>=3.2,<4",
)  # fmt: skip
LONGEST_MESSAGE = 500
_MARK = re.compile(r"^\s*(error:|cause:|Caused by:|hint:|×|╰─▶|├─▶)")


@dataclass(frozen=True)
class Resolved:
    """What a specification was resolved to."""

    format: str
    python_version: str
    lock: str
    properties: dict[str, Any]

    @property
    def lock_sha256(self) -> str:
        """Return the lock's digest, which is the environment's identity."""
        return digest(self.lock)

    @property
    def count(self) -> int:
        """Return how many packages it has."""
        return len(re.findall(r"^[^\s#]", self.lock, re.MULTILINE))


def digest(lock: str) -> str:
    """Return the SHA-256 of a lock, in hex."""
    return hashlib.sha256(lock.encode()).hexdigest()


async def resolve(text: str, python_version: str | None, uv: Uv, say: Callable[[str], None]) -> Resolved:
    """Resolve a specification once.

    python_version: '3.12' or '3.12.4'; None takes what the specification says, else the worker's own.
    Raises: errors.EnvironmentUnresolvable with the resolver's own words; errors.InvalidArgument.
    """
    spec = await asyncio.to_thread(parse, text)
    allowed, described = machine.SUPPORTED & spec.python, str(spec.python or machine.SUPPORTED)
    exact = None
    if python_version is not None:
        asked = machine.wanted_range(python_version)
        exact = python_version if python_version.count(".") == 2 else None
        if len(spec.python) and not _may_meet(spec.python, python_version):
            raise errors.EnvironmentUnresolvable(
                f"python_version must be what the specification allows, {spec.python}, got {python_version}",
                detail={"python_version": python_version, "specification": str(spec.python)},
                hint="leave python_version out, or change it in the specification",
            )
        allowed, described = allowed & asked, python_version
    python = await machine.find(allowed, described, uv)
    say(f"resolving for Python {python.minor}")
    uv.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="resolve-", dir=uv.directory) as folder:
        Path(folder, "specification").write_text("\n".join(spec.requirements) + "\n")
        Path(folder, "dbml").write_text("\n".join(NEEDED) + "\n")
        try:
            lock = await uv.run(
                ["pip", "compile", "specification", "dbml", "--generate-hashes", "--no-header", "--python", python.path],
                folder, say, sources=True,
            )  # fmt: skip
        except UvFailed as failed:
            raise _explain(failed) from None
    version = exact or python.minor
    return Resolved(spec.format, version, f"# Python {version}\n{lock}", spec.properties | _platform(spec))


def _platform(spec: Specification) -> dict[str, Any]:
    return {"python": str(spec.python)} if len(spec.python) else {}


def _may_meet(allowed: SpecifierSet, version: str) -> bool:
    """Tell whether a version, or of '3.12' any patch of it, is in a range."""
    candidates = [version] if version.count(".") == 2 else [f"{version}.{patch}" for patch in range(40)]
    return any(candidate in allowed for candidate in candidates)


def _explain(failed: UvFailed) -> errors.EnvironmentUnresolvable:
    """Make an error of the resolver's own words: shortened in the message, whole in the detail."""
    said = str(failed)
    words = own_words(said)
    if len(words) > LONGEST_MESSAGE:
        words = words[: LONGEST_MESSAGE - 2] + " …"
    return errors.EnvironmentUnresolvable(
        words, detail={"resolver": said}, hint="the former version stays in use; change the specification and create it again"
    )


def own_words(said: str) -> str:
    """Return what uv gives as the reason, as one line, without its headings and marks."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(("warning:", "Resolved", "Using "))]
    start = next((i for i, line in enumerate(lines) if re.match(r"\s*(error:|×)", line)), 0)
    reasons: list[str] = []
    for line in lines[start:]:
        plain = _MARK.sub("", line).strip().removeprefix("│").strip().removesuffix(":")
        if reasons and not _MARK.match(line):  # goes on with the line before
            reasons[-1] += " " + plain
        else:
            reasons.append(plain)
    return ": ".join(reason.strip() for reason in reasons if reason.strip()) or "uv said nothing"
