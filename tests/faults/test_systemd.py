"""The unit that is shipped: systemd understands it, and it starts a worker that is there."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Operated, until

pytestmark = pytest.mark.once

UNIT = Path(__file__).parents[2] / "examples" / "systemd" / "dbml-worker.service"


@pytest.fixture
def analyze() -> str:
    """The path of systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze must be on this machine: apt-get install systemd")
        pytest.skip("systemd-analyze is not on this machine: apt-get install systemd")
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the program that is installed here."""
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text().replace("/opt/dbml/bin/dbml", str(Path(sys.executable).with_name("dbml"))))
    return made


def test_systemd_understands_it(analyze: str, unit: Path) -> None:
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, [])


def test_it_is_closed_as_far_as_the_sandbox_allows(analyze: str, unit: Path) -> None:
    """40 of 100 is "OK" in systemd's own words; what is left are the namespaces that scripts are locked into."""
    command = [analyze, "security", "--offline=yes", "--threshold=45", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-3000:]


def test_what_it_runs_is_a_worker(installed: str, tmp_path: Path, operate: Callable[..., Operated]) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    service = parser["Service"]
    assert service["Restart"] == "always" and service["Environment"]
    _, word, *options = shlex.split(service["ExecStart"])
    assert word == "worker" and "--no-supervise" in options
    options[options.index("--listen") + 1] = "127.0.0.1:0"
    secret = tmp_path / "dsn"
    secret.write_text(f"{installed}\n")
    worker = operate(installed, *options, DBML_DSN="", DBML_DSN_FILE=str(secret))
    assert until(worker.ping)["pid"] == worker.process.pid
