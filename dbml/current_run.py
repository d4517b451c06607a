"""The run that this process belongs to, where it is a script's: the worker's process sets it, `dbml.core` asks for it.

Both know this module and not each other.
"""

from __future__ import annotations

from typing import Any

_run: Any = None


def enter(run: Any) -> None:
    """Take note of the run, the object `run` of scripts (dbml.worker.run), that this process belongs to."""
    global _run
    _run = run


def current() -> Any:
    """Return the run that this process belongs to; None where it is nobody's script."""
    return _run
