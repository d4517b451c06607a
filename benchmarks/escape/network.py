# ruff: noqa: E501 - scripts, as an attacker would write them
"""Attacks by the network: PostgreSQL, the worker, any address, sockets of every family."""

from __future__ import annotations

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import attack, harmless_attack, said, told


@harmless_attack
def tcp_to_postgresql(arena: Arena) -> str | None:
    """Connect to PostgreSQL by TCP and by its Unix socket."""
    return said(arena, """
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
    return said(arena, f"host, port = {host!r}, {port!r}\n" + """
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
    return told(arena, """
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
    return told(arena, """
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
    return said(arena, """
import socket
for family, kind, protocol in ((16, 3, 0), (17, 3, 3), (socket.AF_INET, 3, 1), (40, 1, 0), (31, 3, 0), (38, 5, 0), (2, 1, 132)):
    try:
        socket.socket(family, kind, protocol)
        print('GOT', family, kind)
    except OSError:
        pass
""")  # fmt: skip
