"""Every process of the worker may die: a clear error with its own SQLSTATE, nothing left behind, and the next call works."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml import errors


class Slow:
    """A model whose predictions take their time."""

    def predict(self, rows: Any) -> Any:
        import time as clock

        clock.sleep(30)
        return [0.0] * len(rows)


@pytest.fixture
def own(fresh: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(fresh.dsn, autocommit=True) as connection:
        yield connection


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def command_line(pid: int) -> bytes:
    """Return a process' command line, nothing where it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def works(own: psycopg.Connection[Any]) -> None:
    assert own.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]') AS t(a int)").fetchall() == [(1,)]


def test_the_worker_killed_in_mid_call(fresh: Any, own: psycopg.Connection[Any]) -> None:
    works(own)
    pid = fresh.worker.pid
    below = descendants(pid)
    assert below
    threading.Timer(0.7, os.kill, (pid, signal.SIGKILL)).start()
    began = time.monotonic()
    with pytest.raises(errors.WorkerLost):
        own.execute("SELECT * FROM dbml.run_script('while True: pass') AS t(a int)")
    assert time.monotonic() - began < 2.7
    deadline = time.monotonic() + 5  # a zygote that is importing comes to it when it has imported one more module
    while left := [p for p in below if alive(p)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(errors.WorkerUnreachable) as caught:
        own.execute("SELECT * FROM dbml.run_script('x = 1') AS t(a int)")
    assert time.monotonic() - began < 2 and "dbml worker" in str(caught.value.diag.message_hint)
    fresh.worker.restart()
    fresh.worker.wait_ready()
    works(own)
    assert own.execute("SELECT status, error FROM dbml.runs WHERE script LIKE 'while%'").fetchall() == [
        ("interrupted", "the worker was stopped or died while the script ran")
    ]


def test_a_scorer_killed_and_one_that_does_not_end(fresh: Any, own: psycopg.Connection[Any]) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["Slow"]))
    own.execute(
        'SELECT dbml.register_model(\'slow\', %s, signature => \'{"features": [{"name": "x"}]}\')', (cloudpickle.dumps(Slow()),)
    )
    works(own)

    def kill_scorers() -> None:
        with psycopg.connect(fresh.dsn, autocommit=True) as other:
            for pid in other.execute("SELECT dbml_channel.ping() -> 'scorers'").fetchone()[0]:  # type: ignore[index]
                os.kill(pid, signal.SIGKILL)

    threading.Timer(1.0, kill_scorers).start()
    began = time.monotonic()
    with pytest.raises(errors.ScorerLost, match="SIGKILL"):
        own.execute("SELECT dbml.predict('slow', array[1.0]::float8[])")
    assert time.monotonic() - began < 10
    own.execute("SET statement_timeout = '1s'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        own.execute("SELECT dbml.predict('slow', array[1.0]::float8[])")
    own.execute("RESET statement_timeout")
    from sklearn.linear_model import LinearRegression

    own.execute("SELECT dbml.register_model('line', %s)", (pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])),))
    assert round(own.execute("SELECT dbml.predict('line', array[3.0])").fetchone()[0], 6) == 6  # type: ignore[index]


def test_the_zygote_killed(fresh: Any, own: psycopg.Connection[Any]) -> None:
    works(own)
    zygotes = [p for p in descendants(fresh.worker.pid) if b"dbml.worker.zygote" in command_line(p)]
    parent = next(p for p in zygotes if any(child in zygotes for child in descendants(p)))
    os.kill(parent, signal.SIGKILL)
    time.sleep(0.3)
    works(own)


def test_the_database_server_goes_away_and_comes_back_for_the_records(fresh: Any, own: psycopg.Connection[Any]) -> None:
    works(own)
    own.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dbml worker' AND datname = current_database()"
    )
    works(own)
    assert own.execute("SELECT count(*) FROM dbml.runs WHERE status = 'completed'").fetchone() == (2,)


def test_scripts_leave_no_process_and_no_directory(fresh: Any, own: psycopg.Connection[Any]) -> None:
    works(own)
    time.sleep(0.5)  # until the next satellite is forked
    before = len(descendants(fresh.worker.pid))
    script = """
import os, subprocess, sys, pathlib
pathlib.Path('left.txt').write_text('x')
subprocess.Popen(['sleep', '611'])
if os.fork() == 0:
    import time
    time.sleep(600)
OutputDataSet = [os.getcwd()]
"""
    ((scratch,),) = own.execute("SELECT * FROM dbml.run_script(%s) AS t(a text)", (script,)).fetchall()
    with pytest.raises(errors.ScriptCrashed):
        own.execute("SELECT * FROM dbml.run_script('import os; os.kill(os.getpid(), 9)') AS t(a int)")
    deadline = time.monotonic() + 3
    while True:
        below = descendants(fresh.worker.pid)
        sleepers = [p for p in below if b"611" in command_line(p)]
        if not Path(scratch).exists() and not sleepers and len(below) <= before:
            break
        assert time.monotonic() < deadline, (scratch, below, sleepers)
        time.sleep(0.05)


def test_a_script_that_takes_too_much_memory(fresh: Any, own: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.LimitExceeded, match="memory_mb = 4096"):
        own.execute("SELECT * FROM dbml.run_script('import numpy\nx = numpy.ones(5 * 2**27)') AS t(a int)")
    works(own)


def test_bytes_under_a_wrong_digest_are_not_kept(fresh: Any, own: psycopg.Connection[Any]) -> None:
    forged = "import hashlib, io\nreal = hashlib.sha256\nhashlib.sha256 = lambda *a: real(b'another')\n"
    with pytest.raises(errors.DbmlError, match="do not match the digest"):
        own.execute("SELECT * FROM dbml.run_script(%s) AS t(a int)", (forged + "run.register_model('forged', {'a': 1})",))
    assert own.execute("SELECT count(*) FROM dbml._blobs").fetchone() == (0,)
    works(own)


def test_a_script_reads_neither_environment_nor_memory_of_the_worker(fresh: Any, own: psycopg.Connection[Any]) -> None:
    script = f"OutputDataSet = [open('/proc/{fresh.worker.pid}/environ', 'rb').read().decode('latin-1')]"
    with pytest.raises(errors.ScriptError, match=r"Permission denied|No such file"):
        own.execute("SELECT * FROM dbml.run_script(%s) AS t(a text)", (script,))
