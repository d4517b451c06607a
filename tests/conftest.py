"""Real servers for the tests: PostgreSQL 18 (embedded) and 15 (Debian's), with dbml and a worker.

Fixtures, from cheap to dear; each runs once a server:
    server    the server itself, `server.dsn(database)`
    empty     a database without dbml, for one test
    installed a database with dbml and no worker, for one test
    shared    the session's database with a worker; leave behind only what rolls back or is yours by name
    db        a connection to `shared` in autocommit mode; `connect` opens more
    fresh     a database with a worker, for one test
    wheelhouse  the folder of wheels that the workers know; nothing comes from an index

DBML_TEST_DSN names a server to use instead; its role must be allowed to create databases.
With CI=true a server that is missing is a failure; elsewhere it is left out and the header says so.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from zlib import crc32

import hypothesis
import psycopg
import pytest

from dbml.cli.worker_process import WorkerProcess
from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install
from dbml.dsn import make_uri, parse
from dbml.worker.environments.resolver import NEEDED

from . import wheels

GIVEN = os.environ.get("DBML_TEST_DSN")
IN_CI = os.environ.get("CI") == "true"

# What is generated is new each time, but in CI: a change is not refused for what another one has brought.
hypothesis.settings.register_profile(
    "dbml", deadline=None, print_blob=True, derandomize=IN_CI, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("dbml")

WANTED = (18, 15)
FOUND = {major: next((b for b in binaries.installations() if b.major == major), None) for major in WANTED}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "150"}


def _parameters() -> list[str]:
    if GIVEN:
        return ["given"]
    return [f"pg{major}" for major in WANTED if FOUND[major] or IN_CI or major == WANTED[0]]


def _is_second(item: pytest.Item) -> bool:
    """Tell whether a test that does not depend on the server's version is to run on another one, told by its file's name."""
    server = getattr(item, "callspec", None) and item.callspec.params.get("server")  # type: ignore[attr-defined]
    if server is None or item.get_closest_marker("once") is None:
        return False
    servers = _parameters()
    return server != servers[crc32(item.path.name.encode()) % len(servers)]


@pytest.hookimpl(tryfirst=True)  # before the hook of xdist that reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run once what is marked so; keep together what shares a server or an engine (`pytest -n 2 --dist loadgroup`)."""
    twice = [item for item in items if _is_second(item)]
    items[:] = [item for item in items if item not in set(twice)]
    config.hook.pytest_deselected(items=twice)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        server = getattr(item, "callspec", None) and item.callspec.params.get("server")  # type: ignore[attr-defined]
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(pytest.mark.xdist_group(server if folder != "docker" and server else folder))


def pytest_collection_finish() -> None:
    """Keep the collector away from thousands of tests, which all stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs R where there is none; in CI that is a failure."""
    page = getattr(item, "callspec", None) and item.callspec.params.get("name")  # type: ignore[attr-defined]
    if (item.get_closest_marker("needs_r") or page == "docs/how-to/run-r.md") and not IN_CI and shutil.which("R") is None:
        pytest.skip("R is not on this machine: apt-get install r-base-core")


def pytest_report_header() -> list[str]:
    if GIVEN:
        return ["servers: the one of DBML_TEST_DSN"]
    missing = [str(major) for major in WANTED if not FOUND[major]]
    lines = ["servers: " + ", ".join(f"{b.version} in {b.folder}" for b in FOUND.values() if b)]
    if missing:
        lines.append(f"servers left out: PostgreSQL {', '.join(missing)}, no binaries on this machine")
    return lines


@dataclass
class Database:
    """A database with dbml in it, and its worker if it has one."""

    dsn: str
    worker: WorkerProcess | None = None

    def connect(self, **options: object) -> psycopg.Connection:
        return psycopg.connect(self.dsn, **options)


@dataclass
class Server:
    """A running server; databases are made on it and dropped again."""

    name: str
    admin_dsn: str
    folder: Path
    numbers: Iterator[int] = field(default_factory=count)
    _template: str | None = None
    _shared: Database | None = None

    @property
    def major(self) -> int:
        with psycopg.connect(self.admin_dsn) as connection:
            return connection.info.server_version // 10000

    def dsn(self, database: str, **changes: str) -> str:
        return make_uri({**parse(self.admin_dsn), "dbname": database, **changes})

    def run(self, statement: str) -> None:
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(statement)

    def create(self, template: str = "template0", owner: str | None = None) -> str:
        """Make a database and return its name."""
        name = f"dbml_test_{os.getpid()}_{next(self.numbers)}"
        self.run(f"create database {name} template {template}" + (f" owner {owner}" if owner else ""))
        return name

    def drop(self, name: str) -> None:
        self.run(f"drop database if exists {name} with (force)")

    def template(self) -> str:
        if self._template is None:
            name = self.create()
            install(self.dsn(name))
            self._template = name
        return self._template

    def start_worker(self, dsn: str, *options: str) -> WorkerProcess:
        folder = self.folder / f"worker{next(self.numbers)}"
        worker = WorkerProcess(dsn, folder, options=options)
        worker.start()
        try:
            worker.wait_ready()
        except BaseException:
            worker.stop()
            raise
        return worker

    def shared(self) -> Database:
        if self._shared is None:
            dsn = self.dsn(self.create(self.template()))
            self._shared = Database(dsn, self.start_worker(dsn))
        elif self._shared.worker and self._shared.worker.poll() is not None:  # a test killed it
            self._shared.worker = self.start_worker(self._shared.dsn)
        return self._shared

    def close(self) -> None:
        if self._shared and self._shared.worker:
            self._shared.worker.stop()
        for name in (parse(self._shared.dsn)["dbname"] if self._shared else None, self._template):
            if name:
                self.drop(name)


