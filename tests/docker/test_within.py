"""The tests of the sandbox, run again inside a container as Docker starts it: where new namespaces are refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, Engine

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

# Whom initdb finds among the container's accounts.
USER = "65534:65534"
# What a container could change: files, processes, sockets, limits.  The rest is tried outside.
CHOSEN = (
    "landlock and not pickle and not through"
    " and (worker_tells or witnesses or shadow or signals or socket or tcp or mounts or namespaces or environment or outliv or fork)"
)


def test_attacks_are_contained_in_a_container(engine: Engine, debian: str, tmp_path: Path) -> None:
    assert passed_within(engine, debian, tmp_path, USER, "tests/security/test_sandbox.py", CHOSEN) >= 12


def test_a_containers_root_starts_an_embedded_server(engine: Engine, debian: str, tmp_path: Path) -> None:
    """Root there may not look into the processes of the account that the server has."""
    assert (
        passed_within(engine, debian, tmp_path, "0:0", "tests/unit/test_embedded.py", "database_that_answers or taken_over") == 2
    )


def test_a_containers_root_counts_the_memory_of_scripts(engine: Engine, debian: str, tmp_path: Path) -> None:
    """It may not see there who shares the pages of an account's processes."""
    assert passed_within(engine, debian, tmp_path, "0:0", "tests/worker/test_watch.py", "all_its_own") == 1
    assert passed_within(engine, debian, tmp_path, "0:0", "tests/sql/test_pools.py", "pg18 and memory_mb and orphans") == 1


def passed_within(engine: Engine, image: str, home: Path, user: str, tests: str, chosen: str) -> int:
    """Run tests with this checkout and its interpreter, read-only; returns how many passed, none having failed."""
    places = [str(ROOT), sys.base_prefix, sys.prefix]
    mounts = [word for place in dict.fromkeys(places) for word in ("--volume", f"{place}:{place}:ro")]
    # Below /root, an account of the container's own could not go.
    home.chmod(0o755)
    open_ways = ["--volume", f"{home}:/root"] if any(place.startswith("/root/") for place in places) else []
    said = engine.docker(
        "run", "--rm", "--init", "--network", "none", "--user", user, "--tmpfs", "/scratch-space:exec,mode=1777", *open_ways, *mounts,
        "--env", "HOME=/scratch-space", "--env", "TMPDIR=/scratch-space", "--env", "PYTHONDONTWRITEBYTECODE=1", "--env", "CI=",
        "--env", "HYPOTHESIS_STORAGE_DIRECTORY=/scratch-space/hypothesis", "--workdir", str(ROOT), image,
        sys.executable, "-m", "pytest", tests, "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
        "-p", "no:xdist", "-o", "addopts=--import-mode=importlib", "-k", chosen,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", said)
    assert passed and "failed" not in said, said
    return int(passed[1])
