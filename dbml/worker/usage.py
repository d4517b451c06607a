"""Usage: what running processes take, as the kernel counts it."""

from __future__ import annotations

import os
from collections.abc import Collection
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
        try:
            fields = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(") ")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return Usage(pages * PAGE / (1 << 20), ticks / TICKS) if groups else Usage(None, None)
