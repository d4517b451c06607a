# ruff: noqa: E501 - scripts, as an attacker would write them
"""The attacks, each a script and what tells that it got through.

An attack is a function of the arena that returns what it got, None where it was contained.  What all have in common is
told by `judge`: the canary in anything that its author sees, a witness that heard, an honest call that is not answered.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.escape.arena import Arena

CALLS = """
import ctypes, os, errno, platform
_c = ctypes.CDLL(None, use_errno=True)
_c.syscall.restype = ctypes.c_long
X86 = platform.machine() == 'x86_64'
def call(number, *a):
    if number is None:
        return -1
    return _c.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in a])
found = []
def attempt(work):
    try:
        got = work()
        if got:
            found.append(str(got))
    except BaseException as error:
        found.append('refused: ' + type(error).__name__)
"""


@dataclass(frozen=True)
class Attack:
    """One attack; description is its docstring.

    harmless: only reads or connects, so that it may be tried without a sandbox, where it must get through.
    """

    name: str
    description: str
    work: Callable[[Arena], str | None]
    harmless: bool = False


ATTACKS: list[Attack] = []


def attack(work: Callable[[Arena], str | None], *, harmless: bool = False) -> Callable[[Arena], str | None]:
    """Add a function to the list."""
    ATTACKS.append(Attack(work.__name__.replace("_", " "), (work.__doc__ or "").strip(), work, harmless))
    return work


harmless_attack = partial(attack, harmless=True)


def judge(arena: Arena, found: Attack) -> str | None:
    """Carry an attack out; returns what it got, None where it was contained and nobody else noticed."""
    arena.heard.clear()
    try:
        got = found.work(arena)
    except psycopg.Error as error:
        got = f"the server: {error}"
    if got is None and arena.heard:
        got = f"reached a socket: {', '.join(sorted(set(arena.heard)))}"
    if got is None and not arena.works():
        got = "an honest call is not answered afterwards"
    if got is None and (arena.folder / "canary.txt").read_text() != arena.canary:
        got = "a file outside was changed"
        (arena.folder / "canary.txt").write_text(arena.canary)
    return got


def _told(arena: Arena, script: str, *, language: str = "python", timeout_s: float = 10) -> str | None:
    seen = arena.run((CALLS if language == "python" else "") + script, language=language, timeout_s=timeout_s)
    return f"learned the canary: {seen[:200]}" if arena.canary in seen else None


def _said(arena: Arena, script: str, *, timeout_s: float = 10) -> str | None:
    """Run a script that prints GOT where it got something."""
    seen = arena.run(CALLS + script, timeout_s=timeout_s)
    lines = [line for line in seen.splitlines() if line.startswith("GOT")]
    return lines[0] if lines else None


# ---------------------------------------------------------------- the worker's secrets


@harmless_attack
def environment_of_other_processes(arena: Arena) -> str | None:
    """Read /proc/PID/environ of every process, the worker's first."""
    return _told(arena, """
for pid in [worker_pid, os.getppid(), *[int(p) for p in range(1, 70000)]]:
    try:
        print(open(f'/proc/{pid}/environ', 'rb').read())
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def memory_of_the_worker(arena: Arena) -> str | None:
    """Read the worker's memory through /proc/PID/mem."""
    return _told(arena, """
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
    return _said(arena, """
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
    return _said(arena, """
for pid in [worker_pid, os.getppid(), *range(1, 2000)]:
    if pid != os.getpid():
        for request in (16, 0x4206):
            if call(101 if X86 else 117, request, pid, 0, 0) == 0:
                print('GOT hold of', pid)
""")  # fmt: skip


@harmless_attack
def command_lines(arena: Arena) -> str | None:
    """See other processes of the machine at all, their command lines and executables."""
    return _said(arena, """
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
    return _said(arena, """
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
    return _said(arena, """
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
    return _told(arena, """
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


# ---------------------------------------------------------------- files


@attack
def shadow_passwords(arena: Arena) -> str | None:
    """Read /etc/shadow and /etc/gshadow, directly and through /proc/1/root."""
    return _said(arena, """
for path in ('/etc/shadow', '/etc/gshadow', '/proc/1/root/etc/shadow', f'/proc/{worker_pid}/root/etc/shadow', '/proc/self/root/../etc/shadow'):
    try:
        print('GOT', open(path).read()[:20])
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def data_directory(arena: Arena) -> str | None:
    """List and read the server's data directory."""
    return _said(arena, """
for folder, names, files in os.walk(data_directory):
    print('GOT', folder, names, files)
    break
for name in ('PG_VERSION', 'pg_hba.conf', 'data/PG_VERSION', 'postmaster.pid'):
    try:
        print('GOT', open(os.path.join(data_directory, name)).read()[:20])
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def a_file_that_everybody_may_read(arena: Arena) -> str | None:
    """Read a file outside that the whole machine may read, by every way to name it."""
    return _told(arena, """
for path in (canary_file, '/proc/1/root' + canary_file, f'/proc/{worker_pid}/root' + canary_file, '/proc/self/cwd/../../../..' + canary_file,
             '/../../../../../..' + canary_file, f'/proc/{worker_pid}/cwd/' + canary_file):
    attempt(lambda: open(path).read())
print(found, os.system('cat ' + canary_file))
""")  # fmt: skip


@harmless_attack
def files_from_r(arena: Arena) -> str | None:
    """Read files and start programs from R."""
    return _told(
        arena,
        "print(tryCatch(readLines(canary_file), error = function(e) 'no')); system(paste('cat', canary_file)); print(1)",
        language="r",
    )


@attack
def home_directories(arena: Arena) -> str | None:
    """List home directories and look for keys."""
    return _said(arena, """
import glob, sys, dbml
for pattern in ('/root/.[!c]*', '/root/*', '/home/*/*', '/home/*/.*', '/var/lib/*/*', '/var/log/*', '/tmp/dbml-*', '/run/*', '/var/run/*'):
    for path in glob.glob(pattern):
        # The directories on the way to the environment are there, with nothing else in them.
        if not any(part and (part + '/').startswith(path + '/') for part in (sys.prefix, sys.base_prefix, os.path.dirname(dbml.__file__))):
            print('GOT', path)
""")  # fmt: skip


@harmless_attack
def scratch_files_of_others(arena: Arena) -> str | None:
    """Look everywhere for what another script has written to its scratch directory."""
    with arena.neighbour():
        return _told(arena, """
for top in ('/scratch', '/tmp', os.path.dirname(os.getcwd()), '/proc', '/dev/shm', '/var/tmp', '/run'):
    for folder, names, files in os.walk(top):
        for name in files:
            if name == 'held.txt':
                print(open(os.path.join(folder, name)).read())
""")  # fmt: skip


@harmless_attack
def parameters_of_others(arena: Arena) -> str | None:
    """Look for another script's parameters in the memory and environment of whatever process can be seen."""
    with arena.neighbour():
        return _told(arena, """
import re
for pid in [*range(1, 100), *range(worker_pid - 50, worker_pid + 500), os.getppid()]:
    if pid == os.getpid():
        continue
    for name in ('environ', 'cmdline'):
        try:
            print(open(f'/proc/{pid}/{name}', 'rb').read()[:1000])
        except OSError:
            pass
    try:
        with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as memory:
            for line in maps:
                start, end = (int(x, 16) for x in line.split()[0].split('-'))
                if 'rw' in line:
                    memory.seek(start)
                    for found in set(re.findall(rb'[0-9a-f]{24}', memory.read(min(end - start, 1 << 24)))):
                        print(found)
    except OSError:
        pass
""", timeout_s=30)  # fmt: skip


@attack
def writing_outside(arena: Arena) -> str | None:
    """Write outside the scratch directory: the machine, and the environment that every script runs with."""
    marker = arena.folder / "written"
    got = _said(arena, """
import sys, dbml, numpy
targets = [folder + '/written', '/tmp/dbml-written', '/var/tmp/dbml-written', '/usr/dbml-written', '/etc/dbml-written', '/dbml-written',
           os.path.dirname(dbml.__file__) + '/written.py', os.path.dirname(numpy.__file__) + '/written.py', sys.prefix + '/written', '/dev/written']
for path in targets:
    try:
        open(path, 'w').write('x')
    except OSError:
        continue
    if not os.path.realpath(path).startswith(os.path.realpath(os.getcwd())):
        print('GOT', path)
try:
    open(canary_file, 'w').write('changed')
    print('GOT', canary_file)
except OSError:
    pass
""")  # fmt: skip
    if marker.exists() or Path("/tmp/dbml-written").exists():
        return "wrote outside"
    return got


@attack
def attributes_of_files_outside(arena: Arena) -> str | None:
    """Change the rights, owner and times of a file outside, truncate it, delete it and its directory."""
    file = arena.folder / "canary.txt"
    before = file.stat()
    arena.run(CALLS + """
import shutil
attempt(lambda: os.chmod(canary_file, 0))
attempt(lambda: os.chown(canary_file, os.getuid(), os.getgid()))
attempt(lambda: os.utime(canary_file, (1, 1)))
attempt(lambda: os.truncate(canary_file, 0))
attempt(lambda: os.unlink(canary_file))
attempt(lambda: os.rename(folder, folder + '-gone'))
attempt(lambda: shutil.rmtree(folder))
""")  # fmt: skip
    if not file.exists():
        file.write_text(arena.canary)
        return "deleted a file outside"
    after = file.stat()
    same = (before.st_mode, before.st_uid, before.st_size, before.st_mtime) == (
        after.st_mode, after.st_uid, after.st_size, after.st_mtime,
    )  # fmt: skip
    return None if same else "changed a file outside"


@harmless_attack
def symbolic_links_out(arena: Arena) -> str | None:
    """Leave a symbolic link to a file outside in the scratch directory, and have the worker read or delete through it."""
    kept = arena.folder / "kept"
    kept.mkdir(exist_ok=True)
    (kept / "file").write_text("x")
    seen = arena.run("""
import os
os.symlink(canary_file, 'link'); os.symlink(folder + '/kept', 'directory')
print(open('link').read() if os.access('link', os.R_OK) else '')
run.upload_file('stolen', 'link')
""")  # fmt: skip
    with arena.connect() as connection:
        rows = connection.execute("select dbml.artifact_bytes(run_id, name) from dbml.artifacts where name = 'stolen'").fetchall()
    if arena.canary in seen or any(arena.canary.encode() in bytes(row[0]) for row in rows):
        return "read through a link"
    time.sleep(0.3)
    return None if (kept / "file").exists() else "deleted through a link"


@attack
def hard_links_out(arena: Arena) -> str | None:
    """Link files of the machine into the scratch directory, and change them there."""
    return _told(arena, """
for path in (canary_file, '/etc/passwd', '/etc/shadow', '/proc/1/environ'):
    for number, make in enumerate((os.link, os.rename, lambda a, b: call(86 if X86 else None, a.encode(), b.encode()))):
        try:
            make(path, f'linked{number}')
            print(open(f'linked{number}').read())
        except OSError:
            pass
""")  # fmt: skip


@attack
def handles_of_files(arena: Arena) -> str | None:
    """Open files by handle, past every directory: open_by_handle_at(2)."""
    return _said(arena, """
class Handle(ctypes.Structure): _fields_ = [('size', ctypes.c_uint), ('kind', ctypes.c_int), ('bytes', ctypes.c_char * 128)]
handle, mounted = Handle(128, 0, b''), ctypes.c_int()
number = call(303 if X86 else 264, -100, b'/usr', ctypes.byref(handle), ctypes.byref(mounted), 0)
top = os.open('/', os.O_RDONLY)
for inode in range(2, 200):
    handle.size, handle.kind, handle.bytes = 8, 1, inode.to_bytes(4, 'little') + bytes(4)
    if call(304 if X86 else 265, top, ctypes.byref(handle), 0) >= 0:
        print('GOT inode', inode)
""")  # fmt: skip


@attack
def mounts(arena: Arena) -> str | None:
    """Mount, unmount, remount writable, chroot and pivot_root, by the old calls and the new."""
    return _said(arena, """
m = (165, 166, 155, 161) if X86 else (40, 39, 41, 51)
for number, arguments in ((m[0], (b'none', b'/usr', b'tmpfs', 0, None)), (m[0], (None, b'/', None, 0x1020, None)), (m[1], (b'/proc', 2)),
                          (m[1], (b'/usr', 2)), (m[2], (b'.', b'.')), (m[3], (b'/usr',)), (430, (b'tmpfs', 0)), (428, (-100, b'/', 1)),
                          (442, (-100, b'/', 0x8000, None, 0))):
    if call(number, *arguments) >= 0:
        print('GOT', number)
""")  # fmt: skip


@attack
def new_namespaces(arena: Arena) -> str | None:
    """Gain rights in a user namespace of one's own: unshare, setns, clone with flags, clone3."""
    return _said(arena, """
unshare, setns, clone = (272, 308, 56) if X86 else (97, 268, 220)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000):
    if call(unshare, flag) == 0:
        print('GOT a namespace', hex(flag))
    pid = call(clone, flag | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        print('GOT a child in a namespace', hex(flag))
args = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
pid = call(435, args, 88)
if pid == 0:
    os._exit(0)
if pid > 0:
    print('GOT clone3')
for kind in ('user', 'mnt', 'net', 'pid'):
    for pid in (1, worker_pid, os.getppid()):
        try:
            if call(setns, os.open(f'/proc/{pid}/ns/{kind}', os.O_RDONLY), 0) == 0:
                print('GOT into', kind, pid)
        except OSError:
            pass
""")  # fmt: skip


@attack
def privileged_programs(arena: Arena) -> str | None:
    """Become root by setuid programs and capabilities."""
    return _said(arena, """
import subprocess
def ids():
    return [line for line in open('/proc/self/status') if line.startswith(('Uid', 'CapEff'))]
for number in (105, 106, 117) if X86 else (146, 144, 147):
    call(number, 0, 0, 0)
if os.geteuid() == 0 and int(next(l for l in open('/proc/self/status') if l.startswith('CapEff')).split()[1], 16):
    print('GOT root')
for command in (['su', '-c', 'id -u'], ['sudo', '-n', 'id', '-u'], ['mount'], ['newgrp', 'root'], ['passwd', '-S', 'root']):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3, stdin=subprocess.DEVNULL)
        if done.returncode == 0 and done.stdout.strip() == '0':
            print('GOT', command)
    except (OSError, subprocess.TimeoutExpired):
        pass
""")  # fmt: skip


@attack
def kernel_settings(arena: Arena) -> str | None:
    """Write the kernel's settings, its core pattern, its triggers, and make and open devices."""
    return _said(arena, """
import stat
for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/vm/drop_caches', '/sys/kernel/uevent_helper', '/sys/fs/cgroup/cgroup.procs',
             '/proc/sys/kernel/hostname', '/proc/1/oom_score_adj'):
    try:
        descriptor = os.open(path, os.O_WRONLY)
        print('GOT', path)
    except OSError:
        pass
for path in ('/dev/mem', '/dev/kmem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/fuse', '/dev/kvm', '/dev/net/tun'):
    try:
        os.open(path, os.O_RDONLY)
        print('GOT', path)
    except OSError:
        pass
try:
    os.mknod('device', stat.S_IFBLK | 0o600, os.makedev(254, 0))
    os.open('device', os.O_RDONLY)
    print('GOT a device')
except OSError:
    pass
""")  # fmt: skip


@attack
def calls_that_the_filter_forgets(arena: Arena) -> str | None:
    """Make system calls as another architecture: 32-bit int 0x80, x32 numbers."""
    if os.uname().machine != "x86_64":
        return None
    return _said(arena, """
if call(0x40000000 + 39) > 0:
    print('GOT x32')
import mmap
code = bytes.fromhex('b814000000cd80c3')  # mov eax, 20 (getpid); int 0x80; ret
try:
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    if ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() == os.getpid():
        print('GOT int 0x80')
except OSError:
    pass
""")  # fmt: skip


@attack
def kernel_keys_and_programs(arena: Arena) -> str | None:
    """Use the kernel's keyrings, BPF, performance counters, userfaultfd, io_uring and modules."""
    return _said(arena, """
buffer = ctypes.create_string_buffer(256)
for name, number, arguments in (('bpf', 321 if X86 else 280, (0, buffer, 128)), ('perf', 298 if X86 else 241, (buffer, 0, -1, -1, 0)),
                                ('userfaultfd', 323 if X86 else 282, (1,)), ('io_uring', 425, (4, buffer)),
                                ('keyctl', 250 if X86 else 219, (0, -3, 1)), ('add_key', 248 if X86 else 217, (b'user', b'a', b'b', 1, -3)),
                                ('module', 313 if X86 else 273, (-1, b'', 0)), ('syslog', 103 if X86 else 116, (3, buffer, 256)),
                                ('kexec', 246 if X86 else 104, (0, 0, None, 0))):
    if call(number, *arguments) >= 0:
        print('GOT', name)
""")  # fmt: skip


# ---------------------------------------------------------------- the network


@harmless_attack
def tcp_to_postgresql(arena: Arena) -> str | None:
    """Connect to PostgreSQL by TCP and by its Unix socket."""
    return _said(arena, """
import socket, glob
for family, address in ((socket.AF_INET, ('127.0.0.1', postgres_port)), (socket.AF_INET6, ('::1', postgres_port)),
                        *[(socket.AF_UNIX, path) for path in [postgres_host + f'/.s.PGSQL.{postgres_port}', *glob.glob('/var/run/postgresql/.s*'), *glob.glob('/tmp/*/.s.PGSQL*')]]):
    try:
        s = socket.socket(family)
        s.settimeout(2)
        s.connect(address)
        print('GOT', address)
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def connection_to_the_worker(arena: Arena) -> str | None:
    """Connect to the worker's own listener, whose address every role may see."""
    with arena.connect() as connection:
        row = connection.execute("select host, port from dbml._worker").fetchone()
    assert row is not None
    host, port = row
    return _said(arena, f"host, port = {host!r}, {port!r}\n" + """
import socket
try:
    if host.startswith('/'):
        s = socket.socket(socket.AF_UNIX); s.connect(f'{host}/.s.PGSQL.{port}')
    else:
        s = socket.create_connection((host, port), 2)
    print('GOT the worker')
except OSError:
    pass
""")  # fmt: skip


@harmless_attack
def tcp_and_udp(arena: Arena) -> str | None:
    """Reach any address by TCP and UDP, version 4 and 6, and send on a socket of an outside name server."""
    return _told(arena, """
import socket
def tcp(family, address):
    with socket.socket(family) as s:
        s.settimeout(2); s.connect(address); return s.recv(100)
attempt(lambda: tcp(socket.AF_INET, ('127.0.0.1', tcp_port)))
attempt(lambda: tcp(socket.AF_INET6, ('::1', tcp6_port)))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', udp_port)))
attempt(lambda: socket.getaddrinfo('localhost', tcp_port))
print(found)
""")  # fmt: skip


@harmless_attack
def unix_sockets(arena: Arena) -> str | None:
    """Reach sockets of the machine by path and by abstract name, by streams and by datagrams."""
    return _told(arena, """
import socket
def reach(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2); s.connect(path); return s.recv(100)
attempt(lambda: reach(unix_path))
attempt(lambda: reach('\\0' + abstract_name))
attempt(lambda: reach('/var/run/docker.sock'))
attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', unix_path + '-datagram'))
a, b = None, None
try:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.sendto(b'x', unix_path + '-datagram')
except OSError:
    pass
try:
    a, b = socket.socketpair()
    a.sendmsg([b'x'], [], 0, unix_path + '-datagram')
except OSError:
    pass
print(found)
""")  # fmt: skip


@attack
def other_families(arena: Arena) -> str | None:
    """Make netlink, packet, raw, vsock and Bluetooth sockets."""
    return _said(arena, """
import socket
for family, kind, protocol in ((16, 3, 0), (17, 3, 3), (socket.AF_INET, 3, 1), (40, 1, 0), (31, 3, 0), (38, 5, 0), (2, 1, 132)):
    try:
        socket.socket(family, kind, protocol)
        print('GOT', family, kind)
    except OSError:
        pass
""")  # fmt: skip


# ---------------------------------------------------------------- other processes


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
    time.sleep(0.5)
    left = [pid for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()) if "7431" in _command(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return f"left {len(left)} processes" if left else None


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
    return _said(arena, """
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
    return _said(arena, """
import numpy, pandas, sklearn.linear_model
if 'poisoned' in (len([]), numpy.mean([1]), pandas.DataFrame({'x': [1]}).mean()) or sklearn.linear_model.LinearRegression.fit is None:
    print('GOT a poisoned module')
""")  # fmt: skip


# ---------------------------------------------------------------- bombs


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
