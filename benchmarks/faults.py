"""Kill everything at random while scripts run, models score and models are registered: `python -m benchmarks.faults`.

A server and a `dbml worker` of its own.  Callers check every answer; meanwhile, again and again, one kind of process is
killed, and a prober finds out how long it takes until a script and a prediction succeed again.  Exit code 1 where a
call failed without saying why, answered wrongly or hung, where a registration, artifact or run that was acknowledged is
not there, where anything is left over, or where it took longer than RECOVERY_S until all was well again.

Some faults come REST_S after the last one, some at once upon it.  Of the latter, which strike while what stands by is
still on its way, recovery is told too, and not judged.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pickle
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

import dbml
from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install

RECOVERY_S = 5.0
HANG_S = 60
CALLERS = {"script": 2, "predict": 2, "predict_query": 1, "register": 1, "register_bytes": 1, "artifact": 1}
PAUSE_S = (0.05, 0.5)  # between the calls of one caller
CALM_S = (0.3, 2.5)  # between recovery and the next kill
REST_S = (15.0, 20.0)  # or this long, so that what stands by is ready again

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
SHORT_SCRIPT = "select * from dbml.run_script('OutputDataSet = [1]') as t(a int)"


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


class World:
    """The server, the worker, and who started what."""

    def __init__(self, major: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbml-faults-"))
        self.folder.chmod(0o711)  # as root, the server runs as another account
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o711)
        settings = {"max_connections": "60"}
        self.cluster = Cluster(self.folder / "cluster", binaries=binaries.find(major), settings=settings)
        self.log = (self.folder / "worker.log").open("ab")
        self.worker: subprocess.Popen[bytes] | None = None
        self.dsn = ""
        self.stopping = False

    def start(self) -> None:
        """Start the server and the worker."""
        self.cluster.start()
        self.dsn = self.cluster.dsn("postgres")
        install(self.dsn)
        self.start_worker()

    def start_worker(self) -> None:
        """Start `dbml worker`, as systemd would."""
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "dbml.cli", "worker"], stdout=self.log, stderr=self.log, start_new_session=True,
            env={**os.environ, "DBML_DSN": self.dsn, "TMPDIR": str(self.temporary)},
        )  # fmt: skip

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection, which waits no longer than HANG_S for anything."""
        connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=5)
        connection.execute(f"set statement_timeout = '{HANG_S}s'")
        return connection

    def processes(self) -> list[psutil.Process]:
        """Return all processes that have to do with the worker: they have our folder in their environment."""
        found = []
        mark = os.fsencode(self.temporary)
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                about = Path(f"/proc/{process.pid}")
                seen = (about / "environ").read_bytes() + os.fsencode((about / "cwd").readlink())
                if mark in seen and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self) -> None:
        """Stop what is started, and delete the folder."""
        self.stopping = True
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        self.log.close()

    def close(self) -> None:
        """Stop the server and delete everything."""
        self.cluster.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


# -- callers -----------------------------------------------------------------------------------------------------------


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


# -- killers -----------------------------------------------------------------------------------------------------------


