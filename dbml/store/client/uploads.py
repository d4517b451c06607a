"""Bytes on their way to the database and back, in parts of 1 MiB, so that neither end holds more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from dbml.store.client.rows import Connection

PART_BYTES = 1 << 20


def begin(connection: Connection) -> UUID:
    """Begin an upload."""
    row = connection.execute("select dbml.begin_upload()").fetchone()
    assert row is not None
    return UUID(str(row[0]))


def send(connection: Connection, upload: UUID, ordinal: int, part: bytes, digest: bytes | None = None) -> None:
    """Send one part, counted from 0; `connection.pipeline()` around many saves the waiting.

    digest: its SHA-256, which the server computes where it is not given.
    """
    connection.execute("select dbml.upload_part(%s, %s::integer, %b, %b)", (upload, ordinal, part, digest))


def arrived(connection: Connection, upload: UUID) -> dict[int, bytes]:
    """Return the digests of the parts that have arrived, by ordinal."""
    rows = connection.execute("select ordinal, digest from dbml.upload_parts(%s)", (upload,), binary=True).fetchall()
    return {int(ordinal): bytes(digest) for ordinal, digest in rows}


def finish(connection: Connection, upload: UUID, sha256: bytes, size: int) -> bytes:
    """Finish an upload; returns the digest."""
    row = connection.execute("select dbml.finish_upload(%s, %b, %s::bigint)", (upload, sha256, size), binary=True).fetchone()
    assert row is not None
    return bytes(row[0])


def abandon(connection: Connection, upload: UUID) -> None:
    """Give up an upload."""
    connection.execute("select dbml.abandon_upload(%s)", (upload,))


def send_whole(connection: Connection, contents: Sequence[bytes]) -> None:
    """Upload small contents, each for one use under its SHA-256, in one round trip."""
    with connection.pipeline():
        for content in contents:
            connection.execute("select dbml.upload_bytes(%b)", (content,))


def send_parts(connection: Connection, upload: UUID, parts: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Send several parts, each with its SHA-256, in one round trip; what was sent before may be sent again."""
    with connection.pipeline():
        for ordinal, part, digest in parts:
            send(connection, upload, ordinal, part, digest)


def artifact_parts(connection: Connection, wanted: Sequence[tuple[UUID, str, int]]) -> list[bytes | None]:
    """Return parts of artifacts, (run, name, number), unchecked and in one round trip; None past an artifact's end."""
    return _fetch(connection, "select dbml.artifact_part(%s, %s::text, %s::integer, false)", wanted)


def model_parts(connection: Connection, wanted: Sequence[tuple[str, int, str | None, str]]) -> list[bytes | None]:
    """Return parts of models' files, (reference, number, path or None, workspace), unchecked and in one round trip."""
    return _fetch(connection, "select dbml.model_part(%s::text, %s::integer, %s::text, %s::text, false)", wanted)


def _fetch(connection: Connection, statement: LiteralString, wanted: Sequence[Sequence[Any]]) -> list[bytes | None]:
    with connection.pipeline():
        cursors = [connection.execute(statement, values, binary=True) for values in wanted]
    return [None if (row := cursor.fetchone()) is None else row[0] for cursor in cursors]
