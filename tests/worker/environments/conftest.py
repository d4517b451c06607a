"""Wheels that resolve in a moment, uv without an index, and an event loop for synchronous tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from packaging.requirements import Requirement

from dbml.worker.environments.resolver import NEEDED
from dbml.worker.environments.uv import Uv

from ... import wheels

T = TypeVar("T")


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Run a coroutine; several of one test share a loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """A folder of wheels: hollow ones of what every environment needs, and 'tiny' in two versions."""
    folder = tmp_path / "links"
    folder.mkdir()
    for line in NEEDED:
        needed = Requirement(line)
        version = next(s.version for s in needed.specifier if s.operator == ">=")
        version += ".0" * (2 - version.count("."))
        wheels.write(folder, needed.name, version, {f"hollow_{needed.name}.py": ""})
    _write_tiny(folder)
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with 'tiny' alone."""
    folder = tmp_path / "few"
    folder.mkdir()
    _write_tiny(folder)
    return folder


def _write_tiny(folder: Path) -> None:
    for version in ("1.0", "2.0"):
        wheels.write(folder, "tiny", version, {"tiny.py": f"VERSION = {version!r}\n"})


@pytest.fixture
def uv(tmp_path: Path, links: Path) -> Uv:
    """The uv of a worker without an index."""
    return Uv(tmp_path / "cache", (str(links),), no_index=True)
