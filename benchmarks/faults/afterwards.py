"""What is lost, and what is left over, when all callers have ended."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.faults.callers import Tally
from benchmarks.faults.world import World


def lost(world: World, tally: Tally) -> list[str]:
    """Return what was acknowledged and is not there, or not whole; and stored bytes that do not match their digest."""
    found = []
    with world.connect() as connection:
        connection.execute("set statement_timeout = 0")
        there = set(connection.execute("select name, version from dbml.models").fetchall())
        found += [f"model {name}:{version}" for name, version in tally.models if (name, version) not in there]
        for name, version, digest in connection.execute("select name, version, digest from dbml.models").fetchall():
            row = connection.execute("select dbml.model_bytes(%s)", (f"{name}:{version}",)).fetchone()
            content = bytes(row[0]) if row else b""
            stored = digest if isinstance(digest, str) else bytes(digest).hex()
            if hashlib.sha256(content).hexdigest() != stored:
                found.append(f"model {name}:{version}: its bytes do not match its digest")
            wanted = tally.models.get((name, version), b"")
            if isinstance(wanted, float) and abs(float(pickle.loads(content).coef_[0]) - wanted) > 1e-6:
                found.append(f"model {name}:{version}: it is another")
            elif isinstance(wanted, bytes) and wanted and hashlib.sha256(content).digest() != wanted:
                found.append(f"model {name}:{version}: it has other bytes")
        for run, wanted_digest in tally.artifacts.items():
            row = connection.execute("select dbml.artifact_bytes(%s::uuid, 'file')", (run,)).fetchone()
            if row is None or row[0] is None or hashlib.sha256(bytes(row[0])).digest() != wanted_digest:
                found.append(f"artifact of run {run}")
        completed = {str(row[0]) for row in connection.execute("select run_id from dbml.runs where status = 'completed'")}
        found += [f"run {run}" for run in (tally.runs | set(tally.artifacts)) - completed]
    return found


def left_over(world: World) -> Iterator[str]:
    """Yield what is there and should not: with the worker at rest, then after its end."""
    assert world.worker is not None
    deadline = time.monotonic() + 5
    while True:
        with world.connect() as connection:
            unfinished = connection.execute("select run_id, status from dbml._runs where finished_at is null").fetchall()
            running = connection.execute("select running, queued from dbml.worker_status").fetchone()
        mine = {process.pid for process in psutil.Process(world.worker.pid).children(recursive=True)} | {world.worker.pid}
        stray = [process for process in world.processes() if process.pid not in mine]
        directories = [path for path in world.temporary.iterdir() if path.name.startswith("dbml-worker-")]
        del directories[:2]  # of what serves and what stands by
        if time.monotonic() > deadline or (not unfinished and running == (0, 0) and not stray and not directories):
            break
        time.sleep(0.1)
    yield from (f"run {run} is {status}" for run, status in unfinished)
    yield from (f"process {process.pid} {' '.join(process.cmdline())[:80]}" for process in stray)
    yield from (f"directory {path.name}" for path in directories)
    if running != (0, 0):
        yield f"the worker says that (running, queued) = {running}"
    with world.connect() as connection:
        host = connection.execute("select host from dbml._worker").fetchone()[0]  # type: ignore[index]
    world.stop()
    time.sleep(0.2)
    yield from (f"process {process.pid} after the end" for process in world.processes())
    yield from (f"{path.name} after the end" for path in world.temporary.iterdir())
    if str(host).startswith("/") and Path(host).exists():
        yield f"{host} after the end"
