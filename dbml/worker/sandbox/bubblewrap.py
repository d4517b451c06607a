"""bubblewrap's command line: the view of the machine that a zygote and its children have.

Everything is read-only but the scratch directory, and nothing is there that is not named here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

SCRATCH = "/scratch"
CACHE = "/scratch/cache"  # of the zygote: a child's own scratch directory hides it
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/timezone", "/etc/nsswitch.conf", "/etc/R", "/etc/fonts",
    "/etc/mime.types", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs",
    "/sys/devices/system/cpu",
)  # fmt: skip
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
    for path in (*SYSTEM, *(NETWORK if network else ())):
        if not Path(path).is_symlink() or path.startswith("/etc/"):
            arguments += ["--ro-bind-try", path, path]
        else:
            arguments += ["--symlink", os.readlink(path), path]
    bound = [path for path in sorted(set(readable)) if not path.startswith("/usr/")]
    for parent in sorted({str(parent) for path in bound for parent in Path(path).parents} - {"/"}):
        arguments += ["--dir", parent]  # else only root could pass through
    for path in bound:
        arguments += ["--ro-bind-try", path, path]
    if not any(path.startswith("/tmp/") for path in readable):  # noqa: S108
        arguments += ["--symlink", SCRATCH, "/tmp"]  # noqa: S108 - what insists on /tmp finds the scratch directory
    arguments += ["--ro-bind", accounts, "/etc/passwd", "--dev", "/dev", "--remount-ro", "/dev"]
    arguments += ["--tmpfs", SCRATCH, "--bind", cache, CACHE, "--remount-ro", "/", "--chdir", SCRATCH]
    return [*arguments, "--", *inner]
