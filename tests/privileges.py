"""What this process may do that another account could not: a container's root is not the host's."""

from __future__ import annotations

import tempfile
from pathlib import Path

CAP_SYS_PTRACE = 19


def looks_into_others() -> bool:
    """Tell whether we read environments, memory and descriptors of processes of other accounts, and of concealed ones."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return bool(int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16) >> CAP_SYS_PTRACE & 1)


def open_way(folder: Path) -> None:
    """Let other accounts go through a temporary folder, and those above it, to what is theirs: pytest makes them private."""
    top = Path(tempfile.gettempdir()).resolve()
    for each in (folder, *folder.parents):
        if each.resolve() in (top, *top.parents):
            return
        each.chmod(each.stat().st_mode | 0o011)
