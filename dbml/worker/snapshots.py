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
    blob = bytes.fromhex(snapshot)
    try:
        for ordinal in await telemetry.transact(lambda connection: submissions.parts(connection, blob)):
            part = await telemetry.transact(lambda connection, at=ordinal: submissions.part(connection, blob, at))  # type: ignore[misc]
            await crew.tell({"tag": "snapshot"}, part)
    except psycopg.Error as error:
        raise errors.WorkerError(f"the snapshot could not be read: {str(error).strip()}", hint="repeat the call") from None
