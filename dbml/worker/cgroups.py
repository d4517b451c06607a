"""Control groups, version 2: a group a script's process, where the worker's own group was given to it to divide.

The kernel then holds memory and processes against a script with everything that it starts.  Where there is no such group
(a system of version 1, a container that may not write there, a worker that is no service of its own) `find` says so, and
the limits hold by rlimit and by `dbml.worker.watch`.

    the worker's group      given to it: systemd's Delegate=yes
    ├── worker              router, zygotes, scorers: a group that is divided holds no processes itself
    └── satellite-…         one each, gone when it has ended

Source: Linux Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from dbml.worker.sandbox.limits import RESERVE_BYTES, Limits
from dbml.worker.usage import tree

log = logging.getLogger("dbml.cgroups")

WANTED = ("memory", "pids")
REMOVAL_S = 0.5  # that the kernel may take to bury what was killed
ROUNDS = 10


class Leaf:
    """The group of one satellite."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._oom_kills = 0

    def adopt(self, pid: int) -> None:
        """Move a process, and what it has started meanwhile, into the group; what has ended already is left out."""
        moved: set[int] = set()
        for _ in range(ROUNDS):  # a process that is moved may be forking
            found = set(tree(pid)) - moved
            if not found:
                return
            for each in found:
                moved.add(each)
                with contextlib.suppress(ProcessLookupError):
                    (self.directory / "cgroup.procs").write_text(str(each), "ascii")

    def pids(self) -> list[int]:
        """Return the processes in the group."""
        try:
            return [int(line) for line in (self.directory / "cgroup.procs").read_text("ascii").split()]
        except OSError:
            return []

    @property
    def oom_kills(self) -> int:
        """Return how many processes were killed because the group's memory was used up; after its end too."""
        with contextlib.suppress(OSError):
            self._oom_kills = _counts(self.directory / "memory.events").get("oom_kill", 0)
        return self._oom_kills

    def kill(self) -> None:
        """Kill every process in the group, also those that fork at this moment."""
        try:
            (self.directory / "cgroup.kill").write_text("1", "ascii")
        except FileNotFoundError:  # Linux before 5.14
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        except OSError:
            return

    def close(self) -> None:
        """Kill what is left, and remove the group."""
        _ = self.oom_kills
        deadline = time.monotonic() + REMOVAL_S
        while self.directory.is_dir():
            self.kill()
            try:
                self.directory.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    log.warning("the control group %s is left over: %s", self.directory, error)
                    return
                time.sleep(0.005)


class Cgroups:
    """A group that is the worker's to divide.

    controllers: those that its parts may use, of `WANTED`.
    """

    def __init__(self, directory: Path, controllers: frozenset[str] = frozenset(WANTED)) -> None:
        self.directory = directory
        self.controllers = controllers

    def leaf(self, name: str, limits: Limits) -> Leaf | None:
        """Make a group with limits; None where the kernel refuses it."""
        leaf = Leaf(self.directory / name)
        try:
            leaf.directory.mkdir()
            for file, value in settings(limits, self.controllers).items():
                (leaf.directory / file).write_text(value, "ascii")
        except OSError as error:
            log.warning("no control group for a script: %s", error)
            leaf.close()
            return None
        return leaf

    def close(self) -> None:
        """Undo what `find` did, as far as nothing is in the way."""
        worker = self.directory / "worker"
        for left in self.directory.glob("satellite-*"):
            Leaf(left).close()
        with contextlib.suppress(OSError):
            (self.directory / "cgroup.subtree_control").write_text(
                " ".join(f"-{name}" for name in sorted(self.controllers)), "ascii"
            )
            for pid in Leaf(worker).pids():
                (self.directory / "cgroup.procs").write_text(str(pid), "ascii")
            worker.rmdir()


def settings(limits: Limits, controllers: frozenset[str]) -> dict[str, str]:
    """Return what is written into which file of a group.

    Memory: what the pages cost that are written from the fork on, and a reserve, so that a single process meets its own
    limit first, which it can speak of.  pids counts threads too.
    """
    found: dict[str, str] = {}
    if "memory" in controllers and limits.memory_mb is not None:
        found["memory.max"] = str((limits.memory_mb << 20) + RESERVE_BYTES)
        found["memory.swap.max"] = "0"
        found["memory.oom.group"] = "1"
    if "pids" in controllers and limits.processes is not None:
        found["pids.max"] = str(limits.processes + 1 + limits.threads)
    return found


def own_path(cgroup: str, mountinfo: str) -> Path | None:
    """Return the directory of this process' group of version 2, None where that hierarchy is not mounted.

    cgroup: /proc/self/cgroup; mountinfo: /proc/self/mountinfo, whose fourth field is the part that is mounted.
    """
    own = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::")), None)
    if own is None:
        return None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if not after.startswith("cgroup2 "):
            continue
        root, point = (field.replace("\\040", " ") for field in before.split()[3:5])
        inside = own if root == "/" else own.removeprefix(root) if f"{own}/".startswith(f"{root}/") else None
        if inside is not None:
            return Path(point, inside.strip("/"))
    return None


def find(wanted: frozenset[str] = frozenset(WANTED)) -> Cgroups | None:
    """Return the worker's own group, made ready to be divided; None where it has none, or none with control of memory.

    Moves this process, which must be alone in its group, into a part of it.
    """
    try:
        directory = own_path(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if directory is None:
            return None
        there = frozenset((directory / "cgroup.controllers").read_text("ascii").split()) & wanted
        if "memory" not in there:
            return None
        return divide(directory, there)
    except OSError as error:
        log.debug("no control groups: %s", error)
        return None


def divide(directory: Path, controllers: frozenset[str]) -> Cgroups | None:
    """Make a group ready to be divided; None where it is not this process' alone.

    Raises: OSError where it may not.
    """
    if not (directory / "cgroup.events").exists():
        return None  # the root of the hierarchy, which belongs to the machine
    if Leaf(directory).pids() != [os.getpid()]:
        return None  # a login's group, or that of a supervisor
    worker = directory / "worker"
    worker.mkdir(exist_ok=True)
    (worker / "cgroup.procs").write_text(str(os.getpid()), "ascii")
    try:
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(controllers)), "ascii")
    except OSError:
        (directory / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        worker.rmdir()
        raise
    made = Cgroups(directory, controllers)
    for left in directory.glob("satellite-*"):  # of a worker that was killed
        Leaf(left).close()
    return made


def _counts(file: Path) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split() for line in file.read_text("ascii").splitlines())}