class Faults:
    """The ways to kill, each returns False where there was nothing to kill."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._bag: list[str] = []

    def names(self) -> list[str]:
        """Return what there is."""
        return [name.removeprefix("kill_") for name in dir(self) if name.startswith("kill_")]

    def choose(self) -> str:
        """Choose the next one at random, each as often as the others."""
        if not self._bag:
            self._bag = self.names()
            self._random.shuffle(self._bag)
        return self._bag.pop()

    def kill(self, name: str) -> bool:
        """Do it."""
        done: bool = getattr(self, f"kill_{name}")()
        return done

    def _kill(self, process: psutil.Process | None) -> bool:
        try:
            if process is None:
                return False
            process.kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def _serving(self) -> psutil.Process | None:
        assert self._world.worker is not None
        with contextlib.suppress(psycopg.Error, psutil.NoSuchProcess), self._world.connect() as connection:
            (ping,) = connection.execute("select dbml_channel.ping()").fetchone()  # type: ignore[misc]
            return psutil.Process(ping["pid"])
        return None

    def _status(self, what: str) -> list[psutil.Process]:
        """Return the processes that the worker says are its zygotes, or its scorers."""
        found = []
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            (pids,) = connection.execute(f"select {what} from dbml.worker_status").fetchone()  # type: ignore[misc, arg-type]
            for pid in pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(pid))
        return found

    def _any(self, found: list[psutil.Process]) -> bool:
        return self._kill(self._random.choice(found)) if found else False

    def kill_satellite(self) -> bool:
        """Kill a script's process, at work or in waiting."""
        scorers = self._status("scorers")
        found = []
        for zygote in self._status("zygotes"):
            with contextlib.suppress(psutil.Error):
                found += [process for process in zygote.children() if process not in scorers and "sleep" not in process.name()]
        return self._any(found)

    def kill_scorer(self) -> bool:
        """Kill a process that keeps models."""
        return self._any(self._status("scorers"))

    def kill_zygote(self) -> bool:
        """Kill the process that satellites are forked from."""
        return self._any(self._status("zygotes"))

    def kill_sandbox(self) -> bool:
        """Kill the process that holds the zygote's sandbox, or the zygote where that is the same."""
        serving = self._serving()
        return self._any(serving.children() if serving is not None else [])

    def kill_worker(self) -> bool:
        """Kill the process that listens and routes."""
        return self._kill(self._serving())

    def kill_supervisor(self) -> bool:
        """Kill the process that watches it; systemd starts it again, here the benchmark does."""
        worker = self._world.worker
        assert worker is not None
        worker.kill()
        worker.wait()
        self._world.start_worker()
        return True

    def kill_session(self) -> bool:
        """End a backend that is at work for a caller."""
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            row = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend'"
                " and pid <> pg_backend_pid() and application_name <> 'dbml worker' and state = 'active'"
                " order by random() limit 1"
            ).fetchone()
            return row is not None
        return False

    def kill_records(self) -> bool:
        """End the backend of the worker's own session."""
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            row = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbml worker'"
            ).fetchone()
            return row is not None
        return False

    def kill_backend(self) -> bool:
        """Kill a backend with SIGKILL: the server ends all others, and recovers."""
        with contextlib.suppress(psycopg.Error, ProcessLookupError):
            with self._world.connect() as connection:
                row = connection.execute(
                    "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
                    " order by random() limit 1"
                ).fetchone()
            if row is not None:
                os.kill(row[0], signal.SIGKILL)
                return True
        return False

    def _server(self, number: int) -> bool:
        running = self._world.cluster.status()
        if running is None:
            return False
        os.kill(running.pid, number)
        deadline = time.monotonic() + 20
        while self._world.cluster.status() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        self._world.cluster.start()
        return True

    def kill_server(self) -> bool:
        """Kill the postmaster, and start it again."""
        return self._server(signal.SIGKILL)

    def kill_server_at_once(self) -> bool:
        """Shut the server down in the mode `immediate`, and start it again."""
        return self._server(signal.SIGQUIT)

    def kill_server_politely(self) -> bool:
        """Restart the server in the mode `fast`."""
        return self._server(signal.SIGINT)


def recover(world: World, began: float) -> float:
    """Wait until a script and a prediction succeed one after the other; returns the seconds since `began`."""
    deadline = began + HANG_S
    while time.monotonic() < deadline:
        try:
            with world.connect() as connection:
                asked = connection.execute(SHORT_SCRIPT).fetchall() == [(1,)]
                row = connection.execute("select dbml.predict('line', array[3]::float8[])").fetchone()
                if asked and row is not None and abs(row[0] - 7) < 1e-6:
                    return time.monotonic() - began
        except psycopg.Error:
            time.sleep(0.02)
    return float("inf")


# -- afterwards --------------------------------------------------------------------------------------------------------


