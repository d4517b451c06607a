# ruff: noqa: E501 - scripts, as an attacker would write them
"""Attacks on the worker's secrets: its environment, memory, descriptors, and what the script's own process inherited."""

from __future__ import annotations

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import CALLS, attack, harmless_attack, said, told


@harmless_attack
def environment_of_other_processes(arena: Arena) -> str | None:
    """Read /proc/PID/environ of every process, the worker's first."""
    return told(arena, """
for pid in [worker_pid, os.getppid(), *[int(p) for p in range(1, 70000)]]:
    try:
        print(open(f'/proc/{pid}/environ', 'rb').read())
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def memory_of_the_worker(arena: Arena) -> str | None:
    """Read the worker's memory through /proc/PID/mem."""
    return told(arena, """
for pid in (worker_pid, os.getppid(), 1):
    try:
        for line in open(f'/proc/{pid}/maps'):
            start, end = (int(x, 16) for x in line.split()[0].split('-'))
            if 'rw' not in line:
                continue
            with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
                memory.seek(start)
                data = memory.read(min(end - start, 1 << 26))
                at = data.find(b'DBML_CANARY=')
                if at >= 0:
                    print(data[at : at + 60])
    except OSError as error:
        print(error)
""")  # fmt: skip


@attack
def memory_by_process_vm_readv(arena: Arena) -> str | None:
    """Read another process' memory by process_vm_readv(2)."""
    return said(arena, """
buffer = ctypes.create_string_buffer(64)
class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
local, remote = Vec(ctypes.addressof(buffer), 64), Vec(id(buffer), 64)
for pid in [worker_pid, os.getppid(), *range(1, 2000)]:
    if pid != os.getpid() and call(310 if X86 else 270, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0:
        print('GOT memory of', pid)
""")  # fmt: skip


@attack
def tracing_of_others(arena: Arena) -> str | None:
    """Attach to the worker, the zygote and any other process by ptrace(2)."""
    return said(arena, """
for pid in [worker_pid, os.getppid(), *range(1, 2000)]:
    if pid != os.getpid():
        for request in (16, 0x4206):
            if call(101 if X86 else 117, request, pid, 0, 0) == 0:
                print('GOT hold of', pid)
""")  # fmt: skip


@harmless_attack
def command_lines(arena: Arena) -> str | None:
    """See other processes of the machine at all, their command lines and executables."""
    return said(arena, """
own = {int(number) for number in os.listdir(f'/proc/{os.getpid()}/task')}
for pid in [worker_pid, os.getppid(), *range(1, 70000)]:
    try:
        line = open(f'/proc/{pid}/cmdline', 'rb').read()
    except OSError:
        continue
    if pid not in own and b'sleep' not in line and line:
        print('GOT command line', pid, line[:80])
""")  # fmt: skip


@harmless_attack
def descriptors_of_others(arena: Arena) -> str | None:
    """Open or fetch the descriptors of another process, by /proc/PID/fd and by pidfd_getfd(2)."""
    return said(arena, """
for pid in [worker_pid, os.getppid(), 1]:
    try:
        for name in os.listdir(f'/proc/{pid}/fd'):
            print('GOT descriptor', os.readlink(f'/proc/{pid}/fd/{name}'), 'of', pid)
    except OSError:
        pass
    try:
        other = os.pidfd_open(pid)
    except OSError:
        continue
    for number in range(12):
        if call(438, other, number, 0) >= 0:
            print('GOT descriptor', number, 'of', pid)
""")  # fmt: skip


@attack
def inherited_descriptors(arena: Arena) -> str | None:
    """Find anything open that was not opened by the script, but its own socket."""
    return said(arena, """
import stat
for number in range(4, 4096):
    try:
        found = os.fstat(number)
    except OSError:
        continue
    if stat.S_ISSOCK(found.st_mode):
        print('GOT a socket', number)
""")  # fmt: skip


@attack
def own_environment(arena: Arena) -> str | None:
    """Find what the worker was started with in the script's own environment and memory."""
    return told(arena, """
print(dict(os.environ), open('/proc/self/environ', 'rb').read() if os.access('/proc/self/environ', os.R_OK) else '')
for line in open('/proc/self/maps'):
    start, end = (int(x, 16) for x in line.split()[0].split('-'))
    if 'r' in line.split()[1] and '[v' not in line:
        data = ctypes.string_at(start, min(end - start, 1 << 22))
        at = data.find(b'DBML_CANARY=')
        if at >= 0:
            print(data[at : at + 60])
""")  # fmt: skip


@attack
def bytes_on_the_own_socket(arena: Arena) -> str | None:
    """Speak to the router directly, in frames that no satellite would send, and ask it for others' models and runs."""
    seen = arena.run(CALLS + """
import json, struct, time
def frame(head, body=b''):
    text = json.dumps(head).encode()
    return struct.pack('>II', len(text), len(body)) + text + body
for head in ({'tag': 'fork', 'id': '9', 'role': 'satellite'}, {'tag': 'kill', 'id': '1'}, {'tag': 'open'}, {'tag': 'load', 'name': '../../x'},
             {'tag': 'done'}, {'tag': 'frame', 'n': 10**12}, {'tag': 'metric'}, [], 7, {'tag': None}):
    try:
        os.write(3, frame(head) if isinstance(head, dict) else b'\\xff' * 64)
    except OSError:
        break
time.sleep(0.5)
""")  # fmt: skip
    return f"learned the canary: {seen}" if arena.canary in seen else None
