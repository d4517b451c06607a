"""Eight processes at once: every value once, versions from 1 to n without a gap or a double."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from dbml.core import Run, Workspace

PROCESSES, VALUES, VERSIONS = 8, 1200, 4

TAKES_PART = f"""
import sys
from dbml.core import Model, Run, Workspace

workspace = Workspace.get(sys.argv[1])
run, me = Run.get(workspace, sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range({VALUES}):
    run.log("n", me * {VALUES} + number)
    if number % {VALUES // VERSIONS} == 0:
        Model.register(workspace, "model.bin", "contested", tags={{"by": me}})
        run.tag(f"by {{me}}", number)
"""


def test_eight_processes_log_to_one_run_and_register_one_model(
    ws: Workspace, run: Run, place: Path, db: psycopg.Connection[Any]
) -> None:
    (place / "model.bin").write_bytes(bytes(1 << 21))
    children = [
        subprocess.Popen([sys.executable, "-c", TAKES_PART, ws.name, run.id, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for me in range(PROCESSES)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=100)[1] for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, said
    values = run.get_metrics()["n"]
    assert sorted(values) == list(range(PROCESSES * VALUES))
    for me in range(PROCESSES):
        mine = [value for value in values if value // VALUES == me]
        assert mine == sorted(mine), "each process's values are in its order"
    versions = db.execute("SELECT version FROM dbml.models WHERE workspace = %s ORDER BY 1", (ws.name,)).fetchall()
    assert versions == [(number,) for number in range(1, PROCESSES * VERSIONS + 1)]
    assert len(run.get_tags()) == PROCESSES
    ordinals = db.execute("SELECT count(*), max(ordinal) FROM dbml._metrics WHERE run_id = %s", (run.id,)).fetchone()
    assert ordinals == (PROCESSES * VALUES, PROCESSES * VALUES - 1)
