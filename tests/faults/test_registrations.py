"""A model is registered whole or not at all, wherever its registration is cut off; what was acknowledged is there."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable

import psycopg
import pytest

from .conftest import Operated

STEPS_S = [0.05, 0.15, 0.3, 0.5, 0.8]
REGISTERS = """
import hashlib, os
parts = os.urandom(12 << 20)
OutputDataSet = [run.register_bytes('cut', parts, format='pickle')]
"""


@pytest.mark.parametrize("victim", ["worker", "satellite", "backend"])
def test_a_registration_is_cut_off(installed: str, operate: Callable[..., Operated], victim: str) -> None:
    worker = operate(installed)
    worker.works()
    acknowledged: set[int] = set()
    states: set[str | None] = set()
    for delay_s in STEPS_S:
        with worker.connect() as session, worker.connect() as other:

            def kill(session: psycopg.Connection = session, other: psycopg.Connection = other) -> None:
                try:
                    if victim == "backend":
                        other.execute("select pg_terminate_backend(%s)", (session.info.backend_pid,))
                    elif victim == "worker":
                        os.kill(worker.ping()["pid"], signal.SIGKILL)
                    else:
                        for (pid,) in other.execute("select unnest(satellites) from dbml.active_scripts").fetchall():
                            os.kill(pid, signal.SIGKILL)
                except (psycopg.Error, ProcessLookupError):
                    pass  # it was over before

            timer = threading.Timer(delay_s, kill)
            timer.start()
            try:
                row = session.execute("select * from dbml.run_script(%s) as t(version int)", (REGISTERS,)).fetchone()
                assert row is not None
                acknowledged.add(row[0])
            except psycopg.Error as error:
                states.add(error.sqlstate)
            timer.join()
        worker.works()
    with worker.connect() as session:
        there = {row[0] for row in session.execute("select version from dbml.models where name = 'cut'")}
        assert acknowledged <= there and states <= {"ML004", "ML010", "ML011", "57P01", None}
        for version in there:
            (content, digest) = session.execute(  # type: ignore[misc]
                "select dbml.model_bytes('cut:' || m.version), m.digest from dbml._models m where version = %s", (version,)
            ).fetchone()
            assert hashlib.sha256(content).digest() == bytes(digest) and len(content) == 12 << 20
        whole = session.execute(
            "select count(*) from dbml._blobs b where b.size <> (select coalesce(sum(octet_length(c.data)), 0)"
            " from dbml._blob_chunks p join dbml._chunks c on c.digest = p.chunk where p.blob = b.digest)"
        ).fetchone()
        assert whole == (0,)  # no blob is half there
