"""What the router starts dies, and what scripts have started goes with it; nobody waits for what is gone."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
import pytest
from sklearn.linear_model import LinearRegression

from dbml import errors

from .conftest import Operated, living, until

FORKS = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)\ntime.sleep(300)"


def call(worker: Operated, script: str, failed: list[psycopg.Error]) -> threading.Thread:
    """Call a script in a thread, and wait until it runs."""

    def work() -> None:
        with worker.connect() as session:
            try:
                session.execute("select * from dbml.run_script(%s) as t(a int)", (script,))
            except psycopg.Error as error:
                failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with worker.connect() as other:
        until(lambda: other.execute("select 1 from dbml.active_scripts where cardinality(satellites) = 1").fetchone())
    return thread


@pytest.mark.parametrize("sandbox", ["auto", "landlock"])
def test_a_killed_zygote_takes_along_what_its_scripts_have_started(
    installed: str, operate: Callable[..., Operated], sandbox: str
) -> None:
    worker = operate(installed, "--sandbox", sandbox)
    worker.works()
    failed: list[psycopg.Error] = []
    thread = call(worker, FORKS, failed)
    with worker.connect() as other:
        (satellite,) = other.execute("select satellites[1] from dbml.active_scripts").fetchone()  # type: ignore[misc]
    below = until(lambda: psutil.Process(satellite).children(recursive=True))
    (zygote,) = worker.ping()["zygotes"]
    os.kill(zygote, signal.SIGKILL)
    thread.join(timeout=30)
    assert isinstance(failed[0], errors.ScriptCrashed)
    assert failed[0].message.endswith("SIGKILL): the zygote that it was forked from has died")
    until(lambda: not living(below))
    worker.works()
    with worker.connect() as session:
        assert session.execute("select status from dbml.runs where script like '%setsid%'").fetchone() == ("interrupted",)
    assert worker.ping()["zygotes"] != [zygote]


def test_a_scorer_that_dies_while_nobody_uses_it_is_nobodys_error(installed: str, operate: Callable[..., Operated]) -> None:
    worker = operate(installed)
    worker.ready()
    with worker.connect() as session:
        model = pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]))
        session.execute("select dbml.register_model('line', %s)", (model,))
        for _ in range(3):
            assert round(session.execute("select dbml.predict('line', array[3.0])").fetchone()[0], 6) == 7  # type: ignore[index]
            scorers = worker.ping()["scorers"]
            for pid in scorers:
                os.kill(pid, signal.SIGKILL)
            until(lambda gone=scorers: not any(psutil.pid_exists(pid) for pid in gone))


def test_a_killed_worker_takes_a_build_along(installed: str, operate: Callable[..., Operated], wheelhouse: Any) -> None:
    """uv, which runs beside the sandbox, and what it runs."""
    worker = operate(installed)
    serving = psutil.Process(worker.ready()["pid"])
    failed: list[str | None] = []

    def build() -> None:
        with worker.connect() as session:
            try:
                session.execute("select dbml.create_environment('built', 'joblib')")
                session.execute("select * from dbml.run_script('OutputDataSet = [1]', environment => 'built') as t(a int)")
            except psycopg.Error as error:
                failed.append(error.sqlstate)

    thread = threading.Thread(target=build)
    thread.start()
    found = until(lambda: [process for process in serving.children(recursive=True) if process.name() == "uv"])
    serving.kill()
    thread.join(timeout=60)
    assert failed == ["ML011"]
    until(lambda: not living(found))
    worker.works()
