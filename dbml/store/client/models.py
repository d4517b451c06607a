"""Registered models, by clients: their versions, metadata and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb

_COLUMNS = sql.SQL(
    "select model_id, workspace, name, version, aliases, format, framework, framework_version, signature, description, tags,"
    " properties, digest, size_bytes, run_id, created_at, created_by, environment, details from dbml.models m"
)


def register(
    connection: Connection, workspace: str, name: str, files: Sequence[Mapping[str, str]], *, format: str = "files",  # noqa: A002
    framework: str | None = None, framework_version: str | None = None, description: str | None = None,
    tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None, alias: str | None = None, run_id: UUID | None = None,
    environment: str | None = None,
) -> int:  # fmt: skip
    """Register uploaded files as the next version of a model; returns the version.

    files: path, and digest in hex or, with run_id, artifact.
    """
    return int(
        call(
            connection, "register_model_files", name=name, files=jsonb([dict(file) for file in files]), format=format,
            framework=framework, framework_version=framework_version, description=description, tags=jsonb(dict(tags or {})),
            properties=jsonb(dict(properties or {})), details=jsonb(dict(details or {})), alias=alias, run_id=run_id,
            workspace=workspace, environment=environment,
        )
    )  # fmt: skip


def list_all(
    connection: Connection, workspace: str, *, name: str | None = None, version: int | None = None, alias: str | None = None,
    run_id: UUID | None = None, framework: str | None = None, tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None, latest: bool = False,
) -> list[Row]:  # fmt: skip
    """Return models of a workspace, the newest first.

    tags, properties: those that have all of these; a value None asks for the name alone.
    latest: of each name the newest version that fits.
    """
    terms: list[sql.Composable] = [sql.SQL("m.workspace = %(workspace)s")]
    values: Row = {
        "workspace": workspace, "name": name, "version": version, "alias": alias, "run_id": run_id, "framework": framework,
    }  # fmt: skip
    for column in ("name", "version", "run_id", "framework"):
        if values[column] is not None:
            terms.append(sql.SQL("m.{} = {}").format(sql.Identifier(column), sql.Placeholder(column)))
    if alias is not None:
        terms.append(sql.SQL("%(alias)s = any(m.aliases)"))
    for column, asked in (("tags", tags), ("properties", properties)):
        if asked:
            terms.append(sql.SQL("m.{} @> {} and m.{} ?& {}").format(
                sql.Identifier(column), sql.Placeholder(column), sql.Identifier(column), sql.Placeholder(column + "_names")
            ))  # fmt: skip
            values[column] = jsonb({name: wanted for name, wanted in asked.items() if wanted is not None})
            values[column + "_names"] = list(asked)
    query = _COLUMNS + sql.SQL(" where ") + sql.SQL(" and ").join(terms)
    if latest:
        query = sql.SQL("select distinct on (name) * from ({}) m order by name, version desc").format(query)
        query = sql.SQL("select * from ({}) m").format(query)
    return all_rows(connection, query + sql.SQL(" order by created_at desc, model_id desc"), values)


def change(
    connection: Connection, workspace: str, reference: str, *, tags: Mapping[str, Any] | None = None,
    remove: Sequence[str] = (), properties: Mapping[str, Any] | None = None, description: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Set tags, add properties or describe a version; returns its tags."""
    return dict(
        call(
            connection, "tag_model", model=reference, tags=jsonb(dict(tags or {})), remove=list(remove),
            properties=jsonb(dict(properties or {})), description=description, details=jsonb(dict(details or {})),
            workspace=workspace,
        )
    )  # fmt: skip


def set_alias(connection: Connection, workspace: str, reference: str, alias: str) -> int:
    """Let an alias mean this version; returns the version."""
    return int(call(connection, "set_model_alias", model=reference, alias=alias, workspace=workspace))


def delete(connection: Connection, workspace: str, reference: str) -> None:
    """Delete one version."""
    call(connection, "delete_model", model=reference, workspace=workspace)


def files(connection: Connection, workspace: str, name: str, version: int) -> list[Row]:
    """Return the files of a version by path; none where it was registered as bytes."""
    query = sql.SQL(
        "select path, digest, size_bytes from dbml.model_files"
        " where (workspace, name, version) = (%(workspace)s, %(name)s, %(version)s) order by path"
    )
    return all_rows(connection, query, {"workspace": workspace, "name": name, "version": version})


def inspect(connection: Connection, workspace: str, reference: str) -> list[Row]:
    """Return what a model's bytes import or hold, found without loading them: module, name, verdict, allowed."""
    query = sql.SQL("select module, name, calls, verdict, allowed, note from dbml.inspect_model(%s, %s)")
    return all_rows(connection, query, (reference, workspace))


def export_sql(connection: Connection, reference: str, name: str | None, workspace: str | None) -> str:
    """Return a model as SQL functions; name: of the function, by default the model's."""
    return str(call(connection, "export_sql", model=reference, name=name, workspace=workspace))


def export_onnx(connection: Connection, reference: str, workspace: str | None) -> bytes:
    """Return a model as an ONNX file."""
    return bytes(call(connection, "export_onnx", model=reference, workspace=workspace))
