# ruff: noqa: E501 - scripts, as an attacker would write them
"""Attacks on files: reading, writing, links, mounts, namespaces, the kernel's settings."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import CALLS, attack, harmless_attack, said, told


@attack
def shadow_passwords(arena: Arena) -> str | None:
    """Read /etc/shadow and /etc/gshadow, directly and through /proc/1/root."""
    return said(arena, """
for path in ('/etc/shadow', '/etc/gshadow', '/proc/1/root/etc/shadow', f'/proc/{worker_pid}/root/etc/shadow', '/proc/self/root/../etc/shadow'):
    try:
        print('GOT', open(path).read()[:20])
    except OSError:
        pass
""")  # fmt: skip


@harmless_attack
def data_directory(arena: Arena) -> str | None:
    """List and read the server's data directory."""
    return said(arena, """
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
    return told(arena, """
for path in (canary_file, '/proc/1/root' + canary_file, f'/proc/{worker_pid}/root' + canary_file, '/proc/self/cwd/../../../..' + canary_file,
             '/../../../../../..' + canary_file, f'/proc/{worker_pid}/cwd/' + canary_file):
    attempt(lambda: open(path).read())
print(found, os.system('cat ' + canary_file))
""")  # fmt: skip


@harmless_attack
def files_from_r(arena: Arena) -> str | None:
    """Read files and start programs from R."""
    return told(
        arena,
        "print(tryCatch(readLines(canary_file), error = function(e) 'no')); system(paste('cat', canary_file)); print(1)",
        language="r",
    )


@attack
def home_directories(arena: Arena) -> str | None:
    """List home directories and look for keys."""
    return said(arena, """
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
        return told(arena, """
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
        return told(arena, """
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
    got = said(arena, """
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
    return told(arena, """
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
    return said(arena, """
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
    return said(arena, """
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
    return said(arena, """
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
    return said(arena, """
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
    return said(arena, """
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
    return said(arena, """
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
    return said(arena, """
buffer = ctypes.create_string_buffer(256)
for name, number, arguments in (('bpf', 321 if X86 else 280, (0, buffer, 128)), ('perf', 298 if X86 else 241, (buffer, 0, -1, -1, 0)),
                                ('userfaultfd', 323 if X86 else 282, (1,)), ('io_uring', 425, (4, buffer)),
                                ('keyctl', 250 if X86 else 219, (0, -3, 1)), ('add_key', 248 if X86 else 217, (b'user', b'a', b'b', 1, -3)),
                                ('module', 313 if X86 else 273, (-1, b'', 0)), ('syslog', 103 if X86 else 116, (3, buffer, 256)),
                                ('kexec', 246 if X86 else 104, (0, 0, None, 0))):
    if call(number, *arguments) >= 0:
        print('GOT', name)
""")  # fmt: skip
