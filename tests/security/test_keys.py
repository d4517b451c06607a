"""The channel's keys are changed while calls go on: none is lost, and what was stolen is of no use any more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import psycopg
import pytest

from dbml import errors

Connection = psycopg.Connection[Any]
PING = """with made as (select jsonb_build_object('kind', 'ping', 'protocol', 1, 'user', 'u', 'session_user', 'u',
        'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60)::text as header)
    select 'open ' || encode(sha256(%s::bytea || sha256(%s::bytea || convert_to(header, 'utf8'))), 'hex') || ' ' || header from made"""
SEND = "select tag from dblink('dbml0', %s) as t(tag text, head text, body text)"
ONE = "select * from dbml.run_script('OutputDataSet = [1]') as t(x int)"
KEYS = "select password, outer_key, inner_key, host, port from dbml._worker"


@pytest.fixture
def own(fresh: Any) -> Any:
    """A connection to a database with a worker of its own."""
    with psycopg.connect(fresh.dsn, autocommit=True) as connection:
        yield connection


def log_in(host: str, port: int, password: str) -> None:
    psycopg.connect(
        host=host, port=port, user="dbml", password=password, dbname="dbml", sslmode="disable", connect_timeout=10
    ).close()


def test_no_call_is_lost_and_a_stolen_key_is_of_no_use(fresh: Any, own: Connection) -> None:
    stolen = own.execute(KEYS).fetchone()
    own.execute(ONE)
    over, failed, done = threading.Event(), [], []

    def work(anew: bool) -> None:
        try:
            while not over.is_set():
                with psycopg.connect(fresh.dsn, autocommit=True) as connection:
                    for _ in range(1 if anew else 10):
                        done.append(connection.execute(ONE).fetchone())
        except Exception as error:
            failed.append(error)

    def register() -> None:  # across all changes
        script = "import time\ntime.sleep(1.5)\nOutputDataSet = [run.register_model('m', {'a': 1})]"
        try:
            with psycopg.connect(fresh.dsn, autocommit=True) as connection:
                connection.execute("set dbml.compile = off")
                done.append(connection.execute("select * from dbml.run_script(%s) as t(version int)", [script]).fetchone())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(anew,)) for anew in (True, False)] + [threading.Thread(target=register)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = len(done)
        assert own.execute("select dbml.rotate_keys() > now() + interval '50 s'").fetchone() == (True,)
        while len(done) < before + 5 and not failed:
            over.wait(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == [] and set(done) == {(1,)}
    assert own.execute("select m.run_id = r.run_id from dbml.models m join dbml.runs r using (run_id)").fetchall() == [(True,)]

    # The one before is taken for a while, by who began before.
    former = own.execute(KEYS).fetchone()
    with psycopg.connect(fresh.dsn) as earlier:
        earlier.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        earlier.execute("select 1")
        own.execute("select dbml.rotate_keys()")
        assert earlier.execute(ONE).fetchone() == (1,)
        log_in(*former[3:], former[0])  # type: ignore[index, misc]
        # With no grace it is not, from the moment at which the change is there.
        own.execute("select dbml.rotate_keys('0')")
        own.execute(ONE)
        with pytest.raises(errors.WorkerRefused):
            earlier.execute(ONE)
    last = own.execute(KEYS).fetchone()
    assert last is not None and stolen is not None and former is not None
    log_in(*last[3:], last[0])
    for keys in (stolen, former):
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            log_in(*last[3:], keys[0])
        (line,) = own.execute(PING, [keys[1], keys[2]]).fetchone()  # type: ignore[misc]
        with pytest.raises(errors.WorkerRefused, match="not signed"):
            own.execute(SEND, [line])
    (line,) = own.execute(PING, [last[1], last[2]]).fetchone()  # type: ignore[misc]
    assert own.execute(SEND, [line]).fetchone() == ("pong",)

    # A submitted run waits under a signature of the former key, which is taken no more.
    with own.transaction():
        (snapshot,) = own.execute("""select dbml.create_snapshot('{"a.py": "print(1)"}')""").fetchone()  # type: ignore[misc]
        (run,) = own.execute("select dbml.submit_run('rotated', %s, 'a.py')", [snapshot]).fetchone()  # type: ignore[misc]
        own.execute("select dbml.rotate_keys('0')")
    assert own.execute("select dbml.wait_for_run(%s, '1 min')", [run]).fetchone() == ("completed",)
    command = [sys.executable, "-m", "dbml.cli", "rotate-keys", "--dsn", fresh.dsn, "--grace", "5", "--json"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert said["worker_answers"] and own.execute(KEYS).fetchone()[0] != last[0]  # type: ignore[index]


@pytest.mark.parametrize("grace", ["null", "'-1 s'", "'2 days'"])
def test_a_grace_that_makes_no_sense(db: Connection, grace: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="grace must be 0 to 1 day"):
        db.execute(f"select dbml.rotate_keys({grace})")  # type: ignore[arg-type]