def lost(world: World, tally: Tally) -> list[str]:
    """Return what was acknowledged and is not there, or not whole; and stored bytes that do not match their digest."""
    found = []
    with world.connect() as connection:
        connection.execute("set statement_timeout = 0")
        there = set(connection.execute("select name, version from dbml.models").fetchall())
        found += [f"model {name}:{version}" for name, version in tally.models if (name, version) not in there]
        for name, version, digest in connection.execute("select name, version, digest from dbml.models").fetchall():
            row = connection.execute("select dbml.model_bytes(%s)", (f"{name}:{version}",)).fetchone()
            content = bytes(row[0]) if row else b""
            stored = digest if isinstance(digest, str) else bytes(digest).hex()
            if hashlib.sha256(content).hexdigest() != stored:
                found.append(f"model {name}:{version}: its bytes do not match its digest")
            wanted = tally.models.get((name, version), b"")
            if isinstance(wanted, float) and abs(float(pickle.loads(content).coef_[0]) - wanted) > 1e-6:
                found.append(f"model {name}:{version}: it is another")
            elif isinstance(wanted, bytes) and wanted and hashlib.sha256(content).digest() != wanted:
                found.append(f"model {name}:{version}: it has other bytes")
        for run, wanted_digest in tally.artifacts.items():
            row = connection.execute("select dbml.artifact_bytes(%s::uuid, 'file')", (run,)).fetchone()
            if row is None or row[0] is None or hashlib.sha256(bytes(row[0])).digest() != wanted_digest:
                found.append(f"artifact of run {run}")
        completed = {str(row[0]) for row in connection.execute("select run_id from dbml.runs where status = 'completed'")}
        found += [f"run {run}" for run in (tally.runs | set(tally.artifacts)) - completed]
    return found


def left_over(world: World) -> Iterator[str]:
    """Yield what is there and should not: with the worker at rest, then after its end."""
    assert world.worker is not None
    deadline = time.monotonic() + 5
    while True:
        with world.connect() as connection:
            unfinished = connection.execute("select run_id, status from dbml._runs where finished_at is null").fetchall()
            running = connection.execute("select running, queued from dbml.worker_status").fetchone()
        mine = {process.pid for process in psutil.Process(world.worker.pid).children(recursive=True)} | {world.worker.pid}
        stray = [process for process in world.processes() if process.pid not in mine]
        directories = [path for path in world.temporary.iterdir() if path.name.startswith("dbml-worker-")]
        del directories[:2]  # of what serves and what stands by
        if time.monotonic() > deadline or (not unfinished and running == (0, 0) and not stray and not directories):
            break
        time.sleep(0.1)
    yield from (f"run {run} is {status}" for run, status in unfinished)
    yield from (f"process {process.pid} {' '.join(process.cmdline())[:80]}" for process in stray)
    yield from (f"directory {path.name}" for path in directories)
    if running != (0, 0):
        yield f"the worker says that (running, queued) = {running}"
    with world.connect() as connection:
        host = connection.execute("select host from dbml._worker").fetchone()[0]  # type: ignore[index]
    world.stop()
    time.sleep(0.2)
    yield from (f"process {process.pid} after the end" for process in world.processes())
    yield from (f"{path.name} after the end" for path in world.temporary.iterdir())
    if str(host).startswith("/") and Path(host).exists():
        yield f"{host} after the end"


