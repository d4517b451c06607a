"""What runs now, what ran, who may stop it, and what happens when too much is asked."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]
SLEEP = "SELECT * FROM dbml.run_script(%s) AS t(x int)"


def wait_until(true: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
    return found


def active(db: Db, mark: str) -> dict[str, Any] | None:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute("SELECT * FROM dbml.active_scripts WHERE script LIKE %s", (f"%{mark}%",)).fetchone()


@pytest.fixture
def sleeper(connect: Callable[[], Db], db: Db) -> Iterator[Callable[[str], tuple[str, list[BaseException]]]]:
    """Run a script beside the test; returns its mark, and where its error will be."""
    threads = []

    def start(script: str) -> tuple[str, list[BaseException]]:
        mark, failures = uuid.uuid4().hex, []

        def work() -> None:
            with connect() as connection:
                try:
                    connection.execute(SLEEP, (f"# {mark}\n{script}",))
                except psycopg.Error as error:
                    failures.append(error)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return mark, failures

    yield start
    for (run_id,) in db.execute("SELECT run_id FROM dbml.active_scripts").fetchall():
        db.execute("SELECT dbml.cancel_script(%s)", (run_id,))
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_what_runs_is_seen_and_can_be_stopped(db: Db, sleeper: Any) -> None:
    mark, failures = sleeper("import time\nrun.progress(3, 10)\nprint('on')\nbulk = bytearray(64 << 20)\ntime.sleep(60)")
    row = wait_until(lambda: (found := active(db, mark)) and found["progress_done"] == 3 and found)
    assert (row["status"], row["language"], row["workspace"], row["progress_total"]) == ("running", "python", "default", 10)
    assert row["username"] == db.execute("SELECT session_user").fetchone()[0]  # type: ignore[index]
    assert wait_until(lambda: (active(db, mark) or {}).get("memory_mb", 0) > 64)
    assert row["seconds"] >= 0 and len(row["satellites"]) == 1 and Path(f"/proc/{row['satellites'][0]}").exists()
    began = time.monotonic()
    assert db.execute("SELECT dbml.cancel_script(%s)", (row["run_id"],)).fetchone() == (True,)
    wait_until(lambda: failures)
    assert time.monotonic() - began < 5
    assert isinstance(failures[0], psycopg.errors.QueryCanceled) and "was cancelled by role" in str(failures[0])
    wait_until(lambda: not Path(f"/proc/{row['satellites'][0]}").exists())
    status = wait_until(lambda: db.execute(
        "SELECT status, log FROM dbml.runs WHERE run_id = %s AND finished_at IS NOT NULL", (row["run_id"],)).fetchone())  # fmt: skip
    assert status == ("canceled", "on\n")
    assert active(db, mark) is None
    assert db.execute("SELECT dbml.cancel_script(%s)", (row["run_id"],)).fetchone() == (False,)


def test_a_stranger_cannot_stop_it(db: Db, sleeper: Any) -> None:
    mark, failures = sleeper("import time; time.sleep(60)")
    row = wait_until(lambda: active(db, mark))
    role = "other_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role}; GRANT dbml_scripter TO {role}; SET ROLE {role}")  # type: ignore[arg-type]
    try:
        assert db.execute("SELECT dbml.cancel_script(%s)", (row["run_id"],)).fetchone() == (False,)
        assert db.execute(
            "SELECT dbml_channel.ask(jsonb_build_object('kind', 'cancel', 'run_id', %s::text, 'admin', true))", (row["run_id"],)
        ).fetchone() == (False,)
    finally:
        db.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]
    assert not failures and active(db, mark)


def test_the_script_that_reads_its_input_can_be_stopped(db: Db, connect: Callable[[], Db]) -> None:
    mark = uuid.uuid4().hex
    with connect() as reading, ThreadPoolExecutor(1) as pool:
        # In the select list: PostgreSQL would make all rows of a function in FROM before it gave the first.
        query = "SELECT CASE WHEN g % 1000 = 0 THEN pg_sleep(0.05) IS NULL END, g FROM (SELECT generate_series(1, 10000000) g) s"
        future = pool.submit(reading.execute, "SELECT * FROM dbml.run_script(%s, %s) AS t(x int)", (f"# {mark}", query))
        try:
            row = wait_until(lambda: active(db, mark))
            wait_until(lambda: (active(db, mark) or {}).get("rows_in", 0) > 100)
            db.execute("SELECT dbml.cancel_script(%s)", (row["run_id"],))
            with pytest.raises(psycopg.errors.QueryCanceled):
                future.result(20)
        finally:
            reading.cancel()
        assert reading.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]') AS t(x int)").fetchone() == (1,)


def test_the_worker_tells_its_state_also_from_within_a_call(db: Db) -> None:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM dbml.worker_status").fetchone()
    assert row and row["version"] and row["running"] >= 0 and row["max_running"] >= 8 and Path(f"/proc/{row['pid']}").exists()
    inside = db.execute(
        "SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet', 'SELECT running FROM dbml.worker_status') AS t(x int)"
    ).fetchone()
    assert inside and inside[0] >= 1


def test_statistics_count_the_failures_too(db: Db) -> None:
    mark = uuid.uuid4().hex
    for failing in (0, 1, 0):
        try:
            db.execute(
                "SELECT * FROM dbml.run_script(%s, 'SELECT generate_series(1, 10) AS x', params => %s) AS t(x int)",
                (f"# {mark}\n1 / (1 - fails)\nOutputDataSet = InputDataSet[:4]", f'{{"fails": {failing}}}'),
            )
        except errors.ScriptError:
            assert failing
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        (row,) = cursor.execute("SELECT * FROM dbml.script_stats WHERE script LIKE %s", (f"# {mark}%",)).fetchall()
    assert (row["calls"], row["errors"], row["rows_in"], row["rows_out"]) == (3, 1, 30, 8)
    assert 0 < row["median_seconds"] <= row["p95_seconds"] <= row["max_seconds"] and row["peak_memory_mb"] > 1


@pytest.fixture
def narrow(server: Any) -> Iterator[str]:
    """A database whose worker takes 100 scripts, of which 4 run at once."""
    name = server.create(server.template())
    dsn = server.dsn(name)
    worker = server.start_worker(dsn, "--max-scripts", "100", "--max-running", "4")
    yield dsn
    worker.stop()
    server.drop(name)


def test_a_hundred_clients_are_all_answered_and_the_next_is_refused_at_once(narrow: str) -> None:
    with ThreadPoolExecutor(101) as pool:
        connections = [psycopg.connect(narrow, autocommit=True) for _ in range(101)]
        with psycopg.connect(narrow, autocommit=True) as watch:
            script = "OutputDataSet = [number * 2]"
            # Who runs waits for its input, until the lock is free.
            gate = "SELECT pg_advisory_lock_shared(4711) IS NULL AS open"
            call = "SELECT * FROM dbml.run_script(%s, %s, params => %s) AS t(y int)"
            watch.execute("SELECT pg_advisory_lock(4711)")
            try:
                futures = [
                    pool.submit(lambda c, n: c.execute(call, (script, gate, f'{{"number": {n}}}')).fetchone(), connection, number)
                    for number, connection in enumerate(connections[:100])
                ]

                def there() -> bool:
                    ended = [future.exception() or future.result() for future in futures if future.done()]
                    assert not ended, [
                        str(getattr(each, "diag", each) and (each.diag.message_primary, each.diag.message_detail))
                        for each in ended
                    ]
                    return bool(watch.execute("SELECT running + queued FROM dbml.worker_status").fetchone() == (100,))

                wait_until(there, 60)
                running = watch.execute("SELECT running, queued, max_running, max_scripts FROM dbml.worker_status").fetchone()
                assert running == (4, 96, 4, 100)
                assert watch.execute("SELECT count(*) FROM dbml.active_scripts WHERE status = 'queued'").fetchone() == (96,)
                began = time.monotonic()
                with pytest.raises(errors.TooManyScripts, match="max_scripts = 100"):
                    connections[100].execute(call, (script, gate, "{}"))
                assert time.monotonic() - began < 2
                watch.execute("SELECT pg_advisory_unlock_all()")
                assert [future.result(100) for future in futures] == [(2 * number,) for number in range(100)]
            finally:
                watch.execute("SELECT pg_advisory_unlock_all()")
                for connection in connections:
                    connection.close()
            recorded = watch.execute(
                "SELECT count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE queued_seconds > 0) FROM dbml.runs"
            ).fetchone()
            assert recorded == (101, 100, 96), "the one that was refused too"
            wait_until(lambda: watch.execute("SELECT running + queued FROM dbml.worker_status").fetchone() == (0,))


def test_who_waits_can_go_away_or_be_stopped_and_a_nested_call_does_not_wait(server: Any) -> None:
    name = server.create(server.template())
    dsn = server.dsn(name)
    worker = server.start_worker(dsn, "--max-running", "1")
    try:
        with (
            psycopg.connect(dsn, autocommit=True) as db,
            psycopg.connect(dsn, autocommit=True) as first,
            ThreadPoolExecutor(2) as pool,
        ):
            nested = """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * 2',
                $q$SELECT * FROM dbml.run_script('OutputDataSet = [21]') AS t(x int)$q$) AS t(x int)"""
            assert db.execute(nested).fetchone() == (42,)
            busy = pool.submit(first.execute, SLEEP, ("import time; time.sleep(60)",))
            (running,) = wait_until(lambda: db.execute("SELECT run_id FROM dbml.active_scripts").fetchone())
            with psycopg.connect(dsn, autocommit=True) as patient:
                patient.execute("SET statement_timeout = '500ms'")
                with pytest.raises(psycopg.errors.QueryCanceled):
                    patient.execute(SLEEP, ("x = 1",))
            with psycopg.connect(dsn, autocommit=True) as second:
                waiting = pool.submit(second.execute, SLEEP, ("x = 2",))
                (queued,) = wait_until(
                    lambda: db.execute("SELECT run_id FROM dbml.active_scripts WHERE status = 'queued'").fetchone()
                )
                assert db.execute("SELECT dbml.cancel_script(%s)", (queued,)).fetchone() == (True,)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    waiting.result(20)
            assert db.execute("SELECT count(*) FROM dbml.active_scripts").fetchone() == (1,)
            db.execute("SELECT dbml.cancel_script(%s)", (running,))
            with pytest.raises(psycopg.errors.QueryCanceled):
                busy.result(20)
            assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [3]') AS t(x int)").fetchone() == (3,)
    finally:
        worker.stop()
        server.drop(name)
