"""The process of a zygote: how it is started, and the socket to it.

What it is started with holds nothing of the router's: a clean environment, and of the file system what its sandbox shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import dbml
from dbml.worker.sandbox import bubblewrap, environment
from dbml.worker.sandbox.layers import Sandbox, Wanted, choose
from dbml.worker.spawn import spawn

log = logging.getLogger("dbml.processes")

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
LARGEST_MESSAGE = 1 << 16

Heard = Callable[[dict[str, Any], int], None]


class ChildLost(Exception):
    """A child's socket has closed; the text says how its process ended: 'was killed by signal 11 (SIGSEGV)'."""


@dataclass(frozen=True)
class Interpreter:
    """The interpreter of an environment.

    path: PYTHONPATH, where dbml's modules are; site: its site-packages, None where Python's own start finds them.
    files: the directories that the environment consists of.
    """

    python: str
    path: str
    site: str | None = None
    files: tuple[str, ...] = ()

    @classmethod
    def of_environment(cls, directory: Path, code: Path) -> Interpreter:
        """Return an environment's interpreter, which sees of dbml what is in the directory code."""
        site = next(directory.glob("lib/python3.*/site-packages"), directory)
        python = directory / "bin" / "python"
        files = (str(directory), str(code), PACKAGE, *_home_of(python))
        return cls(str(python), str(code), str(site), files)

    @classmethod
    def own(cls) -> Interpreter:
        """Return the interpreter that runs this.

        Of the directories on its path those of installed packages are the environment; of a checkout, only dbml itself is.
        """
        prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
        packages = {path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and path.startswith("/")}
        files = (PACKAGE, *prefixes, *packages, *_home_of(Path(sys.executable)))
        return cls(sys.executable, os.pathsep.join(path for path in sys.path if path.startswith("/")), None, files)

    def command(self) -> tuple[str, ...]:
        """Return how it is run; -S: a package's .pth files hold code, which only a script's process runs."""
        return (self.python, "-P") if self.site is None else (self.python, "-P", "-S")


PACKAGE = str(Path(dbml.__file__).parent)


def _home_of(python: Path) -> tuple[str, ...]:
    """Return where the real interpreter behind a virtual environment's is installed."""
    home = python.resolve().parents[1]
    return () if str(home) in ("/", "/usr") else (str(home),)


@functools.cache
def default_sandbox() -> Sandbox:
    """Return the sandbox that DBML_SANDBOX names, else the strongest that this machine allows the interpreter that runs this."""
    own = Interpreter.own()
    return choose(cast("Wanted", os.environ.get("DBML_SANDBOX", "auto")), own.command(), own.files, own.path)


@dataclass(frozen=True)
class Blueprint:
    """What a zygote is started with.

    runtime: a directory of the router's own.  threads: that a numeric library of its children may have.
    network: whether its children may use the network.
    """

    interpreter: Interpreter
    sandbox: Sandbox
    runtime: str
    threads: int
    network: bool = False

    def cache(self) -> Path:
        """Return the directory for what importing packages computes once: matplotlib's list of fonts takes seconds.

        It is kept between workers for their own packages, and for one zygote where the packages are another's choice.
        """
        if self.interpreter.site is None:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dbml" / "imports"
        else:
            cache = Path(self.runtime, f"imports-{Path(self.interpreter.site).parents[2].name}")
        cache.mkdir(parents=True, exist_ok=True)
        self.sandbox.own(cache)
        return cache

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the zygote's environment, which holds nothing of the router's but where its modules are."""
        seen = bubblewrap.CACHE if self.sandbox.layer == "bubblewrap" else str(cache)
        return environment(seen, self.threads) | {
            "PYTHONPATH": self.interpreter.path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # no thread may exist where it forks
            "XDG_CACHE_HOME": seen,
            # Under Landlock alone there are no semaphores, whose place all processes share: joblib then does without.
            **({"JOBLIB_MULTIPROCESSING": "0"} if self.sandbox.layer == "landlock" else {}),
        }  # fmt: skip

    def command(self, descriptor: int, cache: Path) -> list[str]:
        """Return how it is started, with its end of the socket at a descriptor."""
        sites = [] if self.interpreter.site is None else [self.interpreter.site]
        return self.sandbox.command(
            self.interpreter.command(), "dbml.worker.zygote", [str(descriptor), *sites], self.interpreter.files, cache,
            network=self.network,
        )  # fmt: skip


class ZygoteProcess:
    """A zygote's process; `launch` starts it.

    warm: whether everything is imported.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process  # bubblewrap's, where the zygote is below it
        self._control: socket.socket | None = control
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda ready: ready.exception())  # perhaps nobody waits
        self._heard: Heard | None = None
        self._lost: Callable[[], None] | None = None
        self.pid: int | None = None
        self.warm = False
        asyncio.get_running_loop().add_reader(control.fileno(), self._hear)

    @classmethod
    async def launch(cls, blueprint: Blueprint) -> ZygoteProcess:
        """Start the process; `wait_ready` tells when it forks.

        Raises: OSError.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        cache = blueprint.cache()
        with theirs:
            process = await spawn(
                *blueprint.command(theirs.fileno(), cache),
                env=blueprint.environment(cache),
                cwd="/",
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        return cls(process, ours)

    def follow(self, heard: Heard, lost: Callable[[], None]) -> None:
        """Say who is told of its messages, with the process that each is about, and of its end."""
        self._heard, self._lost = heard, lost

    @property
    def is_ready(self) -> bool:
        """Tell whether it has come to serve."""
        return self._ready.done() and self._ready.exception() is None

    @property
    def is_over(self) -> bool:
        """Tell whether its socket has closed."""
        return self._control is None

    async def wait_ready(self) -> None:
        """Wait until it forks children; where that is not to be, it is gone.

        Raises: ChildLost where it ends before; TimeoutError.
        """
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
        except (TimeoutError, asyncio.CancelledError):
            self.kill()
            raise

    def tell(self, message: dict[str, Any], *descriptors: int) -> bool:
        """Tell it something; False where it cannot be told."""
        if self._control is None:
            return False
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            log.error("the zygote does not hear: %s", error)
            self.kill()  # its children die with it, and the next call starts another
            return False
        return True

    def kill(self) -> None:
        """Kill it, where it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End it and with it every child; by force where it takes longer than STOP_TIMEOUT_S."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        self._close()

    def _hear(self) -> None:
        assert self._control is not None
        descriptors: list[int] = []
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, LARGEST_MESSAGE, 1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._close()
            return
        said = json.loads(message)
        about = next((_process_id(descriptor) for descriptor in descriptors), 0)
        for descriptor in descriptors:
            os.close(descriptor)
        match said["tag"]:
            case "ready":
                if said["threads"] > 1:
                    log.warning("the zygote has %d threads, which its children lack: they may hang", said["threads"])
                self.pid = about
                self._ready.set_result(None)
            case "warm":
                self.warm = True
        if self._heard is not None:
            self._heard(said, about)

    def _close(self) -> None:
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        if not self._ready.done():
            self._ready.set_exception(ChildLost("the zygote ended while it started: its log says why"))
        if self._lost is not None:
            self._lost()


def _process_id(descriptor: int) -> int:
    """Return the id, here, of the process that a descriptor is of; 0 where it has ended."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").splitlines():
        if line.startswith("Pid:"):
            return max(0, int(line[4:]))
    return 0
