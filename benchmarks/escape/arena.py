"""The arena: a server and a worker with something to steal, and witnesses of what an attack does.

A canary, a word that nobody can guess, lies in the worker's environment and memory, in files that the whole machine may
read, in the parameters, the scratch directory and the memory of another script, and comes over sockets of every kind.  An
attack that prints it has got through.
"""

from __future__ import annotations

import itertools
import os
import pickle
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sklearn.linear_model import LinearRegression

from dbml.cli.worker_process import WorkerProcess
from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install

CALL = """
select r::text
from dbml.run_script_json(%s, params => %s, language => %s, timeout => make_interval(secs => %s)) r"""
NEIGHBOUR = """
import os, time
held = secret
with open('held.txt', 'w') as file:
    file.write(secret)
print('holds it', flush=True)
while True:
    time.sleep(0.1)
"""


PRELUDE = """
_lines = []
def print(*words, **_):
    _lines.append(' '.join(map(str, words)))
try:
    exec(compile({script!r}, 'model', 'exec'), globals().update(print=print) or globals())
except MemoryError:
    raise
except BaseException as error:
    print(type(error).__name__, error)
raise RuntimeError(chr(10).join(_lines))
"""


class Carrier:
    """What unpickles by running a script, whose prints are its error."""

    def __init__(self, script: str) -> None:
        self.script = script

    def __reduce__(self) -> Any:
        return exec, (PRELUDE.format(script=self.script), {})


