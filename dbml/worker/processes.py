"""Processes, as the router sees them: the zygote, and the children that it forks.

A child is a socket, a scratch directory and an exit.  Killing is final and complete: the whole process group, and the
scratch directory with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

from dbml.worker.frames import Frame, FrameError, pack, read_frame_async
from dbml.worker.sandbox import Limits

log = logging.getLogger("dbml.processes")

START_TIMEOUT_S = 60.0
LONGEST_BUFFER = 1 << 20


class ChildLost(Exception):
    """A child's socket has closed; the text says how its process ended."""


@dataclass(frozen=True)
class Exit:
    """How a process ended: by a signal or with a code."""

    status: int
    peak_memory_mb: float | None = None
    cpu_seconds: float | None = None

    def __str__(self) -> str:
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            return f"was killed by signal {number} ({signal.Signals(number).name})"
        return f"ended with exit code {os.waitstatus_to_exitcode(self.status)} without finishing"


class Child:
    """One forked process."""

    def __init__(self, scratch: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.scratch = scratch
        self.pid = 0
        self._reader = reader
        self._writer = writer
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._killed = False

    async def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; waits while the child does not read.

        Raises: ConnectionError where it is gone.
        """
        self._writer.write(pack(head, body))
        await self._writer.drain()

    async def receive(self) -> Frame:
        """Read a frame.

        Raises: ChildLost where the child is gone.
        """
        try:
            return await read_frame_async(self._reader)
        except (EOFError, ConnectionError, FrameError) as error:
            if isinstance(error, FrameError):
                self.kill()
            exit_ = await self.exited()
            raise ChildLost(str(exit_)) from None

    async def exited(self) -> Exit:
        """Wait for the end of the process."""
        return await asyncio.shield(self._exit)

    @property
    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return self._exit.done()

    def kill(self) -> None:
        """Kill the process and its group; may be called again."""
        if not self._exit.done() and self.pid:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)
        self._writer.close()

    def over(self, exit_: Exit) -> None:
        """Take note of the end: what the process left behind goes."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        if not self._exit.done():
            self._exit.set_result(exit_)
        shutil.rmtree(self.scratch, ignore_errors=True)


class Zygote:
    """The zygote process, started again where it has died."""

    def __init__(self, runtime: str, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits
        self._numbers = itertools.count(1)
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._children: dict[str, Child] = {}
        self._forks: dict[str, asyncio.Future[None]] = {}
        self._lock = asyncio.Lock()
        self._stopping = False
        self._spare: asyncio.Task[Child] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process and wait until it has imported everything."""
        async with self._lock:
            await self._start()

    async def _start(self) -> None:
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        threads = str(os.cpu_count() or 1)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": self._runtime,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "ARROW_NUM_THREADS": threads,
        }  # fmt: skip
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dbml.worker.zygote", str(theirs.fileno()), env=environment, cwd=self._runtime,
            pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._control = ours
        loop.add_reader(ours.fileno(), self._hear)
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._ready

    def _hear(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        said = json.loads(message)
        match said["tag"]:
            case "ready":
                assert self._ready is not None
                self._ready.set_result(None)
            case "forked":
                self._children[said["id"]].pid = said["pid"]
                self._forks.pop(said["id"]).set_result(None)
            case "exited":
                child = self._children.pop(said["id"], None)
                if child is not None:
                    child.over(Exit(said["status"], said["peak_memory_mb"], said["cpu_seconds"]))

    def _lost(self) -> None:
        assert self._control is not None
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        if not self._stopping:
            log.error("the zygote has died; it is started again when it is needed")
        for child in self._children.values():
            child.over(Exit(signal.SIGKILL))
        self._children.clear()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ChildLost("the zygote ended while it started: its log says why"))
        for fork in self._forks.values():
            fork.set_exception(ChildLost("the zygote died"))
        self._forks.clear()

    async def satellite(self) -> Child:
        """Give a fresh satellite: the one that was forked ahead, while the next is forked behind it."""
        spare, self._spare = self._spare, None
        ready = asyncio.create_task(self.fork("satellite", self._limits)) if spare is None else spare
        try:
            child = await asyncio.shield(ready)
        finally:
            if not self._stopping:
                self._spare = asyncio.create_task(self.fork("satellite", self._limits))
        return await self.fork("satellite", self._limits) if child.is_over else child

    async def fork(self, role: Literal["satellite", "scorer"], limits: Limits) -> Child:
        """Fork a child that serves one end of a new socket pair."""
        async with self._lock:
            await self._start()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        scratch = tempfile.mkdtemp(prefix=f"{role}-", dir=self._runtime)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST_BUFFER)
        child = Child(scratch, reader, writer)
        identity = str(next(self._numbers))
        forked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._children[identity] = child
        self._forks[identity] = forked
        request = {"tag": "fork", "role": role, "id": identity, "limits": limits.as_json(), "scratch": scratch}
        assert self._control is not None
        socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
        theirs.close()
        await asyncio.shield(forked)
        return child

    async def stop(self) -> None:
        """End the zygote and with it every child."""
        self._stopping = True
        if self._spare is not None:
            self._spare.cancel()
        for child in list(self._children.values()):
            child.kill()
        if self._control is not None:
            self._control.shutdown(socket.SHUT_RDWR)
        if self._process is not None:
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
