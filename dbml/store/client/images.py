"""Images, by clients: versions of models, a score.py and a lock that are served together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, where

_COLUMNS = sql.SQL(
    "select image_id, workspace, name, version, models, entry_script, environment, python_version, lock, digest, description,"
    " tags, properties, created_at, created_by from dbml.images"
)


def create(
    connection: Connection, workspace: str, name: str, models: Sequence[str], files: Sequence[Mapping[str, str]], *,
    entry_script: str, environment: str | None = None, lock: str | None = None, digest: str | None = None,
    description: str | None = None, tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Keep the next version of an image; returns the version.

    files: path, and the digest in hex of bytes that were uploaded.
    """
    return int(
        call(
            connection, "create_image", name=name, models=list(models), files=jsonb([dict(file) for file in files]),
            entry_script=entry_script, environment=environment, lock=lock, digest=digest, description=description,
            tags=jsonb(dict(tags or {})), properties=jsonb(dict(properties or {})), workspace=workspace,
        )
    )  # fmt: skip


def list_all(connection: Connection, workspace: str, *, name: str | None = None, version: int | None = None) -> list[Row]:
    """Return images of a workspace, by name and the newest version first."""
    condition, values = where(workspace=workspace, name=name, version=version)
    return all_rows(connection, _COLUMNS + condition + sql.SQL(" order by name, version desc"), values)


def files(connection: Connection, workspace: str, name: str, version: int) -> list[Row]:
    """Return path, digest (hex) and size_bytes of the files beside an image's score.py, and of itself, by path."""
    condition, values = where(workspace=workspace, name=name, version=version)
    query = sql.SQL("select path, digest, size_bytes from dbml.image_files") + condition + sql.SQL(" order by path")
    return all_rows(connection, query, values)


def part(connection: Connection, workspace: str, image: str, path: str, number: int) -> bytes | None:
    """Return one part of a file of an image; None past its end."""
    found: bytes | None = call(connection, "image_part", image=image, path=path, part=number, workspace=workspace)
    return found


def delete(connection: Connection, workspace: str, image: str) -> int:
    """Delete one version; returns the version."""
    return int(call(connection, "delete_image", image=image, workspace=workspace))
