"""How the runs that a script begins as parts of its own are told apart, on either side of its sandbox.

The script names each by a token, and the id follows from it and from the id of the script's run: both sides know it
without asking, and no script can name the run of another.
"""

from __future__ import annotations

import uuid

MOST_CHILDREN = 10_000  # of one script, with children of children


def child_run_id(run_id: str, token: str) -> str:
    """Return the id of a child; run_id: of the script's own run."""
    return str(uuid.uuid5(uuid.UUID(run_id), token))
