"""What was called, killed and answered, as tables."""

from __future__ import annotations

import os
import platform

from rich.console import Console
from rich.table import Table

import dbml
from benchmarks.faults.callers import CALLERS, Tally
from benchmarks.faults.world import World


def summary(times: list[float]) -> tuple[str, str, str]:
    """Return how many there are, their median and the longest."""
    ordered = sorted(times)
    return ("0", "", "") if not times else (str(len(times)), f"{ordered[len(times) // 2]:.2f} s", f"{ordered[-1]:.2f} s")


def show(
    tally: Tally, recoveries: dict[str, list[float]], doubled: dict[str, list[float]], seconds: float, world: World, seed: int
) -> None:  # fmt: skip
    """Print the tables."""
    console = Console(width=120)
    title = (
        f"{seconds:.0f} s of faults, seed {seed}\ndbml {dbml.__version__}, PostgreSQL {world.cluster.binaries.version},"
        f" Python {platform.python_version()}, {os.cpu_count()} processors"
    )
    calls = Table(title=title)
    for name in ("calls", "all", "answered rightly", "failed, by SQLSTATE"):
        calls.add_column(name)
    for kind in CALLERS:
        states = ", ".join(f"{state} {number}" for state, number in sorted(tally.failed[kind].items()))
        calls.add_row(kind, str(tally.calls[kind]), str(tally.right[kind]), states)
    console.print(calls)
    killed = Table()
    for name in ("killed", "times", "median recovery", "longest", "upon another fault", "median recovery", "longest"):
        killed.add_column(name)
    for name in sorted({*recoveries, *doubled}):
        killed.add_row(name, *summary(recoveries[name]), *summary(doubled[name]))
    console.print(killed)
    for state, message in sorted(tally.examples.items()):
        console.print(f"{state}: {message}", markup=False)