def main() -> None:
    """Run, print, and exit with 1 where something is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    parser.add_argument("--rests", type=float, default=0.5, help="part of the faults that come after a rest")
    parser.add_argument("--only", default=None, help="kinds of faults, with commas between them")
    options = parser.parse_args()
    world, tally = World(options.major), Tally()
    try:
        bad = run(world, tally, options)
    finally:
        world.stop()
        if os.environ.get("DBML_FAULTS_LOG"):
            shutil.copy(world.folder / "worker.log", os.environ["DBML_FAULTS_LOG"])
        world.close()
    sys.exit(1 if bad else 0)


def run(world: World, tally: Tally, options: argparse.Namespace) -> bool:
    """Do it all; returns whether something is not as wanted."""
    from sklearn.linear_model import LinearRegression

    world.start()
    recoveries: defaultdict[str, list[float]] = defaultdict(list)
    doubled: defaultdict[str, list[float]] = defaultdict(list)
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    with world.connect() as connection:
        connection.execute("select dbml.register_model('line', %s)", (pickle.dumps(model),))
    recover(world, time.monotonic())
    over = threading.Event()
    callers = [
        Caller(world, tally, kind, number, options.seed, over) for kind, count in CALLERS.items() for number in range(count)
    ]
    for caller in callers:
        caller.start()
    faults = Faults(world, options.seed)
    calm = random.Random(options.seed)
    began = time.monotonic()
    wanted = options.only.split(",") if options.only else None
    while time.monotonic() - began < options.minutes * 60:
        rests = calm.random() < options.rests
        time.sleep(calm.uniform(*(REST_S if rests else CALM_S)))
        times = recoveries if rests else doubled
        name = calm.choice(wanted) if wanted else faults.choose()
        at = time.monotonic()
        if faults.kill(name):
            times[name].append(recover(world, at))
            if times[name][-1] > RECOVERY_S:
                how = f"{time.strftime('%H:%M:%S')} recovery from {name}{'' if rests else ', upon another fault,'}"
                print(f"{how} took {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    over.set()
    for caller in callers:
        caller.join(timeout=HANG_S + 10)
    hung = [caller.name for caller in callers if caller.is_alive()]
    recover(world, time.monotonic())
    missing = lost(world, tally)
    leftovers = list(left_over(world))
    slowest = max((max(times) for times in recoveries.values()), default=0.0)
    show(tally, recoveries, doubled, seconds, world, options.seed)
    console = Console(width=120)
    verdicts = {
        "errors that do not say what died": tally.unclear, "wrong answers": tally.wrong, "calls that hung": hung,
        "acknowledged and lost, or not whole": missing, "left over": leftovers,
    }  # fmt: skip
    for what, found in verdicts.items():
        console.print(f"{what}: {len(found)}" + "".join(f"\n    {line}" for line in sorted(set(found))[:10]), markup=False)
    acknowledged = f"{len(tally.models)} models, {len(tally.artifacts)} artifacts, {len(tally.runs)} runs"
    console.print(f"acknowledged and there: {acknowledged}")
    console.print(f"longest time to recovery: {slowest:.1f} s, wanted <= {RECOVERY_S:g} s")
    bad = slowest > RECOVERY_S or any(verdicts.values())
    console.print("NOT as wanted" if bad else "all as wanted")
    return bad


def summary(times: list[float]) -> tuple[str, str, str]:
    """Return how many there are, their median and the longest."""
    ordered = sorted(times)
    return ("0", "", "") if not times else (str(len(times)), f"{ordered[len(times) // 2]:.2f} s", f"{ordered[-1]:.2f} s")


def show(
    tally: Tally, recoveries: dict[str, list[float]], doubled: dict[str, list[float]], seconds: float, world: World, seed: int
) -> None:  # fmt: skip
    """Print the tables."""
    console = Console(width=120)
    title = (
        f"{seconds:.0f} s of faults, seed {seed}\ndbml {dbml.__version__}, PostgreSQL {world.cluster.binaries.version},"
        f" Python {platform.python_version()}, {os.cpu_count()} processors"
    )
    calls = Table(title=title)
    for name in ("calls", "all", "answered rightly", "failed, by SQLSTATE"):
        calls.add_column(name)
    for kind in CALLERS:
        states = ", ".join(f"{state} {number}" for state, number in sorted(tally.failed[kind].items()))
        calls.add_row(kind, str(tally.calls[kind]), str(tally.right[kind]), states)
    console.print(calls)
    killed = Table()
    for name in ("killed", "times", "median recovery", "longest", "upon another fault", "median recovery", "longest"):
        killed.add_column(name)
    for name in sorted({*recoveries, *doubled}):
        killed.add_row(name, *summary(recoveries[name]), *summary(doubled[name]))
    console.print(killed)
    for state, message in sorted(tally.examples.items()):
        console.print(f"{state}: {message}", markup=False)


if __name__ == "__main__":
    main()
