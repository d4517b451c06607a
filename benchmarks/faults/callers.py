"""Callers: each calls one kind of function again and again, checks every answer, and remembers what was acknowledged."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.faults.world import World

CALLERS = {"script": 2, "predict": 2, "predict_query": 1, "register": 1, "register_bytes": 1, "artifact": 1}
PAUSE_S = (0.05, 0.5)  # between the calls of one caller

SCRIPT = """select n, total, run from dbml.run_script($$
print('adding up')
run.log('rows', len(InputDataSet))
OutputDataSet = [{'n': len(InputDataSet), 'total': int(InputDataSet.x.sum()) * factor, 'run': run.id}]
$$, 'select g as x from generate_series(1, %s) g', params => '{"factor": %s}') as t(n bigint, total bigint, run text)"""
REGISTER = """select version from dbml.run_script($$
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [0.0, slope])
model.ballast = bytes([ordinal %% 256]) * (3 << 20)
OutputDataSet = [run.register_model('trained', model)]
$$, params => '{"slope": %s, "ordinal": %s}', experiment => 'registrations') as t(version int)"""
ARTIFACT = """select run from dbml.run_script($$
import pathlib
pathlib.Path('file').write_bytes(token.encode() * 200000)
run.upload_file('file', 'file')
OutputDataSet = [run.id]
$$, params => '{"token": "%s"}') as t(run text)"""


class Tally:
    """What the callers have seen, counted by all threads."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.failed: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by kind: SQLSTATE
        self.examples: dict[str, str] = {}
        self.unclear: list[str] = []
        self.wrong: list[str] = []
        self.models: dict[tuple[str, int], bytes | float] = {}  # acknowledged: the bytes, or the slope
        self.artifacts: dict[str, bytes] = {}  # by run: SHA-256
        self.runs: set[str] = set()

    def fail(self, kind: str, error: psycopg.Error) -> None:
        """Take note of an error, and of whether it is a clear one."""
        message = (error.diag.message_primary or str(error)).strip().splitlines() or [""]
        state = error.sqlstate or ("connection" if isinstance(error, psycopg.OperationalError) else "none")
        standard = len(state) == 5 and state[:2] in ("08", "53", "57") and state != "57014"
        clear = bool(message[0]) and (state == "connection" or standard or (state.startswith("ML") and state != "ML000"))
        with self.mutex:
            self.failed[kind][state] += 1
            self.examples.setdefault(state, message[0])
            if not clear:
                self.unclear.append(f"{kind}: {state}: {message[0]}")


class Caller(threading.Thread):
    """Calls one kind of function again and again, and checks what comes back."""

    def __init__(self, world: World, tally: Tally, kind: str, number: int, seed: int, over: threading.Event) -> None:
        super().__init__(name=f"{kind}{number}", daemon=True)
        self._world = world
        self._tally = tally
        self._kind = kind
        self._random = random.Random(f"{seed} {kind} {number}")
        self._over = over
        self._number = number
        self._count = 0

    def run(self) -> None:
        """Call until it is over."""
        connection: psycopg.Connection[Any] | None = None
        call: Callable[[psycopg.Connection[Any]], bool] = getattr(self, f"_{self._kind}")
        while not self._over.is_set():
            try:
                if connection is None or connection.closed:
                    connection = self._world.connect()
                with self._tally.mutex:
                    self._tally.calls[self._kind] += 1
                right = call(connection)
                with self._tally.mutex:
                    if right:
                        self._tally.right[self._kind] += 1
                    else:
                        self._tally.wrong.append(self._kind)
            except psycopg.Error as error:
                self._tally.fail(self._kind, error)
            self._over.wait(self._random.uniform(*PAUSE_S))
        if connection is not None:
            connection.close()

    def _script(self, connection: psycopg.Connection[Any]) -> bool:
        n, factor = self._random.randint(1, 3000), self._random.randint(1, 9)
        rows = connection.execute(SCRIPT % (n, factor)).fetchall()
        right = [row[:2] for row in rows] == [(n, n * (n + 1) // 2 * factor)]
        with self._tally.mutex:
            self._tally.runs.add(rows[0][2])
        return right

    def _predict(self, connection: psycopg.Connection[Any]) -> bool:
        x = self._random.randint(-1000, 1000)
        row = connection.execute("select dbml.predict('line', array[%s]::float8[])", (x,)).fetchone()
        return row is not None and abs(row[0] - (2 * x + 1)) < 1e-6

    def _predict_query(self, connection: psycopg.Connection[Any]) -> bool:
        n = self._random.randint(1, 30000)
        row = connection.execute(
            "select count(*), count(*) filter (where abs(prediction - (2 * x + 1)) < 1e-6)"
            " from dbml.predict('line', %s) as t(x float8, prediction float8)",
            (f"select g::float8 as x from generate_series(1, {n}) g",),
        ).fetchone()
        return row == (n, n)

    def _register(self, connection: psycopg.Connection[Any]) -> bool:
        self._count += 1
        slope = self._random.randint(1, 10**6)
        (version,) = connection.execute(REGISTER % (slope, self._count)).fetchone()  # type: ignore[misc, arg-type]
        with self._tally.mutex:
            fresh = ("trained", version) not in self._tally.models
            self._tally.models["trained", version] = float(slope)
        self._over.wait(self._random.uniform(0.2, 1.0))
        return fresh

    def _register_bytes(self, connection: psycopg.Connection[Any]) -> bool:
        content = self._random.randbytes(self._random.randint(1, 3 << 20))
        (version,) = connection.execute("select dbml.register_model('bytes', %s)", (content,)).fetchone()  # type: ignore[misc]
        with self._tally.mutex:
            fresh = ("bytes", version) not in self._tally.models
            self._tally.models["bytes", version] = hashlib.sha256(content).digest()
        self._over.wait(self._random.uniform(0.2, 1.0))
        return fresh

    def _artifact(self, connection: psycopg.Connection[Any]) -> bool:
        token = f"{self._random.getrandbits(40):010x}"
        (run,) = connection.execute(ARTIFACT % token).fetchone()  # type: ignore[misc, arg-type]
        with self._tally.mutex:
            self._tally.artifacts[run] = hashlib.sha256(token.encode() * 200000).digest()
        self._over.wait(self._random.uniform(0.1, 0.5))
        return True