@dataclass
class Arena:
    """What an attack finds around it.  canary: what it must not learn."""

    dsn: str
    worker: WorkerProcess
    folder: Path
    canary: str
    heard: list[str] = field(default_factory=list)  # by the witnesses, what reached them over which socket
    targets: dict[str, Any] = field(default_factory=dict)
    carrier: str = "script"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def connect(self, role: str | None = None) -> psycopg.Connection[Any]:
        """Open a session of the owner's, or of a role whose password is x."""
        of_role = {} if role is None else {"user": role, "password": "x"}
        return psycopg.connect(self.dsn, autocommit=True, **of_role)

    def run(self, script: str, *, language: str = "python", timeout_s: float = 10, **params: Any) -> str:
        """Run a script with the targets as its parameters; returns all that its author gets to see."""
        seen: list[str] = []
        given = {name: value for name, value in {**self.targets, **params}.items() if f"{name}" in script}
        if self.carrier == "pickle" and language == "python":
            return self.load(script, given, timeout_s)
        with self.connect() as connection:
            connection.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
            try:
                rows = connection.execute(CALL, (script, Jsonb(given), language, timeout_s)).fetchall()
                seen += [row[0] for row in rows]
            except psycopg.Error as error:
                seen.append(f"{error.sqlstate} {error}")
        return "\n".join(seen)

    def load(self, script: str, given: dict[str, Any] | None = None, timeout_s: float = 10) -> str:
        """Register a pickle that runs a script when it is loaded, and predict; returns what its author gets to see."""
        body = "".join(f"{name} = {value!r}\n" for name, value in (given or {}).items()) + script
        name = f"pickle-{next(self._numbers)}"
        with self.connect() as connection:
            try:
                connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(Carrier(body))))
                connection.execute(f"set statement_timeout = {int(timeout_s * 1000)}")
                return str(connection.execute("select dbml.predict(%s, array[1.0]::float8[])", (name,)).fetchone())
            except psycopg.Error as error:
                return f"{error.sqlstate} {error}"

    @contextmanager
    def pickles(self) -> Iterator[None]:
        """Carry scripts in by models that are loaded, not by run_script."""
        self.carrier = "pickle"
        try:
            yield
        finally:
            self.carrier = "script"

    def works(self) -> bool:
        """Tell whether honest calls are answered: a script, and a prediction."""
        with self.connect() as connection:
            try:
                row = connection.execute("select dbml.predict('honest', array[4.0]::float8[])").fetchone()
            except psycopg.Error:
                return False
        return row is not None and abs(row[0] - 9) < 1e-9 and "honest" in self.run("OutputDataSet = [{'x': 'honest'}]")

    @contextmanager
    def neighbour(self) -> Iterator[None]:
        """Have another role's script run, with the canary as its parameter, in its memory and in its scratch directory."""
        connection = self.connect()
        pid = connection.info.backend_pid
        holds = threading.Event()
        connection.add_notice_handler(lambda _: holds.set())

        def go() -> None:
            with suppress(psycopg.Error):
                connection.execute("select dbml.run_script_json(%s, params => %s)", (NEIGHBOUR, Jsonb({"secret": self.canary})))

        running = threading.Thread(target=go, daemon=True)
        running.start()
        try:
            assert holds.wait(60), "an honest script must run"
            yield
        finally:
            with self.connect() as other:
                other.execute("select pg_cancel_backend(%s)", (pid,))
            running.join(10)
            connection.close()

    def processes(self) -> list[int]:
        """Return the processes below the worker."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                except OSError:
                    continue
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, queue = [], [self.worker.pid or 0]
        while queue:
            below = children.get(queue.pop(), [])
            found += below
            queue += below
        return found


@contextmanager
def open_arena(layer: str, major: int | None = None) -> Iterator[Arena]:
    """Build an arena whose worker has one layer of the sandbox, or "none"."""
    canary = secrets.token_hex(12)
    folder = Path(tempfile.mkdtemp(prefix="dbml-arena-"))
    folder.chmod(0o755)
    (folder / "canary.txt").write_text(canary)
    (folder / "canary.txt").chmod(0o666)
    cluster = Cluster(folder / "cluster", binaries=binaries.find(major))
    former = dict(os.environ)
    worker = None
    arena = None
    try:
        cluster.start()
        dsn = cluster.dsn("postgres")
        install(dsn)
        (folder / "worker").mkdir()
        os.environ["DBML_CANARY"] = canary
        options = ("--unsafe-no-sandbox",) if layer == "none" else ("--sandbox", layer)
        worker = WorkerProcess(dsn, folder / "worker", options=options)
        worker.start()
        worker.wait_ready(timeout_s=300)  # on a machine that is busy with other things
        arena = Arena(dsn, worker, folder, canary)
        with _witnesses(arena):
            arena.targets |= {
                "worker_pid": worker.pid,
                "canary_file": str(folder / "canary.txt"),
                "folder": str(folder),
                "data_directory": str(folder / "cluster"),
                "postgres_host": str(psycopg.conninfo.conninfo_to_dict(dsn).get("host")),
                "postgres_port": int(psycopg.conninfo.conninfo_to_dict(dsn).get("port", 5432)),
            }
            with arena.connect() as connection:
                honest = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
                connection.execute("select dbml.register_model('honest', %s)", (pickle.dumps(honest),))
            yield arena
    finally:
        os.environ.clear()
        os.environ.update(former)
        if worker is not None:
            worker.stop()
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _witnesses(arena: Arena) -> Iterator[None]:
    """Listen on sockets of every kind, tell the canary to whoever comes, and note who did."""
    opened: list[socket.socket] = []
    name = f"dbml-{secrets.token_hex(6)}"

    def witness(label: str, family: int, kind: int, address: Any) -> Any:
        listening = socket.socket(family, kind)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
        if kind == socket.SOCK_STREAM:
            listening.listen()
        opened.append(listening)
        threading.Thread(target=hear, args=(label, listening, kind), daemon=True).start()
        return listening.getsockname()

    def hear(label: str, listening: socket.socket, kind: int) -> None:
        while True:
            try:
                if kind == socket.SOCK_STREAM:
                    peer, _ = listening.accept()
                    arena.heard.append(label)
                    peer.sendall(arena.canary.encode())
                    peer.close()
                else:
                    listening.recvfrom(1000)
                    arena.heard.append(label)
            except OSError:
                return

    arena.targets["tcp_port"] = witness("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))[1]
    arena.targets["udp_port"] = witness("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))[1]
    try:
        arena.targets["tcp6_port"] = witness("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))[1]
    except OSError:
        arena.targets["tcp6_port"] = 9  # this machine has no IPv6
    path = str(arena.folder / "witness")
    witness("unix", socket.AF_UNIX, socket.SOCK_STREAM, path)
    witness("unix datagram", socket.AF_UNIX, socket.SOCK_DGRAM, path + "-datagram")
    for made in (path, path + "-datagram"):
        Path(made).chmod(0o777)
    witness("abstract", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name)
    arena.targets |= {"unix_path": path, "abstract_name": name}
    try:
        yield
    finally:
        for listening in opened:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
