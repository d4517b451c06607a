"""Submitted runs outlive their submitter's session and wait for a worker; what ran when its worker died is interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psycopg

from .conftest import Operated, until

SLEEP = "import time\nfrom dbml.core import Run\nRun.get_context().child_run()\nprint('begun')\ntime.sleep(600)"


def submit(dsn: str, script: str) -> Any:
    with psycopg.connect(dsn) as session:
        row = session.execute(
            "select dbml.submit_run('faults', dbml.create_snapshot(jsonb_build_object('a.py', %s::text)), 'a.py')", (script,)
        ).fetchone()
        assert row is not None
        return row[0]


def test_workers_come_and_go(installed: str, operate: Callable[..., Operated]) -> None:
    session = psycopg.connect(installed, autocommit=True)

    def state(run_id: Any) -> tuple[Any, ...]:
        row = session.execute("select status, log, sqlstate, error from dbml.runs where run_id = %s", (run_id,)).fetchone()
        assert row is not None
        return row

    def child(run_id: Any) -> Any:
        return session.execute("select status, sqlstate, error from dbml.runs where parent_run_id = %s", (run_id,)).fetchone()

    early = submit(installed, "print('early')")
    gone = submit(installed, "print('gone')")
    assert state(early)[0] == "queued"  # not interrupted: no worker has begun it
    assert session.execute("select dbml.cancel_script(%s)", (gone,)).fetchone() == (True,)
    assert state(gone)[::2] == ("canceled", "57014")

    worker = operate(installed, "--max-running", "1")
    until(lambda: state(early)[:2] == ("completed", "early\n"))
    killed = submit(installed, SLEEP)
    until(lambda: state(killed)[:2] == ("running", "begun\n"))
    until(lambda: child(killed) == ("running", None, None))
    waiting = submit(installed, "print('waited')")
    taken_back = submit(installed, "print('never')")
    until(lambda: session.execute("select count(*) = 2 from dbml.active_scripts where status = 'queued'").fetchone() == (True,))
    assert session.execute("select dbml.cancel_script(%s)", (taken_back,)).fetchone() == (True,)
    until(lambda: session.execute("select count(*) = 1 from dbml.active_scripts where status = 'queued'").fetchone() == (True,))
    os.kill(worker.ping()["pid"], signal.SIGKILL)
    until(lambda: state(killed)[0] == "interrupted")
    until(lambda: state(waiting)[:2] == ("completed", "waited\n"))  # by the worker that came back
    reason = "the worker was stopped or died while the script ran"
    assert state(killed) == ("interrupted", "begun\n", "ML011", reason)
    assert child(killed) == ("interrupted", "ML011", reason)
    assert state(taken_back)[:2] == ("canceled", None)

    stopped = submit(installed, SLEEP)
    until(lambda: state(stopped)[:2] == ("running", "begun\n"))
    later = submit(installed, "print('later')")
    worker.stop()
    assert state(stopped) == ("interrupted", "begun\n", "ML011", reason)
    assert child(stopped) == ("interrupted", "ML011", reason)
    assert state(later)[0] == "queued"
    assert session.execute("select count(*) from dbml._submissions").fetchone() == (1,)
    session.close()