# Run beside the tests: stops their servers when the session is killed and cannot do it itself.
WATCHDOG = """
import os, pathlib, shutil, signal, sys, time
sys.stdin.read()
folder = pathlib.Path(sys.argv[1])
for file in folder.glob("*/cluster/data/postmaster.pid"):
    os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
if folder.exists():
    time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
"""


class Servers:
    """Servers by name, started when first asked for, stopped when the session ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbml-test-"))
        self.folder.chmod(0o711)  # as root, the servers run as another account
        self._watchdog = subprocess.Popen(
            [sys.executable, "-c", WATCHDOG, self.folder], stdin=subprocess.PIPE, start_new_session=True
        )
        self._clusters: list[Cluster] = []
        self._servers: dict[str, Server] = {}
        # Of every worker that is started in the session: environments from wheels on disk alone, in a cache of its own.
        self.wheels = self.folder / "wheels"
        self.wheels.mkdir()
        self._variables = {key: os.environ.get(key) for key in ("DBML_FIND_LINKS", "DBML_NO_INDEX", "DBML_CACHE")}
        os.environ |= {"DBML_FIND_LINKS": str(self.wheels), "DBML_NO_INDEX": "1", "DBML_CACHE": str(self.folder / "cache")}

    def get(self, name: str) -> Server:
        if name not in self._servers:
            self._servers[name] = self._start(name)
        return self._servers[name]

    def _start(self, name: str) -> Server:
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o711)
        if GIVEN:
            return Server(name, GIVEN, folder)
        found = FOUND[int(name.removeprefix("pg"))]
        if found is None:
            pytest.fail(f"{name} must be on this machine: see .ci/run, or pip install 'dbml[test]'")
        cluster = Cluster(folder / "cluster", binaries=found, settings=FAST)
        cluster.start()
        self._clusters.append(cluster)
        return Server(name, cluster.dsn("postgres"), folder)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        for cluster in self._clusters:
            cluster.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        for key, value in self._variables.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        self._watchdog.communicate()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers of the session."""
    found = Servers()
    yield found
    found.close()


@pytest.fixture(scope="session")
def wheelhouse(servers: Servers) -> Path:
    """A folder with wheels of what every environment needs, made of what is installed here."""
    wheels.repack(servers.wheels, (*NEEDED, "joblib"))
    return servers.wheels


@pytest.fixture(params=_parameters())
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """Each server in turn."""
    return servers.get(request.param)


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """The DSN of a database without dbml."""
    name = server.create()
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
def installed(server: Server) -> Iterator[str]:
    """The DSN of a database with dbml, without a worker."""
    name = server.create(server.template())
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
def shared(server: Server) -> Database:
    """The session's database on this server, with a worker that answers."""
    return server.shared()


@pytest.fixture
def dsn(shared: Database) -> str:
    """The DSN of `shared`."""
    return shared.dsn


@pytest.fixture
def connect(shared: Database) -> Callable[[], psycopg.Connection]:
    """Open another connection to `shared`, in autocommit mode."""
    return lambda: psycopg.connect(shared.dsn, autocommit=True)


@pytest.fixture
def db(connect: Callable[[], psycopg.Connection]) -> Iterator[psycopg.Connection]:
    """A connection to `shared` in autocommit mode, as psql's; leave behind only what is yours by name."""
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture
def fresh(server: Server) -> Iterator[Database]:
    """A database of the test's own, with a worker of its own."""
    name = server.create(server.template())
    dsn = server.dsn(name)
    worker = server.start_worker(dsn)
    yield Database(dsn, worker)
    worker.stop()
    server.drop(name)


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    """An ordinary role with the password 'secret', which owns nothing yet."""
    name = f"dbml_role_{os.getpid()}_{next(server.numbers)}"
    server.run(f"create role {name} login password 'secret'")
    yield name
    server.run(f"drop role {name}")


@pytest.fixture
def programs(server: Server) -> binaries.Binaries:
    """The programs that fit the server: psql, pg_dump."""
    return FOUND.get(server.major) or next(binaries.installations())
