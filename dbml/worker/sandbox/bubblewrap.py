"""bubblewrap's command line: the view of the machine that a zygote and its children have.

Everything is read-only but the scratch directory, and nothing is there that is not named here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dbml.kernel.places import SYSTEM

SCRATCH = "/scratch"
CACHE = "/scratch/cache"  # of the zygote: a child's own scratch directory hides it
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/services", "/etc/protocols", "/etc/gai.conf", "/etc/host.conf")


def program() -> str | None:
    """Return where bubblewrap is, None where it is not installed."""
    return shutil.which("bwrap", path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/usr/local/bin")


def command(
    *, bwrap: str, readable: Sequence[str], accounts: str, cache: str, network: bool, as_root: bool, inner: Sequence[str],
) -> list[str]:  # fmt: skip
    """Return the command that runs another within the view.

    readable: the environment's files and directories.  accounts: a file to show as /etc/passwd.  cache: the one directory
    that may be written to, for what importing packages computes once.
    """
    arguments = [bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent",
                 "--hostname", "dbml"]  # fmt: skip
    if not network:
        arguments.append("--unshare-net")
    if as_root:  # the zygote mounts /proc itself, unobscured, becomes another account, and has no rights left
        arguments += ["--cap-drop", "ALL", "--dir", "/proc"]
        for capability in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", capability]
    else:
        arguments += ["--unshare-user", "--proc", "/proc"]
    links = {path: str(Path(path).readlink()) for path in SYSTEM if path.count("/") == 1 and Path(path).is_symlink()}
    paths = [path for path in (*SYSTEM, *(NETWORK if network else ())) if path not in links]
    paths += sorted({path for path in readable if not path.startswith("/usr/")})
    for parent in sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"}):
        arguments += ["--dir", parent]  # else only root could pass through
    for path, target in links.items():
        arguments += ["--symlink", target, path]
    for path in paths:
        arguments += ["--ro-bind-try", path, path]
    if not any(path.startswith("/tmp/") for path in readable):  # noqa: S108
        arguments += ["--symlink", SCRATCH, "/tmp"]  # noqa: S108 - what insists on /tmp finds the scratch directory
    arguments += ["--ro-bind", accounts, "/etc/passwd", "--dev", "/dev", "--remount-ro", "/dev"]
    arguments += ["--tmpfs", SCRATCH, "--bind", cache, CACHE, "--remount-ro", "/", "--chdir", SCRATCH]
    return [*arguments, "--", *inner]
