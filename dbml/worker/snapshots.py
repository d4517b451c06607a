"""Snapshots on their way from the database to a satellite, part by part."""

from __future__ import annotations

import psycopg

from dbml import errors
from dbml.store import submissions
from dbml.worker.crew import Crew
from dbml.worker.telemetry import Telemetry


async def send_snapshot(telemetry: Telemetry, crew: Crew, snapshot: str) -> None:
    """Send the archive of a snapshot, its digest in hex, to the satellites of a call.

    Raises: errors.DbmlError where it cannot be read; ConnectionError where a satellite is gone.
    """
    ordinal = 0
    try:
        while True:
            part = await telemetry.transact(lambda connection, at=ordinal: submissions.snapshot_part(connection, snapshot, at))  # type: ignore[misc]
            if part is None:
                return
            await crew.tell({"tag": "snapshot"}, part)
            ordinal += 1
    except psycopg.Error as error:
        raise errors.WorkerError(f"the snapshot could not be read: {str(error).strip()}", hint="repeat the call") from None
