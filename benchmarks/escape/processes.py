# ruff: noqa: E501 - scripts, as an attacker would write them
"""Attacks on other processes and on what runs later: signals, priorities, daemons, messages, poison."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import CALLS, attack, said


@attack
def signals_to_others(arena: Arena) -> str | None:
    """Kill and stop the worker, the zygote, and every process that may be signalled, by every call that can."""
    before, worker = set(arena.processes()), arena.worker.pid
    with arena.neighbour():
        arena.run(CALLS + """
import signal
own = os.getpid()
for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    for pid in [worker_pid, os.getppid(), 1, *range(2, 40), *range(worker_pid - 50, worker_pid + 200)]:
        if pid == own:
            continue
        try:
            os.kill(pid, number)
        except OSError:
            pass
        call(234 if X86 else 131, pid, pid, number)
        call(200 if X86 else 130, pid, number)
    for pid in (worker_pid, os.getppid(), 1):
        try:
            call(424, os.pidfd_open(pid), number, 0, 0)
        except OSError:
            pass
""", timeout_s=20)  # fmt: skip
        with arena.connect() as connection:
            running = connection.execute("select count(*) from dbml.active_scripts").fetchone()
        if not running or running[0] < 1:
            return "another script was stopped"
    after = set(arena.processes())
    if arena.worker.pid != worker or arena.worker.poll() is not None:
        return "killed the worker"
    zygotes = [pid for pid in before if "zygote" in _command(pid) and pid in after]
    return None if zygotes else "killed the zygote"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""


@attack
def every_process_at_once(arena: Arena) -> str | None:
    """kill(-1): all that may be signalled."""
    worker = arena.worker.pid
    arena.run("import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(-1, signal.SIGTERM)")
    return None if arena.worker.pid == worker and arena.worker.poll() is None else "killed the worker"


@attack
def limits_and_priorities_of_others(arena: Arena) -> str | None:
    """Lower the limits, the priority and the processors of the worker."""
    pid = arena.worker.pid
    assert pid is not None
    before = (Path(f"/proc/{pid}/limits").read_text(), os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid))
    arena.run(CALLS + """
import resource
for pid in (worker_pid, os.getppid()):
    attempt(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)))
    attempt(lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)))
    attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt(lambda: os.sched_setaffinity(pid, {0}))
attempt(lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
""")  # fmt: skip
    after = (Path(f"/proc/{pid}/limits").read_text(), os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid))
    return None if before == after else "changed the worker's limits"


@attack
def outliving_the_call(arena: Arena) -> str | None:
    """Leave a daemon behind: double fork, sessions of its own, no socket, its signals ignored."""
    arena.run("""
import os, signal, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.closerange(0, 100)
            os.execv('/bin/sleep', ['sleep', '7431'])
        os._exit(0)
time.sleep(0.3)
""")  # fmt: skip
    end = time.monotonic() + 5  # a zygote that is still importing comes to it when it has imported one more module
    while left := [pid for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()) if "7431" in _command(pid)]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return f"left {len(left)} processes"
        time.sleep(0.05)
    return None


@attack
def leaving_the_family(arena: Arena) -> str | None:
    """Have processes that are not counted as the script's: sisters by clone, orphans that another adopts."""
    return said(arena, """
import time
own = os.getpid()
call(157 if X86 else 167, 36, 0, 0, 0, 0)  # no orphans for me
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os.write(write, f'an orphan goes to {os.getppid()}'.encode())
    os._exit(0)
os.waitpid(pid, 0)
heard = os.read(read, 100).decode()
if heard != f'an orphan goes to {own}':
    print('GOT', heard)
for name, number, arguments in (('clone', 56 if X86 else 220, (0x8000 | 17, 0, 0, 0, 0)),
                                ('clone3', 435, ((ctypes.c_uint64 * 11)(0x8000, 0, 0, 0, 17), 88))):
    pid = call(number, *arguments)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        print('GOT a sister by', name)
""")  # fmt: skip


@attack
def shared_memory_left_behind(arena: Arena) -> str | None:
    """Leave a message for the next script in shared memory, semaphores, message queues and temporary files."""
    arena.run(CALLS + """
from multiprocessing import shared_memory
attempt(lambda: open('/dev/shm/left', 'w').write('x'))
attempt(lambda: shared_memory.SharedMemory('left2', True, 100))
print(call(29 if X86 else 194, 4711, 4096, 0o1666))
attempt(lambda: open('/tmp/left', 'w').write('x'))
""")  # fmt: skip
    return said(arena, """
for path in ('/dev/shm/left', '/dev/shm/left2', '/tmp/left', '/scratch/left', 'left'):
    if os.path.exists(path):
        print('GOT', path)
if call(29 if X86 else 194, 4711, 4096, 0) >= 0:
    print('GOT shared memory')
""")  # fmt: skip


@attack
def poisoning_the_next_script(arena: Arena) -> str | None:
    """Change what the next script runs with: modules, built-in functions, start-up files, compiled files."""
    arena.run("""
import builtins, json, sys, os
import numpy, pandas, sklearn.linear_model
builtins.len = lambda x: 'poisoned'
numpy.mean = pandas.DataFrame.mean = lambda *a, **k: 'poisoned'
sklearn.linear_model.LinearRegression.fit = None
sys.path.insert(0, os.getcwd())
for name in ('sitecustomize.py', 'usercustomize.py', '.pythonrc.py', 'numpy.py', 'matplotlibrc'):
    open(name, 'w').write("import builtins; builtins.len = lambda x: 'poisoned'")
for module in (numpy, pandas):
    try:
        open(module.__cached__, 'wb').write(b'poisoned')
    except OSError:
        pass
""")  # fmt: skip
    return said(arena, """
import numpy, pandas, sklearn.linear_model
if 'poisoned' in (len([]), numpy.mean([1]), pandas.DataFrame({'x': [1]}).mean()) or sklearn.linear_model.LinearRegression.fit is None:
    print('GOT a poisoned module')
""")  # fmt: skip
