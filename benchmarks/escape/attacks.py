"""All attacks, in the order in which they are carried out."""

from __future__ import annotations

from benchmarks.escape import bombs, files, network, pickles, processes, secrets, statements
from benchmarks.escape.attack import ATTACKS, Attack, judge

__all__ = ["ATTACKS", "Attack", "bombs", "files", "judge", "network", "pickles", "processes", "secrets", "statements"]
