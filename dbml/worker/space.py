"""Space on the worker's disk: what to say when there is none."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator

from dbml import errors

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def room_for(what: str) -> Iterator[None]:
    """Turn a full disk into an error that says so.

    Raises: LimitExceeded.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_room(what) from None


def no_room(what: str) -> errors.LimitExceeded:
    """Make the error for a full disk."""
    folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - gettempdir() would try to write there
    return errors.LimitExceeded(
        f"the disk of the worker's temporary directory {folder} is full: there is no room for {what}",
        detail={"limit": "disk", "directory": folder},
        hint="free space there, or start the worker with TMPDIR on a larger disk",
    )
