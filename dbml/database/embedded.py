"""A PostgreSQL server of our own: made, started, watched and stopped from a folder of binaries.

It listens on a Unix socket in a folder that only its owner may enter, on TCP only when a port is
asked for, and in both cases with a generated password (SCRAM).  It knows nothing of dbml's schema.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dbml import errors
from dbml.database.account import Account, owner, server_account
from dbml.database.binaries import SHARED, Binaries, find, for_account
from dbml.dsn import make_uri

USER = "postgres"
DATABASE = "dbml"
MAX_CONNECTIONS = 250
DEFAULT_PORT = 5432  # of a Unix socket: part of its file name only
LONGEST_LOG = 16_000_000  # bytes
LONGEST_SOCKET_PATH = 107  # sun_path of Linux without its NUL


@dataclass(frozen=True)
class Running:
    """What postmaster.pid says of a live server."""

    pid: int
    port: int
    socket_folder: Path
    ready: bool


class Cluster:
    """One data directory and, while it runs, its server.

    base: the folder that holds `data`, `run` and the password.  For root a base that the server's
    account cannot reach is replaced by one under /var/lib/dbml, always the same for the same base.
    settings: server parameters, given on the command line at every start.
    """

    def __init__(self, base: Path, *, binaries: Binaries | None = None, settings: Mapping[str, str] | None = None) -> None:
        account = server_account()
        self.base = _place(base.resolve(), account)
        self.data = self.base / "data"
        # Root in a project of an ordinary user: whoever owns the data runs the server.
        self.account = owner(self.data) or account if account else None
        self._wanted = binaries
        self.settings = dict(settings or {})
        self.log_file = self.base / "postgresql.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @cached_property
    def binaries(self) -> Binaries:
        """Return the programs in use: those asked for, else the preferred ones of this machine."""
        return for_account(self._wanted or find(), self.account)

    @property
    def password(self) -> str:
        """Return the superuser's generated password."""
        return (self.base / "password").read_text().strip()

    def exists(self) -> bool:
        """Tell whether the data directory was made, completely."""
        return (self.base / "password").is_file() and (self.data / "PG_VERSION").is_file()

    def initialize(self) -> None:
        """Make the data directory; nothing happens where there is one.

        Raises: DbmlError when initdb fails, or the data belongs to another major version.
        """
        if self.exists():
            made_by = (self.data / "PG_VERSION").read_text().strip()
            if int(made_by) != self.binaries.major:
                raise errors.DbmlError(
                    f"the data in {self.data} must be served by PostgreSQL {made_by}, found {self.binaries.version}",
                    hint="move it away to start afresh, or pg_dump it with its own version first",
                )
            return
        self._make_folder(self.base, 0o711 if self.account else 0o700, owned=False)
        shutil.rmtree(self.data, ignore_errors=True)  # of an initdb that was interrupted
        self._make_folder(self.data, 0o700)
        password = secrets.token_urlsafe(24)
        with tempfile.TemporaryDirectory() as scratch:
            secret = Path(scratch) / "password"
            secret.write_text(f"{password}\n")
            self._give(Path(scratch))
            self._give(secret)
            self._initdb(secret)
        with (self.data / "postgresql.conf").open("a") as stream:
            stream.write(f"\nmax_connections = {MAX_CONNECTIONS}  # a hundred that run scripts, and room for others\n")
        descriptor = os.open(self.base / "password", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{password}\n")

    def _initdb(self, secret: Path) -> None:
        said = ""
        for locale in ("C.UTF-8", "C"):  # an older C library may lack the first
            command = [
                str(self.binaries.program("initdb")), "-D", str(self.data), "-U", USER, "-E", "UTF8",
                f"--locale={locale}", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-instructions",
            ]  # fmt: skip
            if self.settings.get("fsync") == "off":
                command.append("--no-sync")
            answer = subprocess.run(
                command, cwd="/", capture_output=True, text=True, check=False,
                env={"PATH": os.defpath, "LC_ALL": "C"}, **self._as_account(),
            )  # fmt: skip
            said = answer.stderr.strip() or answer.stdout.strip()
            if answer.returncode == 0:
                return
            if "locale" not in said:
                break
        hint = None
        if "could not look up effective user ID" in said:
            hint = "PostgreSQL needs an account with a name: run as a user that /etc/passwd knows, or use --dsn"
        last = said.splitlines()[-1] if said else "it said nothing"
        raise errors.DbmlError(f"initdb must succeed in {self.data}: {last}", hint=hint)

    def start(self, *, port: int | None = None, timeout_s: float = 60) -> Running:
        """Start the server and wait until it takes connections; one that runs already is taken over.

        port: listen on 127.0.0.1 as well, at that port.
        Raises: DbmlError with the end of the server's log.
        """
        self.initialize()
        running = self.status()
        if running is None:
            self._reap()
            self._end_orphans()
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            self._spawn(port)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            running = self.status()
            if running and running.ready:
                self._make_database(running)
                return running
            if self._process and self._process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise errors.DbmlError(
            f"the server in {self.data} must start within {timeout_s:g} s: {self._last_complaint()}",
            hint=f"its log is {self.log_file}",
        )

    def _spawn(self, port: int | None) -> None:
        number = port or DEFAULT_PORT
        options = {
            "listen_addresses": "127.0.0.1" if port else "",
            "unix_socket_directories": str(self._socket_folder(number)),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_destination": "stderr",
            "recovery_init_sync_method": "syncfs",  # else a server that was killed opens each of its files before it is back
            **self.settings,
        }
        command = [str(self.binaries.program("postgres")), "-D", str(self.data), "-p", str(number)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        descriptor = open_log(self.log_file)
        self._log_offset = os.fstat(descriptor).st_size
        try:
            # A session of its own, so that Ctrl-C in the terminal does not stop it before its clients.
            self._process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
                start_new_session=True, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, **self._as_account(),
            )  # fmt: skip
        finally:
            os.close(descriptor)

    def _socket_folder(self, port: int) -> Path:
        """Return a private folder whose socket's path is short enough."""
        folder = self.base / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{port}")) > LONGEST_SOCKET_PATH:
            parent = os.environ.get("XDG_RUNTIME_DIR", "") if self.account is None else ""
            usable = parent and len(parent) < 60 and os.access(parent, os.W_OK)
            folder = Path(tempfile.mkdtemp(prefix="dbml-", dir=parent if usable else "/tmp"))  # noqa: S108
        self._make_folder(folder, 0o700)
        return folder

    def _make_database(self, running: Running) -> None:
        import psycopg

        with psycopg.connect(self.dsn("postgres", running), autocommit=True, connect_timeout=10) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
            if not found:
                connection.execute(f"create database {DATABASE}")

    def status(self) -> Running | None:
        """Return the live server of this data directory, None when there is none.

        A postmaster.pid left by a crash or a reboot is not believed, even if its pid is in use again.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        if self._process and self._process.pid == pid and self._process.poll() is not None:
            return None
        if not _is_postmaster(pid, self.data):
            return None
        if len(lines) < 5 or not lines[3].isdigit():
            return Running(pid, 0, Path(), ready=False)
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return Running(pid, int(lines[3]), Path(lines[4]), ready)

    def dsn(self, database: str = DATABASE, running: Running | None = None) -> str:
        """Return a DSN of the superuser, by the Unix socket.

        Raises: DbmlError when the server is not running.
        """
        running = running or self.status()
        if running is None:
            raise errors.DbmlError(f"no server is running in {self.data}", hint="dbml up --detach")
        return make_uri(
            {
                "user": USER,
                "password": self.password,
                "dbname": database,
                "host": str(running.socket_folder),
                "port": running.port,
            }
        )

    def stop(self, *, timeout_s: float = 30) -> bool:
        """Stop the server: clients are cut off, what they committed is kept; False if none ran.

        One that does not stop in time is stopped the hard way, and recovers at its next start.
        """
        running = self.status()
        if running is None:
            self._reap()
            return False
        for number, patience_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            try:
                os.kill(running.pid, number)
            except ProcessLookupError:
                break
            if self._wait_gone(running.pid, patience_s):
                break
        self._reap()
        if running.socket_folder != self.base / "run" and running.socket_folder.name.startswith("dbml-"):
            shutil.rmtree(running.socket_folder, ignore_errors=True)
        return True

    def _end_orphans(self) -> None:
        """Kill backends that have outlived their server: as long as one holds the shared memory, no other server starts."""
        for number in (signal.SIGQUIT, signal.SIGKILL):
            deadline = time.monotonic() + 1
            while (left := _backends(self.data)) and time.monotonic() < deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                time.sleep(0.02)

    def _wait_gone(self, pid: int, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self._process and self._process.pid == pid:
                if self._process.poll() is not None:
                    return True
            elif not _is_postmaster(pid, self.data):
                return True
            time.sleep(0.02)
        return False

    def _reap(self) -> None:
        if self._process:
            self._process.wait(timeout=10)
            self._process = None

    def destroy(self) -> None:
        """Stop the server and delete the data directory and all that is beside it."""
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def _last_complaint(self) -> str:
        """Return what it said last since it was started, without the time and the pid."""
        with self.log_file.open("rb") as stream:
            stream.seek(self._log_offset)
            lines = stream.read().decode(errors="replace").splitlines()
        complaints = [line.partition("FATAL: ")[2].strip() for line in lines if "FATAL: " in line]
        return (complaints or lines or ["it said nothing"])[-1]

    def _as_account(self) -> Mapping[str, Any]:
        return self.account.process() if self.account else {}

    def _give(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)

    def _make_folder(self, path: Path, mode: int, *, owned: bool = True) -> None:
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(mode)
        if owned:
            self._give(path)
            path.chmod(mode)


def open_log(path: Path) -> int:
    """Open a log for appending, readable by its owner alone; a long one is put aside first."""
    if path.exists() and path.stat().st_size > LONGEST_LOG:
        path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _place(base: Path, account: Account | None) -> Path:
    """Return the folder to use: `base`, or for root one that the account reaches and may own."""
    if account is None:
        return base
    elsewhere = SHARED / hashlib.sha256(os.fsencode(base)).hexdigest()[:12]
    if elsewhere.is_dir():
        return elsewhere
    nearest = next(folder for folder in (base, *base.parents) if folder.is_dir())
    if account.enters(nearest):
        return base
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    return elsewhere


def _backends(data: Path) -> list[int]:
    """Return the processes of PostgreSQL that work in a data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == data.resolve() and (process / "comm").read_text().startswith("postgres"):
                found.append(int(process.name))
    return found


def _is_postmaster(pid: int, data: Path) -> bool:
    """Tell whether `pid` is alive and, as far as can be seen, the server of that data directory."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    process = Path("/proc") / str(pid)
    if not process.is_dir():
        return not Path("/proc/self").exists()
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        try:
            # A server's working directory is its data directory.
            return (process / "cwd").readlink() == data.resolve()
        except PermissionError:  # another account's process, seen by a root that may not all: so it is in containers
            words = (process / "cmdline").read_bytes().split(b"\0")
            given = [Path(os.fsdecode(after)) for word, after in itertools.pairwise(words) if word == b"-D"]
            return [path.resolve() for path in given] == [data.resolve()]
    except OSError:
        return False
