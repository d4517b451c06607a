"""Each benchmark runs to its end with small sizes and prints its table.  What it measures is not tested."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dbml.database.account import server_account

ROOT = Path(__file__).parents[2]
PLPYTHON = Path("/usr/lib/postgresql/15/lib/plpython3.so")


@pytest.mark.parametrize(
    "name",
    [
        "run_script",
        "predict_one",
        "predict_into",
        "engines",
        "maintain",
        "houses",
        "memory",
        "pieces",
        "streaming",
        "folder",
        "models",
        "transfer",
        pytest.param("r_script", marks=pytest.mark.needs_r),
    ],
)
def test_a_benchmark_prints_its_table(name: str) -> None:
    if name == "predict_one" and sys.version_info[:2] != (3, 11):
        pytest.skip("Debian's PL/Python is of Python 3.11, it cannot import this environment's scikit-learn")
    if name == "predict_one" and not PLPYTHON.exists() and os.environ.get("CI") != "true":
        pytest.skip("postgresql-plpython3-15 is not on this machine")
    account = server_account()
    if name == "predict_one" and account is not None and not account.reaches(Path(sysconfig.get_paths()["purelib"])):
        pytest.skip("the account that runs the server may not read this environment, so that PL/Python cannot import from it")
    if name == "predict_into" and importlib.util.find_spec("adbc_driver_postgresql") is None:
        pytest.fail("pip install -e '.[test]'")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout and "wanted" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["sets", "row", "rate", "compiled", "keep", "real"])
def test_a_part_of_the_report_is_measured_and_the_others_are_kept(part: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("orbital") is None and os.environ.get("CI") != "true":
        pytest.skip("pip install -e '.[report]'")
    figure = {"what": "kept from before", "way": "other", "rows": 7, "seconds": [0.5], "missing": ""}
    earlier = {"about": {"date": "yesterday"}, "figures": [figure], "wishes": []}
    other = "keep" if part != "keep" else "rate"
    (tmp_path / "benchmarks.json").write_text(json.dumps({"machine": {}, "parts": {part: earlier, other: earlier}}))
    command = [sys.executable, "-m", "benchmarks.report", "--quick", "--folder", tmp_path, "--only", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=390)
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "benchmarks.json").read_text())["parts"]
    assert parts[other] == earlier and parts[part]["about"]["date"] != "yesterday"
    measured = [f for f in parts[part]["figures"] if f["seconds"]]
    assert len(measured) > 1 and all(s > 0 for f in measured for s in f["seconds"])
    assert any(f["way"].startswith("dbml") or part == "keep" for f in measured)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "processor" in page and "kept from before" in page and all(wish["what"] in page for wish in parts[part]["wishes"])
    drawn = tmp_path / "benchmarks" / f"{part}.svg"
    if part in ("sets", "row", "compiled"):
        assert drawn.read_text().count("<path") > 5 and f"benchmarks/{part}.svg" in page


def test_a_quick_report_does_not_replace_the_page() -> None:
    command = [sys.executable, "-m", "benchmarks.report", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 2 and "--quick needs --folder" in done.stderr


def test_a_fault_run_finds_everything_as_wanted_but_perhaps_the_time() -> None:
    """Everything but how long it took, which depends on what else the machine does."""
    command = [sys.executable, "-m", "benchmarks.faults", "--minutes", "0.4", "--seed", "7", "--rests", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=118)
    for what in (
        "errors that do not say what died",
        "wrong answers",
        "calls that hung",
        "acknowledged and lost, or not whole",
        "left over",
    ):
        assert f"{what}: 0\n" in done.stdout, done.stdout + done.stderr


def test_many_connections_are_all_answered_rightly() -> None:
    command = [sys.executable, "-m", "benchmarks.connections", "--clients", "50", "--transactions", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0 and "500 of 500" in done.stdout, done.stdout + done.stderr


def test_fuzzing_prints_what_came_of_it() -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--quick", "--plain", "requests", "pickle"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0 and done.stdout.count("2,000") == 2, done.stdout + done.stderr
