"""Processes, as the router sees them: the zygote, and the children that it forks.

A child is a socket, a scratch directory and an exit.  Its end is complete: its process group, what has left the group,
and the scratch directory go with it.  This module neither unpickles nor knows what children are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dbml.temporary import remove
from dbml.worker.cgroups import Cgroups, Leaf
from dbml.worker.frames import LARGEST_BODY, Frame, FrameError, pack, read_frame_async
from dbml.worker.sandbox import Limits
from dbml.worker.sandbox.layers import Sandbox
from dbml.worker.spawn import end_strays
from dbml.worker.zygote_process import Blueprint, ChildLost, Interpreter, ZygoteProcess, default_sandbox

log = logging.getLogger("dbml.processes")

PATIENCE_S = 1.0  # from the end of a child's socket to the end of its process
LONGEST_BUFFER = 1 << 20
LEAST_BODY_MB = 16  # that a child may send at once, however little its result may be
MOST_SPARES = 8  # satellites forked ahead for other limits than the worker's own
SPARE_IDLE_S = 120.0  # after which such a one is given up
COLD_FORKS = 1  # before all is imported: each imports for itself, beside the one that does so for all
STANDBY_AFTER_S = 3.0  # from the moment when all is imported: who waits for that goes first
STANDBY_AGAIN_S = 30.0  # after one has died before it was of use
RESTARTS = "it is started again when it is needed"


@dataclass(frozen=True)
class Exit:
    """How a process ended: status as of wait(2), its largest memory, its processor time; None where unknown.

    orphaned: it went with its zygote.
    """

    status: int
    peak_memory_mb: float | None = None
    cpu_seconds: float | None = None
    orphaned: bool = False

    @property
    def signal(self) -> int | None:
        """Return the number of the signal that killed it."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        """Return its exit code, None where a signal killed it."""
        return None if self.signal is not None else os.waitstatus_to_exitcode(self.status)

    def __str__(self) -> str:
        if self.signal is None:
            return f"ended with exit code {self.code} without finishing"
        why = ": the zygote that it was forked from has died" if self.orphaned else ""
        try:
            return f"was killed by signal {self.signal} ({signal.Signals(self.signal).name}){why}"
        except ValueError:  # a real-time signal
            return f"was killed by signal {self.signal}"


class Child:
    """One forked process; `Zygote.fork` makes it."""

    def __init__(
        self, scratch: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kill: Callable[[], object],
        largest_body: int = LARGEST_BODY,
    ) -> None:  # fmt: skip
        self.scratch = scratch
        self.pid = 0
        self.zygote = 0  # process id of the zygote that forked it
        self.leaf: Leaf | None = None  # its control group, where there are any
        self.files: str | None = None  # the directory of its files, where that is no file system of its own
        self._reader = reader
        self._writer = writer
        self._kill = kill
        self._largest_body = largest_body
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; waits while the child does not read.

        Raises: ConnectionError where it is gone.
        """
        self._writer.write(pack(head, body))
        await self._writer.drain()

    async def receive(self) -> Frame:
        """Read a frame; what a child sent before it ended is still read.

        Raises: ChildLost where the child is gone.
        """
        try:
            return await read_frame_async(self._reader, self._largest_body)
        except (EOFError, ConnectionError):
            pass
        except FrameError as error:
            log.error("process %d: %s", self.pid, error)
            self.kill()
        try:
            exit_ = await asyncio.wait_for(self.exited(), PATIENCE_S)
        except TimeoutError:  # it has closed its socket and goes on
            self.kill()
            exit_ = await self.exited()
        raise ChildLost(str(exit_)) from None

    async def exited(self) -> Exit:
        """Wait for the end of the process."""
        return await asyncio.shield(self._exit)

    def when_over(self, then: Callable[[], object]) -> None:
        """Call something when the process has ended."""
        self._exit.add_done_callback(lambda _: then())

    @property
    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return self._exit.done()

    @property
    def is_orphaned(self) -> bool:
        """Tell whether it ended because its zygote died."""
        return self._exit.done() and self._exit.result().orphaned

    def kill(self) -> None:
        """Kill the process and whatever it started; may be called again."""
        if not self._exit.done():
            self._kill()
        self._writer.close()

    async def close(self) -> None:
        """Close the socket."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def end(self, exit_: Exit) -> None:
        """Take note that the process has ended."""
        if not self._exit.done():
            self._exit.set_result(exit_)


class Zygote:
    """The zygote that children are forked from: a process that is started again where it has died.

    runtime: a directory of the router's own, in which children have their scratch directories.
    interpreter: of its environment; None is the router's own.  sandbox: None is the strongest that holds.
    network: for children that may use the network; a zygote that is not for them starts one that is when it is asked.
    cgroups: where satellites get groups of their own; None where there are none.
    """

    def __init__(
        self, runtime: str, limits: Limits, interpreter: Interpreter | None = None, sandbox: Sandbox | None = None, *,
        network: bool = False, cgroups: Cgroups | None = None,
    ) -> None:  # fmt: skip
        self.cgroups = cgroups
        self._sandbox = sandbox or default_sandbox()
        self._blueprint = Blueprint(interpreter or Interpreter.own(), self._sandbox, runtime, limits.threads, network)
        self._networked: Zygote | None = None
        self._runtime = runtime
        self._limits = limits
        self._numbers = itertools.count(1)
        self._process: ZygoteProcess | None = None
        self._keeps_standby = False
        self._standby: ZygoteProcess | None = None
        self._children: dict[str, Child] = {}
        self._forks: dict[str, asyncio.Future[None]] = {}
        self._removals: set[asyncio.Future[None]] = set()
        self._lock = asyncio.Lock()
        self._stopping = False
        self.warm = asyncio.Event()  # everything is imported
        self._settled = asyncio.Event()  # or that is not to be
        self._cold_forks = 0
        self._after_death: asyncio.Task[None] | None = None
        self._standing_by: asyncio.Task[None] | None = None
        # The satellite that was forked ahead, by language and limits, that used last at the end.
        self._spares: dict[tuple[str, Limits], asyncio.Task[Child]] = {}

    @property
    def pid(self) -> int | None:
        """Return the process id, None before it is ready."""
        return self._process.pid if self._process is not None else None

    @property
    def standby(self) -> int | None:
        """Return the process id of the one that stands by, None where none is ready."""
        return None if self._standby is None else self._standby.pid

    def keep_standby(self) -> None:
        """Keep, from now on, a second process that has imported everything and takes the place of the first in no time."""
        self._keeps_standby = True
        if self.warm.is_set():
            self._stand_by(STANDBY_AFTER_S)

    async def start(self) -> None:
        """Start the process and wait until it has imported everything.

        Raises: ChildLost where it ends at once; TimeoutError.
        """
        async with self._lock:
            await self._start()

    async def satellite(self, language: str = "python", limits: Limits | None = None) -> Child:
        """Give a fresh satellite: the one that was forked ahead, while the next is forked behind it.

        limits: None for the worker's own.
        """
        key = (language, limits or self._limits)
        spare = self._spares.pop(key, None)
        ready = asyncio.create_task(self._fork_satellite(*key)) if spare is None else spare
        try:
            child = await asyncio.shield(ready)
        except asyncio.CancelledError:
            ready.add_done_callback(_end_unused)
            raise
        except ChildLost:
            if spare is None:
                raise
            child = await self._fork_satellite(*key)  # what was forked ahead went with a former zygote
        finally:
            self._fork_ahead(key)
        return await self._fork_satellite(*key) if child.is_over else child

    async def _fork_satellite(self, language: str, limits: Limits) -> Child:
        child = await self.fork("satellite", limits, language)
        zygote = self if self._networked is None or not limits.network else self._networked
        child.zygote = zygote.pid or 0
        child.files = child.scratch if self._sandbox.scratch is None else None
        leaf = None if self.cgroups is None else self.cgroups.leaf(f"satellite-{child.pid}", limits)
        if leaf is not None:
            child.leaf = leaf
            leaf.adopt(child.pid)
            loop = asyncio.get_running_loop()
            child.when_over(lambda: self._track(loop.run_in_executor(None, leaf.close)))
        return child

    def _fork_ahead(self, key: tuple[str, Limits]) -> None:
        """Fork the next satellite of a language with these limits, unless there is one, or it would not have all imported."""
        if self._stopping or key in self._spares or not self.warm.is_set():
            return
        spare = self._spares[key] = asyncio.create_task(self._fork_satellite(*key))
        spare.add_done_callback(_take_note)
        if key[1] != self._limits:
            asyncio.get_running_loop().call_later(SPARE_IDLE_S, self._give_up, key, spare)
            others = [other for other in self._spares if other[1] != self._limits]
            for other in others[:-MOST_SPARES]:
                self._give_up(other, self._spares[other])

    def _give_up(self, key: tuple[str, Limits], spare: asyncio.Task[Child]) -> None:
        if self._spares.get(key) is spare:
            del self._spares[key]
            spare.add_done_callback(_end_unused)
            spare.cancel()  # has no effect on one that is ready

    async def fork(self, role: Literal["satellite", "scorer", "inspector"], limits: Limits, language: str = "python") -> Child:
        """Fork a child that serves one end of a new socket pair; starts a zygote where there is none.

        language: of a satellite.

        Raises: ChildLost where the zygote ends.
        """
        if limits.network and not self._blueprint.network:
            if self._networked is None:
                self._networked = Zygote(
                    self._runtime, self._limits, self._blueprint.interpreter, self._sandbox, network=True
                )  # fmt: skip
            return await self._networked.fork(role, limits, language)
        await self._await_place()
        scratch = self._make_scratch(role)  # before anything else: the disk may be full
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            reader, writer = await _connect(ours)
            identity = str(next(self._numbers))
            largest = min(LARGEST_BODY, max(LEAST_BODY_MB, limits.output_mb) << 20)
            child = Child(scratch, reader, writer, lambda: self._tell({"tag": "kill", "id": identity}), largest)
            forked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._children[identity] = child
            self._forks[identity] = forked
            request = {"tag": "fork", "role": role, "id": identity, "limits": limits.as_json(), "scratch": scratch,
                       "language": language}  # fmt: skip
            if not self._tell(request, theirs.fileno()):
                self._end(identity, Exit(signal.SIGKILL))
                raise ChildLost("the zygote died")
        try:
            await asyncio.shield(forked)
        except asyncio.CancelledError:
            child.kill()
            raise
        except ChildLost:
            writer.close()
            raise
        return child

    async def _await_place(self) -> None:
        """Start a zygote where there is none; wait until it is warm, where it has children that came before that."""
        await self.start()
        while not self.warm.is_set() and self._cold_forks >= COLD_FORKS:
            await self._settled.wait()
            if self._stopping:
                raise ChildLost("the zygote was stopped")
            await self.start()
        self._cold_forks += 1

    def _make_scratch(self, role: str) -> str:
        """Make a scratch directory; where each process has a file system of its own, nothing is needed here."""
        if self._sandbox.scratch is not None:
            return self._sandbox.scratch
        scratch = tempfile.mkdtemp(prefix=f"{role}-", dir=self._runtime)
        self._sandbox.own(scratch)
        return scratch

    async def stop(self) -> None:
        """End the zygote and with it every child; returns when their scratch directories are gone."""
        self._stopping = True
        for task in (self._after_death, self._standing_by):
            if task is not None:
                task.cancel()
        if self._networked is not None:
            await self._networked.stop()
        for spare in self._spares.values():
            spare.cancel()
        children = list(self._children.values())
        if self._standby is not None:
            self._standby.kill()  # it has no children
        await asyncio.gather(*(process.stop() for process in (self._process, self._standby) if process is not None))
        for child in children:
            await child.close()
        while self._removals:
            await asyncio.wait(self._removals)

    async def _start(self) -> None:
        if self._process is not None and not self._process.is_over:
            return
        standby, self._standby = self._standby, None
        process = standby or await ZygoteProcess.launch(self._blueprint)
        self._process = process
        self._cold_forks = 0
        self._settled.clear()
        process.follow(self._hear, self._lost)
        await process.wait_ready()
        if process.warm:
            self._warmed()

    def _tell(self, message: dict[str, Any], *descriptors: int) -> bool:
        """Tell the zygote something; False where it cannot be told."""
        return self._process is not None and self._process.tell(message, *descriptors)

    def _hear(self, said: dict[str, Any], process: int) -> None:
        match said["tag"]:
            case "warm":
                self._warmed()
            case "forked":
                self._children[said["id"]].pid = process
                self._forks.pop(said["id"]).set_result(None)
            case "failed":
                self._forks[said["id"]].set_exception(ChildLost(said["message"]))
                self._end(said["id"], Exit(signal.SIGKILL))
            case "exited":
                self._end(said["id"], Exit(said["status"], said["peak_memory_mb"], said["cpu_seconds"]))

    def _warmed(self) -> None:
        for spare in self._spares.values():  # it was forked before all was there
            spare.add_done_callback(_end_unused)
        self._spares.clear()
        self.warm.set()
        self._settled.set()
        self._stand_by(STANDBY_AFTER_S)

    def _stand_by(self, after_s: float) -> None:
        """Start another process in a while, unless there is one, which is ready where this one dies."""
        if self._keeps_standby and not self._stopping and (self._standing_by is None or self._standing_by.done()):
            self._standing_by = asyncio.create_task(self._start_standby(after_s))

    async def _start_standby(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self._standby is not None:
            return
        try:
            standby = await ZygoteProcess.launch(self._blueprint)
        except OSError as error:
            log.warning("no zygote can stand by: %s", error)
            return
        self._standby = standby
        standby.follow(lambda said, process: None, lambda: self._standby_lost(standby))

    def _standby_lost(self, standby: ZygoteProcess) -> None:
        if self._standby is standby:
            self._standby = None
            if not self._stopping:
                log.warning("the zygote that stood by has died")
                self._stand_by(STANDBY_AFTER_S if standby.warm else STANDBY_AGAIN_S)

    def _end(self, identity: str, exit_: Exit) -> None:
        """Take note of a child's end; its scratch directory goes, in a thread where there is much in it."""
        self._forks.pop(identity, None)
        child = self._children.pop(identity, None)
        if child is None:
            return
        child.end(exit_)
        if child.scratch == self._sandbox.scratch:  # it went with its process
            return
        try:
            Path(child.scratch).rmdir()
        except OSError:
            self._track(asyncio.get_running_loop().run_in_executor(None, remove, child.scratch))

    def _track(self, removal: asyncio.Future[None]) -> None:
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def _lost(self) -> None:
        assert self._process is not None
        self.warm.clear()
        self._settled.set()
        if not self._stopping:
            log.error("the zygote has died; %s", "the one that stood by takes its place" if self._standby else RESTARTS)
        lost = ChildLost("the zygote died")
        served = self._process.is_ready
        forks, self._forks = self._forks, {}
        for fork in forks.values():
            fork.set_exception(lost)
            fork.exception()  # whoever waited may be gone
        for identity, child in list(self._children.items()):
            if child.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            self._end(identity, Exit(signal.SIGKILL, orphaned=True))
        if served and not self._stopping:
            self._after_death = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """End what scripts of a dead zygote have left, and start the next one before somebody waits for it."""
        await end_strays()
        with contextlib.suppress(ChildLost, TimeoutError, OSError):
            await self.start()


class _ClosedAtItsEnd(asyncio.StreamReaderProtocol):
    """Closes its descriptor when the peer has closed and everything is read from it, where asyncio's own keeps it."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # then the transport closes


async def _connect(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_BUFFER, loop=loop)
    protocol = _ClosedAtItsEnd(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _end_unused(ready: asyncio.Task[Child]) -> None:
    if not ready.cancelled() and ready.exception() is None:
        ready.result().kill()


def _take_note(ready: asyncio.Task[Child]) -> None:
    """Keep asyncio from reporting a failure that the next call will find for itself."""
    if not ready.cancelled():
        ready.exception()
