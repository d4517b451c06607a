"""Measuring: a plan's scoring app as a process of this machine, asked once for each of some requests, and what that took."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbml import errors
from dbml.serving.export.plan import Plan
from dbml.serving.runner.contract import Machine, Service
from dbml.serving.runner.log import Tail
from dbml.serving.runner.processes import Process, Processes
from dbml.temporary import SCRATCH, temporary_directory

START_S = 600.0  # in which the app must answer: its environment is built before
PAUSE_S = 0.05
LOOK_S = 0.25  # over which processors in use are counted
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """What requests took.

    seconds: of each, in their order; failures: the status (0: no answer) and the answer's text of those that were not
    answered by 200, by their place.  most_cpu: processors in use, at most; cpu_seconds: of all requests; memory_bytes: the
    largest resident size of the process, its model and packages included.
    """

    seconds: list[float] = field(default_factory=list)
    failures: dict[int, tuple[int, str]] = field(default_factory=dict)
    elapsed_s: float = 0.0
    cpu_seconds: float = 0.0
    most_cpu: float = 0.0
    memory_bytes: int = 0


def measure(
    plan: Plan, bodies: Sequence[str | bytes], config: Mapping[str, Any], *, machine: Machine, say: Callable[[str], None]
) -> Measured:
    """Serve a plan from this thread, ask it with one body after the other, and return what that took.

    config: of a service: cpu_cores, memory_gb, environment_variables, ….  say: is told what the app prints, in the end.
    Raises: ServiceError where it does not come up, or ends meanwhile; EnvironmentBuildFailed.
    """
    tail = Tail()
    with temporary_directory(SCRATCH) as scratch:
        scratch.chmod(0o711)
        target = Processes(Service("", "", plan.name, "", scratch, tail, tail.add), machine)
        target.listen("127.0.0.1", 0, None)
        try:
            process = target.start(target.prepare(plan, 1, config, keyed=False))
            try:
                _wait(process, plan.name)
                assert target.probed is not None
                return _ask(target.probed, process, bodies)
            finally:
                process.kill()
                while process.ended() is None:
                    time.sleep(PAUSE_S)
                process.close()
        finally:
            target.close(deleted=True)
            say(tail.text())


def _wait(process: Process, name: str) -> None:
    until = time.monotonic() + START_S
    while not process.is_ready:
        ended = process.ended()
        if ended is not None or time.monotonic() > until:
            raise errors.ServiceError(f"the scoring app of {name!r} does not come up: {ended or f'not within {START_S:g} s'}")
        time.sleep(PAUSE_S)


def _ask(address: tuple[str, int], process: Process, bodies: Sequence[str | bytes]) -> Measured:
    found = Measured()
    connection = http.client.HTTPConnection(*address, timeout=300)
    with _Processors(process.pid) as processors:
        began, used = time.perf_counter(), _cpu_seconds(process.pid)
        for number, body in enumerate(bodies):
            status, text, seconds = _send(connection, body.encode() if isinstance(body, str) else body)
            found.seconds.append(seconds)
            if status != 200:
                found.failures[number] = status, text
                if status == 0 and (ended := process.ended()) is not None:
                    raise errors.ServiceError(f"the scoring app has ended at request {number + 1}: {ended}")
        found.elapsed_s = time.perf_counter() - began
        found.cpu_seconds = _cpu_seconds(process.pid) - used
    connection.close()
    found.most_cpu = max([found.cpu_seconds / max(found.elapsed_s, 1e-9), *processors.seen])
    found.memory_bytes = _peak_bytes(process.pid)
    return found


def _send(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, str, float]:
    began = time.perf_counter()
    try:
        connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, text[:1000].decode(errors="replace") if answer.status != 200 else "", time.perf_counter() - began
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens it again
        return 0, f"{type(error).__name__}: {error}", time.perf_counter() - began


class _Processors:
    """Counts in a thread how many processors a process has in use, several times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.seen: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Processors:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        at, used = time.perf_counter(), _cpu_seconds(self._pid)
        while not self._stop.wait(LOOK_S):
            now, more = time.perf_counter(), _cpu_seconds(self._pid)
            self.seen.append((more - used) / (now - at))
            at, used = now, more


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, of its children that ended too; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK  # utime, stime, cutime, cstime: proc(5)


def _peak_bytes(pid: int) -> int:
    """Return the largest resident size that a process has had; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
