"""psql as a person uses it: the verbatim call, notices on the screen, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from typing import Any

import psutil
import psycopg

CALL = (
    "SELECT * FROM dbml.run_script($$OutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)$$,"
    " input_query => 'SELECT g AS x FROM generate_series(1,5) g', params => '{\"factor\": 3}') AS t(x bigint, y bigint);"
)


def test_the_call_and_its_notices(dsn: str, programs: Any) -> None:
    done = subprocess.run(
        [str(programs.program("psql")), "-X", "-d", dsn, "-c", CALL, "-c", "SELECT * FROM dbml.run_script('print(\"hello\")') AS t(a int)"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 5 | 15\n(5 rows)" in done.stdout and done.stderr == "NOTICE:  hello\n"


def test_control_c_stops_the_process_of_the_script(dsn: str, programs: Any, db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    name = mark[:15]  # of the process, as the host sees it: its pid within the sandbox is another
    script = f"# {mark}\nimport ctypes\nctypes.CDLL(None).prctl(15, b'{name}')\nprint('here')\nwhile True: pass"
    statement = f"SELECT * FROM dbml.run_script($${script}$$) AS t(a int)"
    psql = subprocess.Popen(
        [str(programs.program("psql")), "-X", "-d", dsn, "-c", statement],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert psql.stderr is not None
    assert psql.stderr.readline() == "NOTICE:  here\n"
    [process] = [process for process in psutil.process_iter() if process.name() == name]
    psql.send_signal(signal.SIGINT)
    began = time.monotonic()
    while process.is_running():
        assert time.monotonic() - began < 1
        time.sleep(0.01)
    assert "canceling statement due to user request" in psql.communicate(timeout=10)[1]
    deadline = time.monotonic() + 2
    while db.execute("SELECT status FROM dbml.runs WHERE script LIKE %s", (f"%{mark}%",)).fetchone() != ("canceled",):
        assert time.monotonic() < deadline
        time.sleep(0.02)
