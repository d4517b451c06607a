"""Usage: what running processes take, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Memory in MB and processor time in seconds; None where unknown."""

    memory_mb: float | None
    cpu_seconds: float | None


def own_memory_mb() -> float:
    """Return what this process has resident now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE / (1 << 20)


def usage_of(groups: Collection[int]) -> Usage:
    """Return what the process groups of these leaders take now: resident memory, and time since their start.

    Source: proc(5), /proc/PID/stat.
    """
    pages = ticks = 0
    for entry in os.scandir("/proc") if groups else ():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields and int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return Usage(pages * PAGE / (1 << 20), ticks / TICKS) if groups else Usage(None, None)


MOST_PROCESSES = 5000  # that are looked at; more are over any limit
_FORKED = 0x40  # PF_FORKNOEXEC: a process that was forked, and has not executed a program since
_PROPORTIONAL = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
_PRIVATE = "Private_Dirty:"


@dataclass(frozen=True)
class TreeUsage:
    """What a process and its descendants take: tasks are processes and threads, cpu_seconds those of the ended too.

    memory_mb: written by them; what several share is counted for each.
    """

    processes: int
    tasks: int
    memory_mb: float
    cpu_seconds: float


def tree(root: int) -> list[int]:
    """Return a process and its descendants, as many as there are at this moment, MOST_PROCESSES at most.

    None leaves its tree: the sandbox sees to it (`dbml.kernel.seccomp`).

    Source: proc(5), /proc/PID/task/TID/children.
    """
    found = [root]
    for each in found:
        if len(found) > MOST_PROCESSES:
            break
        with contextlib.suppress(OSError):  # it has just ended
            for thread in os.scandir(f"/proc/{each}/task"):
                found += map(int, Path(thread.path, "children").read_text("ascii").split())
    return found


def usage_of_tree(root: int) -> TreeUsage:
    """Return what a process and its descendants take now; memory counts shared pages for each of them."""
    pids = tree(root)
    tasks = pages = ticks = 0
    for each in pids:
        if fields := _stat(each):
            ticks += sum(map(int, fields[11:15]))
            tasks += int(fields[17])
        pages += written_kb(each)
    return TreeUsage(len(pids), tasks, pages / 1024, ticks / TICKS)


def written_kb(pid: int) -> int:
    """Return the memory that a process has written, or shares with whoever wrote it, in KB; 0 when it has ended."""
    return sum(_sizes(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:", "VmSwap:")).values())


def own_kb(root: int, zygote: int) -> int:
    """Return the memory that a process and its descendants have written, in KB, beyond what it was forked with.

    Pages that several of them share count once, but for those that they share with the zygote, which do not count: each
    such page counts for the zygote as much as for any of them.  Copies that descendants made of them do.  Where the kernel
    does not let us tell who shares a page (a concealed process, and we are not root; another's, and we are root in a
    container), it counts for each that has it, less what a fork of the zygote began with.
    Source: Linux Documentation/filesystems/proc.rst, smaps_rollup.
    """
    inherited = written_kb(zygote)
    with_zygote = sum(_sizes(f"/proc/{zygote}/smaps_rollup", _PROPORTIONAL).values())
    pids = tree(root)
    forks = _forks(pids)
    total = 0
    for each in pids:
        new = written_kb(each) - (inherited if each in forks else 0)
        sizes = _sizes(f"/proc/{each}/smaps_rollup", (*_PROPORTIONAL, _PRIVATE))
        if not sizes:
            total += max(0, new)
            continue
        private = sizes[_PRIVATE]
        shared = sum(sizes[name] for name in _PROPORTIONAL) - private
        total += (max(0, min(private, new)) if each == root else private) + max(0, shared - with_zygote)
    return total


def _forks(pids: Sequence[int]) -> set[int]:
    """Return those of a tree that have the memory which its root was forked with: none that it comes from ran a program.

    An orphan is taken for a child of the process that has adopted it.
    Source: proc(5), /proc/PID/stat; Linux include/linux/sched.h, PF_FORKNOEXEC.
    """
    found: set[int] = set()
    for each in pids:  # parents come before their children
        fields = _stat(each)
        if fields and int(fields[6]) & _FORKED and (each == pids[0] or int(fields[1]) in found):
            found.add(each)
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, the state; none where the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()
    except OSError:
        return []


def _sizes(path: str, names: Collection[str]) -> dict[str, int]:
    """Return sizes in KB by name; nothing where the process has ended or is concealed."""
    try:
        lines = Path(path).read_text("ascii", "replace").splitlines()
    except OSError:
        return {}
    found = dict.fromkeys(names, 0) if lines else {}
    for line in lines:
        name, *rest = line.split()
        if name in found:
            found[name] = int(rest[0])
    return found


def directory_bytes(directory: str, most: int) -> int:
    """Return what the files of a directory take on disk, links not followed; stops counting beyond most."""
    total = 0
    below = [directory]
    while below and total <= most:
        try:
            entries = os.scandir(below.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                except OSError:
                    continue
                if total > most:
                    break
    return total


def is_full(directory: str) -> bool:
    """Tell whether the file system of a directory has no room left; one that cannot be looked at has."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_blocks > 0 and (found.f_bavail == 0 or (found.f_files > 0 and found.f_ffree == 0))
