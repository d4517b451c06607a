"""What a caller sees when a script goes wrong: its own SQLSTATE, the script's own lines, and a connection that works on."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from dbml import errors

RUN = "SELECT * FROM dbml.run_script(%s) AS t(a int)"


def assert_works(db: psycopg.Connection[Any]) -> None:
    assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = {\"a\": [1]}') AS t(a int)").fetchall() == [(1,)]


def test_prints_arrive_as_notices_in_order(db: psycopg.Connection[Any]) -> None:
    heard: list[str] = []
    db.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
    db.execute(RUN, ("import sys\nprint('one')\nprint('zwei ü')\nprint('to stderr', file=sys.stderr)",))
    assert "\n".join(heard).splitlines() == ["one", "zwei ü", "to stderr"]


def test_prints_arrive_while_the_script_runs(db: psycopg.Connection[Any]) -> None:
    heard: list[float] = []
    db.add_notice_handler(lambda diagnostic: heard.append(time.monotonic()))
    db.execute(RUN, ("import time\nprint('first', flush=True)\ntime.sleep(1.5)\nprint('second')",))
    assert len(heard) == 2 and heard[1] - heard[0] > 1


def test_an_exception_has_its_own_message_and_the_scripts_lines(db: psycopg.Connection[Any]) -> None:
    script = "def share(a, b):\n    return a / b\n\nx = 1\nshare(x, 0)\n"
    with pytest.raises(errors.ScriptError) as caught:
        db.execute(RUN, (script,))
    assert caught.value.diag.message_primary == "division by zero"
    context = caught.value.diag.context or ""
    assert "line 5" in context and "share(x, 0)" in context and "line 2" in context and "return a / b" in context
    assert "satellite.py" not in context and "script.py" not in context
    assert caught.value.detail["type"] == "ZeroDivisionError"
    assert_works(db)


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("x = = 1", errors.ScriptSyntaxError, "syntax"),
        ("import sys\nsys.exit(3)", errors.ScriptExit, "3"),
        ("import os\nos._exit(7)", errors.ScriptCrashed, "7"),
        ("import ctypes\nctypes.string_at(0)", errors.ScriptCrashed, "SIGSEGV"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", errors.ScriptCrashed, "SIGKILL"),
        ("raise KeyError('Ärger')", errors.ScriptError, "Ärger"),
        ("raise ValueError", errors.ScriptError, "ValueError"),
    ],
)  # fmt: skip
def test_every_bad_end_has_its_own_sqlstate_within_two_seconds(
    db: psycopg.Connection[Any], script: str, error: type[errors.DbmlError], message: str
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=message):
        db.execute(RUN, (script,))
    # Nothing is waited for once a process is gone.
    assert time.monotonic() - began < (1 if error is errors.ScriptCrashed else 2)
    assert_works(db)


def test_a_script_that_prints_without_end_is_cut_short_but_runs(db: psycopg.Connection[Any]) -> None:
    heard: list[int] = []
    db.add_notice_handler(lambda diagnostic: heard.append(len(diagnostic.message_primary or "")))
    rows = db.execute(RUN, ("for _ in range(200_000): print('x' * 99)\nOutputDataSet = {'a': [1]}",)).fetchall()
    assert rows == [(1,)]
    assert 900_000 < sum(heard) < 1_200_000


def _stopped_within(db: psycopg.Connection[Any], watch: psycopg.Connection[Any], marker: str, limit_s: float) -> None:
    """Wait until the run is recorded as over: the satellite is gone before that is written."""
    began = time.monotonic()
    while True:
        row = watch.execute(
            "SELECT status FROM dbml.runs WHERE script LIKE %s ORDER BY started_at DESC LIMIT 1", (f"%{marker}%",)
        ).fetchone()
        if row is not None and row[0] == "canceled":
            return
        assert time.monotonic() - began < limit_s, f"still {row}"
        time.sleep(0.02)


LOOP = "# {}\nwhile True:\n    pass\n"


def test_statement_timeout_stops_the_script(db: psycopg.Connection[Any], connect: Any) -> None:
    db.execute("SET statement_timeout = '700ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        db.execute(RUN, (LOOP.format("loop-timeout"),))
    with connect() as watch:
        _stopped_within(db, watch, "loop-timeout", 1)
    db.execute("RESET statement_timeout")
    assert_works(db)


def test_a_cancel_request_stops_the_script(db: psycopg.Connection[Any], connect: Any) -> None:
    threading.Timer(0.7, db.cancel).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        db.execute(RUN, (LOOP.format("loop-cancel"),))
    with connect() as watch:
        _stopped_within(db, watch, "loop-cancel", 1)
    assert_works(db)


def test_a_client_that_goes_away_takes_its_script_along(connect: Any) -> None:
    with connect() as watch:
        caller = connect()
        pid = caller.info.backend_pid
        threading.Timer(0.7, lambda: watch.execute("SELECT pg_terminate_backend(%s)", (pid,))).start()
        with pytest.raises(psycopg.OperationalError):
            caller.execute(RUN, (LOOP.format("loop-terminated"),))
        caller.close()
        _stopped_within(caller, watch, "loop-terminated", 2)


def test_the_calls_own_timeout(db: psycopg.Connection[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(errors.ScriptTimeout, match=r"timeout of 0\.5 s"):
        db.execute("SELECT * FROM dbml.run_script(%s, timeout => '0.5 s') AS t(a int)", (LOOP.format("own-timeout"),))
    assert time.monotonic() - began < 2
    assert_works(db)
