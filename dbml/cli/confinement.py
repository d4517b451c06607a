"""The view of the machine that a service's process has: its folder, its Python, and no network but its socket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

BY_ITSELF = "the scoring app confines itself, by Landlock and a system call filter; its log says whether it could"


def confinement(folder: Path, say: Callable[[str], None]) -> Callable[[Sequence[str], Sequence[Path]], list[str]] | None:
    """Return what puts a command into the view, None where this machine has none; says which.

    folder: of its own, for what bubblewrap wants as files.
    """
    from dbml.worker.sandbox import bubblewrap  # what only calls does without the worker's half

    program = bubblewrap.program()
    if program is None:
        say(f"bubblewrap is not installed: {BY_ITSELF}")
        return None
    accounts, cache = folder / "passwd", folder / "cache"
    accounts.write_text("root:x:0:0:root:/scratch:/bin/sh\ndbml:x:10001:10001:dbml:/scratch:/bin/sh\n")
    cache.mkdir(exist_ok=True)

    def confine(command: Sequence[str], readable: Sequence[Path]) -> list[str]:
        python = Path(command[0])
        places = {*readable, python.parent.parent, python.resolve().parent.parent, Path(sys.prefix), Path(sys.base_prefix)}
        whole = bubblewrap.command(
            bwrap=program, readable=[str(path) for path in places], accounts=str(accounts), cache=str(cache), network=False,
            as_root=False, inner=command,
        )  # fmt: skip
        whole[1:1] = ["--cap-drop", "ALL"]
        return whole

    tried = subprocess.run(confine([sys.executable, "-c", "pass"], []), capture_output=True, text=True, timeout=60)
    if tried.returncode != 0:
        say(f"bubblewrap cannot be used here, {BY_ITSELF} ({tried.stderr.strip()[:300]})")
        return None
    say("the scoring app is confined by bubblewrap: it sees its folder and its Python, and has no network but its socket")
    return confine
