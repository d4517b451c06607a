"""Datastores and the files of the default one, by clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, where

_DATASTORES = sql.SQL(
    "select name, kind, url, options, credentials, is_default, description, tags, created_at, created_by from dbml.datastores"
)


def register(
    connection: Connection, workspace: str, name: str, kind: str, url: str, *, options: Mapping[str, Any],
    credentials: Mapping[str, Any], description: str | None, tags: Mapping[str, Any], overwrite: bool,
) -> None:  # fmt: skip
    """Register a datastore; credentials are references, never secrets."""
    call(
        connection, "register_datastore", name=name, kind=kind, url=url, options=jsonb(dict(options)),
        credentials=jsonb(dict(credentials)), description=description, tags=jsonb(dict(tags)), overwrite=overwrite,
        workspace=workspace,
    )  # fmt: skip


def list_datastores(connection: Connection, workspace: str, name: str | None = None) -> list[Row]:
    """Return the datastores of a workspace by name, or the one of that name."""
    condition, values = where(workspace=workspace, name=name)
    return all_rows(connection, _DATASTORES + condition + sql.SQL(" order by name"), values)


def delete_datastore(connection: Connection, workspace: str, name: str) -> None:
    """Forget a datastore."""
    call(connection, "delete_datastore", name=name, workspace=workspace)


def set_default(connection: Connection, workspace: str, name: str) -> None:
    """Let a datastore be the one that is taken where none is named."""
    call(connection, "set_default_datastore", name=name, workspace=workspace)


def list_files(connection: Connection, workspace: str, prefix: str = "") -> list[Row]:
    """Return path, size_bytes and digest (hex) of the files whose path begins so, by path."""
    query = "select path, size_bytes, digest from dbml.files where workspace = %s and starts_with(path, %s) order by path"
    return all_rows(connection, sql.SQL(query), (workspace, prefix))


def find_files(connection: Connection, workspace: str, paths: Sequence[str]) -> dict[str, str]:
    """Return the digests (hex) of those of the paths that are there."""
    query = sql.SQL("select path, digest from dbml.files where workspace = %s and path = any(%s)")
    return {row["path"]: row["digest"] for row in all_rows(connection, query, (workspace, list(paths)))}


def dataset_files(connection: Connection, dataset_id: int) -> list[Row]:
    """Return path, size_bytes and digest (hex) of the files that a version of a dataset keeps, by path."""
    query = sql.SQL("select path, size_bytes, digest from dbml.dataset_files where dataset_id = %s order by path")
    return all_rows(connection, query, (dataset_id,))


def write_uploads(connection: Connection, workspace: str, written: Sequence[tuple[str, bytes]], overwrite: bool) -> None:
    """Name uploaded bytes as files, (path, digest) each, in one round trip and one transaction."""
    with connection.transaction(), connection.pipeline():
        for path, digest in written:
            connection.execute(
                "select dbml.write_upload(%s, %b, %s::boolean, %s::text)", (path, digest, overwrite, workspace)
            )  # fmt: skip


def read_parts(
    connection: Connection, wanted: Sequence[tuple[str, int, str, str | None]], checked: bool = True
) -> list[bytes | None]:
    """Return parts of files, (path, number, workspace, dataset or None), in one round trip; None past a file's end.

    checked: False leaves out the digests of the parts, for who checks that of the whole.
    """
    query = "select dbml.read_file_part(%s::text, %s::integer, %s::text, %s::text, %s::boolean)"
    with connection.pipeline():
        cursors = [connection.execute(query, (*asked, checked), binary=True) for asked in wanted]
    return [None if (row := cursor.fetchone()) is None else row[0] for cursor in cursors]


def delete(connection: Connection, workspace: str, path: str) -> bool:
    """Delete a file; returns whether it was there."""
    return bool(call(connection, "delete_file", path=path, workspace=workspace))
