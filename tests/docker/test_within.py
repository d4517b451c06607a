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
    """With this checkout and its interpreter, read-only; the base image is of this machine's release."""
    places = [str(ROOT), sys.base_prefix, sys.prefix]
    mounts = [word for place in dict.fromkeys(places) for word in ("--volume", f"{place}:{place}:ro")]
    # Below /root, an account of the container's own could not go.
    tmp_path.chmod(0o755)
    open_ways = ["--volume", f"{tmp_path}:/root"] if any(place.startswith("/root/") for place in places) else []
    said = engine.docker(
        "run", "--rm", "--init", "--network", "none", "--user", USER, "--tmpfs", "/scratch-space:exec,mode=1777", *open_ways, *mounts,
        "--env", "HOME=/scratch-space", "--env", "TMPDIR=/scratch-space", "--env", "PYTHONDONTWRITEBYTECODE=1", "--env", "CI=",
        "--env", "HYPOTHESIS_STORAGE_DIRECTORY=/scratch-space/hypothesis", "--workdir", str(ROOT), debian,
        sys.executable, "-m", "pytest", "tests/security/test_sandbox.py", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
        "-p", "no:xdist", "-o", "addopts=--import-mode=importlib", "-k", CHOSEN,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", said)
    assert passed and int(passed[1]) >= 12 and "failed" not in said, said
