"""`python -m dbml.serving.app.confined LAYER SCRATCH FOLDER --fd N …`: the scoring app behind walls of its own.

A model is a pickle, and what it does when it is loaded is its maker's.  Before anything of it is read, and before a library is
imported that has threads, this process gives up what an answer does not need.

    landlock    Files: the service's folder, this Python and the system's libraries to read, SCRATCH to write.  No socket can
                be made, no capability is left, no other process looked into or signalled, and no right gained by any program.
    bubblewrap  The same but for files and network, which the view has taken already that this process was started in.

Where another version runs beside, an errand process that is not confined connects to it, and to nothing else: it reads the
address itself.  Source of what holds: landlock(7), seccomp(2).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from dbml.kernel import calls, landlock, seccomp
from dbml.kernel.places import DEVICES, PROCESS_FILES, SYSTEM

SCRATCH = "/scratch"  # in bubblewrap's view
WRITABLE = ("/dev/null", "/dev/zero", "/dev/full")
DIAL_S = 1.0


class CannotConfine(Exception):
    """The kernel does not offer what it takes; says what it lacks."""


def confine(layer: str, scratch: str, folder: str, keys: str | None = None, peer: str | None = None) -> str:
    """Put this process behind its walls, for good; returns what they are, in words.

    peer: a file of another version, whose folder holds what is said of that alone.

    Raises: CannotConfine, and then nothing has changed.
    """
    if not seccomp.is_known():
        raise CannotConfine("there is no system call filter for this machine")
    known = landlock.version()
    if layer == "landlock" and not known:
        raise CannotConfine("the kernel has no Landlock, or it is switched off (Linux 5.13 has it)")
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise CannotConfine("a library has begun a thread already, which would not be confined")
    calls.drop_capabilities()
    if layer == "bubblewrap":
        if known:
            landlock.restrict(["/"], [SCRATCH, "/dev"], network=False)
        seccomp.install(seccomp.program(network=False, alone=False, signals=known >= landlock.SIGNALS_SINCE))
        return "by bubblewrap and a system call filter: it reads its folder and its Python, and connects to nothing outside"
    readable = [*SYSTEM, *PROCESS_FILES, *DEVICES, "/etc/passwd", "/etc/group", f"/proc/{os.getpid()}", folder, *_python()]
    readable += [*_of_keys(keys), *([str(Path(peer).parent)] if peer else [])]
    landlock.restrict(readable, [scratch, *WRITABLE], network=False)
    seccomp.install(seccomp.program(network=False, alone=True, signals=known >= landlock.SIGNALS_SINCE))
    return (
        f"by Landlock (version {known} of its interface) and a system call filter: it reads its folder and its Python, writes to "
        "its scratch directory, and connects to nothing"
    )


def _python() -> list[str]:
    """Return what imports may read; a home directory, or what holds one, is passed over as a place of modules."""
    given = {path for path in (*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix) if path}
    homes = [Path.home().resolve()]
    with contextlib.suppress(KeyError):
        homes.append(Path(pwd.getpwuid(os.getuid()).pw_dir).resolve())
    places = {path for name in given for path in (Path(name), Path(name).resolve())}
    return [str(path) for path in places if not any(home.is_relative_to(path.resolve()) for home in homes)]


def _of_keys(keys: str | None) -> list[str]:
    """Return the file of keys, or its folder where that holds nothing else: then the file can be replaced too."""
    if keys is None:
        return []
    file = Path(keys).resolve()
    alone = {path.name for path in file.parent.iterdir()} <= {file.name, "partial"}
    return [str(file.parent if alone else file)]


def errand(peer: Path) -> socket.socket:
    """Start the process that connects to the address in a peer file; returns the socket on which it is asked.

    Each byte that is sent is answered with one: "+" and a connected socket, or "-".
    """
    ours, its = socket.socketpair()
    parent = os.getpid()
    if os.fork() == 0:
        try:
            calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                kept = os.dup2(its.detach(), 3, inheritable=False)
                os.closerange(kept + 1, 1 << 20)
                _run_errands(socket.socket(fileno=kept), peer)
        finally:
            os._exit(0)
    its.close()
    ours.settimeout(2 * DIAL_S)
    return ours


def _run_errands(asked: socket.socket, peer: Path) -> None:
    import json

    while asked.recv(1):
        try:
            address = str(json.loads(peer.read_bytes())["address"])
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(DIAL_S)
                made.connect(address)
                made.setblocking(False)
                socket.send_fds(asked, [b"+"], [made.fileno()])
        except (OSError, ValueError, KeyError, TypeError):
            asked.send(b"-")


def main(words: Sequence[str]) -> None:
    """Confine this process, or say why not, and serve."""
    layer, scratch, *arguments = words
    folder = arguments[0]
    given = {name: _option(arguments, name) for name in ("--keys", "--peer")}
    dialer = errand(Path(given["--peer"])) if layer == "landlock" and given["--peer"] else None
    try:
        said, holds = f"confined {confine(layer, scratch, folder, given['--keys'], given['--peer'])}", True
    except (CannotConfine, OSError) as error:
        said, holds = f"not confined: {error}", False
    from dbml.serving.app.__main__ import main as serve

    serve(arguments, confinement=said, confined=holds, dialer=dialer)


def _option(arguments: Sequence[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


if __name__ == "__main__":
    main(sys.argv[1:])
