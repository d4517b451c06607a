"""Bombs and floods: forks, memory, descriptors, files, output, loops that do not end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import attack


@attack
def fork_bomb(arena: Arena) -> str | None:
    """Fork as often as the kernel allows."""
    arena.run("""
import os, time
made = 0
try:
    while made < 3000:
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
        made += 1
except OSError:
    pass
raise SystemExit(f'{made} made')
""", timeout_s=20)  # fmt: skip
    return _left(arena)


@attack
def fork_bomb_that_multiplies(arena: Arena) -> str | None:
    """Fork in every process that was forked, until the time is over."""
    arena.run("""
import os, time
ends = time.time() + 3
while time.time() < ends:
    try:
        os.fork()
    except OSError:
        pass
time.sleep(30)
""", timeout_s=5)  # fmt: skip
    return _left(arena)


def _left(arena: Arena) -> str | None:
    deadline = time.monotonic() + 5
    while (left := len(arena.processes())) > 60 and time.monotonic() < deadline:
        time.sleep(0.1)
    return f"{left} processes are left" if left > 60 else None


@attack
def memory_bomb(arena: Arena) -> str | None:
    """Take all the memory in one process."""
    seen = arena.run("held = []\nwhile True: held.append(bytearray(1 << 26))", timeout_s=30)
    return None if "memory_mb" in seen else f"no limit was named: {seen[:100]}"


@attack
def descriptor_bomb(arena: Arena) -> str | None:
    """Open files and pipes without end."""
    seen = arena.run("import os\nwhile True: os.pipe()")
    return None if "open_files" in seen else f"no limit was named: {seen[:100]}"


@attack
def file_bomb(arena: Arena) -> str | None:
    """Fill the disk with one large file."""
    seen = arena.run("with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 24))", timeout_s=60)
    return None if "scratch_mb" in seen else f"no limit was named: {seen[:100]}"


@attack
def many_files_bomb(arena: Arena) -> str | None:
    """Fill the disk with many files."""
    seen = arena.run("""
for i in range(10**7):
    with open(f'{i}', 'wb') as f:
        f.write(bytes(1 << 20))
""", timeout_s=60)  # fmt: skip
    return None if "scratch_mb" in seen or "ML006" in seen else f"no limit was named: {seen[:100]}"


@attack
def output_flood(arena: Arena) -> str | None:
    """Print a gigabyte."""
    before = _memory(arena)
    arena.run("line = 'x' * 1000\nfor _ in range(10**6): print(line)", timeout_s=30)
    return _grown(arena, before)


@attack
def result_flood(arena: Arena) -> str | None:
    """Return more than a result may have."""
    seen = arena.run("OutputDataSet = {'x': ['y' * (1 << 20)] * 3000}", timeout_s=60)
    return None if "output_mb" in seen or "memory_mb" in seen or "ML006" in seen else f"no limit was named: {seen[:100]}"


@attack
def metric_flood(arena: Arena) -> str | None:
    """Log values without end."""
    before = _memory(arena)
    arena.run("for i in range(10**7): run.log(f'm{i}', i)", timeout_s=8)
    return _grown(arena, before)


@attack
def endless_loop_in_c(arena: Arena) -> str | None:
    """Loop where Python cannot be interrupted, signals blocked."""
    began = time.monotonic()
    seen = arena.run("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nsum(iter(int, 1))", timeout_s=2)
    took = time.monotonic() - began
    return None if took < 8 and "ML006" in seen else f"ended after {took:.0f} s: {seen[:80]}"


@attack
def ignored_signals(arena: Arena) -> str | None:
    """Ignore every signal that can be ignored, and go on."""
    began = time.monotonic()
    arena.run("""
import signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: time.sleep(0.1)
""", timeout_s=2)  # fmt: skip
    took = time.monotonic() - began
    return None if took < 8 else f"ended after {took:.0f} s"


def _memory(arena: Arena) -> float:
    fields = Path(f"/proc/{arena.worker.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _grown(arena: Arena, before: float) -> str | None:
    grown = _memory(arena) - before
    return None if grown < 300 else f"the worker grew by {grown:.0f} MB"
