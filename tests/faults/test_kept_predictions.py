"""The server dies while predictions are kept true: of what is committed each row has its model's answer, and nothing is half done."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from sklearn.linear_model import LinearRegression

from dbml.database.embedded import Cluster

from .conftest import Operated, until

Session = psycopg.Connection[Any]
POINTS = np.random.default_rng(3).random((40, 2))
# What is not as its stamp says, missing or too many.
SWEEP = """select count(*) from given g full join scored s using (id)
    where g.id is null or s.id is null or s.model_version is null
       or abs(s.prediction - s.model_version * (g.a + 2 * g.b)) > 1e-6 * (1 + abs(s.prediction))"""
NOW = "select version from dbml.models where name = 'm' and 'now' = any (aliases)"


class Busy:
    """A session that does the same again and again until the server is gone; `done` is what was acknowledged."""

    def __init__(self, dsn: str, work: Callable[[Session, int], None]) -> None:
        self.done: list[int] = []
        self._dsn, self._work = dsn, work
        self._thread = threading.Thread(target=self._go)
        self._thread.start()

    def _go(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as session:
                for i in range(1_000_000):
                    with session.transaction():
                        self._work(session, i)
                    self.done.append(i)
        except psycopg.OperationalError:
            return

    def wait(self) -> None:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT])
def test_a_server_that_dies_leaves_no_prediction_wrong(
    cluster: Cluster, operate: Callable[..., Operated], number: int
) -> None:  # fmt: skip
    dsn = cluster.dsn("postgres")
    operate(dsn).works()
    with psycopg.connect(dsn, autocommit=True) as session:
        for version in (1, 2):
            model = LinearRegression().fit(POINTS, version * (POINTS @ [1.0, 2.0]))
            session.execute("select dbml.register_model('m', %s)", [pickle.dumps(model)])
        session.execute("select dbml.set_model_alias('m:1', 'now')")
        session.execute("create table given (id int primary key, a float8, b float8)")
        session.execute("insert into given select g, g, 1 from generate_series(1, 300) g")
        session.execute("select dbml.maintain_predictions('m@now', 'given', 'scored')")

    def write(first: int) -> Callable[[Session, int], None]:
        def work(session: Session, i: int) -> None:
            session.execute("insert into given values (%s, %s, 1)", [first + i, i])
            session.execute("update given set a = a + 1 where id = %s", [1 + (first + i) % 300])
            session.execute("delete from given where id = %s", [first + i - 20])

        return work

    def move(session: Session, i: int) -> None:
        session.execute("select dbml.set_model_alias(%s, 'now')", [f"m:{2 - i % 2}"])

    busy = [Busy(dsn, write(100_000)), Busy(dsn, write(200_000)), Busy(dsn, move)]
    until(lambda: min(len(one.done) for one in busy) >= 8)
    running = cluster.status()
    assert running is not None
    os.kill(running.pid, number)
    for one in busy:
        one.wait()
    until(lambda: cluster.status() is None)
    cluster.start()
    with psycopg.connect(dsn, autocommit=True) as session:
        assert session.execute(SWEEP).fetchone() == (0,)
        assert session.execute("select distinct model_version from scored").fetchall() == session.execute(NOW).fetchall()
        for one, first in zip(busy, (100_000, 200_000), strict=False):
            kept = session.execute("select max(id) - %s from scored where id between %s and %s", [first, first, first + 99_999])
            assert kept.fetchone()[0] in (one.done[-1], one.done[-1] + 1)  # type: ignore[index]
        session.execute("update given set a = a + 1; insert into given values (0, 0, 0)")
        assert session.execute(SWEEP).fetchone() == (0,)
