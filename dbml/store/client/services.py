"""Web services, by clients and by the runners that serve them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, one_row

CALLS = "dbml_services"
_LOCKS = 1_684_171_116  # "dbml", and what is locked of it

_COLUMNS = sql.SQL(
    "select workspace, name, models, image, target, compute_type, state, scoring_uri, swagger_uri, auth_enabled, error, log,"
    " generation, serving_generation, failed_generation, restarts, config, tags, properties, description, node, seen_at,"
    " created_at, created_by, updated_at from dbml.services where workspace = %(workspace)s"
)


def deploy(
    connection: Connection, workspace: str, name: str, *, model: str | None = None, image: str | None = None,
    target: str = "process", compute_type: str = "Local", config: Mapping[str, Any] | None = None, auth_enabled: bool = False,
    description: str | None = None, tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> int:  # fmt: skip
    """Ask for a service of a model or an image; returns its generation."""
    return int(
        call(
            connection, "deploy", model=model, service=name, target=target, image=image, compute_type=compute_type,
            config=jsonb(dict(config or {})), auth_enabled=auth_enabled, description=description, tags=jsonb(dict(tags or {})),
            properties=jsonb(dict(properties or {})), overwrite=overwrite, workspace=workspace,
        )
    )  # fmt: skip


def update(
    connection: Connection, workspace: str, name: str, *, model: str | None = None, image: str | None = None,
    config: Mapping[str, Any] | None = None, auth_enabled: bool | None = None, description: str | None = None,
    tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Ask for another version, or another configuration; returns the new generation."""
    said = {"config": config, "tags": tags, "properties": properties}
    objects = {key: None if value is None else jsonb(dict(value)) for key, value in said.items()}
    return int(
        call(
            connection, "update_service", service=name, model=model, image=image, auth_enabled=auth_enabled,
            description=description, workspace=workspace, **objects,
        )
    )  # fmt: skip


def set_candidate(
    connection: Connection, workspace: str, name: str, *, model: str | None = None, image: str | None = None,
    traffic_percent: float | None = None, shadow: bool | None = None, config: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Ask for a second version beside the one that serves, or change its share; returns its generation."""
    return int(
        call(
            connection, "set_candidate", service=name, model=model, image=image, traffic_percent=traffic_percent, shadow=shadow,
            config=None if config is None else jsonb(dict(config)), workspace=workspace,
        )
    )  # fmt: skip


def promote_candidate(connection: Connection, workspace: str, name: str) -> int:
    """Let the candidate take over; returns the new generation."""
    return int(call(connection, "promote_candidate", service=name, workspace=workspace))


def rollback(connection: Connection, workspace: str, name: str, generation: int | None = None) -> int:
    """Go back to what served before, or lose the candidate; returns the generation that serves from now on."""
    return int(call(connection, "rollback_service", service=name, generation=generation, workspace=workspace))


def candidate(connection: Connection, workspace: str, name: str) -> Row | None:
    """Return the row of a service's candidate, None where there is none."""
    query = sql.SQL(
        "select generation, models, image, traffic_percent, shadow, state, error, compared, differing, dropped,"
        " largest_difference, updated_at from dbml.service_candidates where workspace = %s and service = %s"
    )
    return one_row(connection, query, [workspace, name])


def versions(connection: Connection, workspace: str, name: str) -> list[Row]:
    """Return what a service was asked to serve, the newest first."""
    query = sql.SQL(
        "select generation, role, models, image, config, restores, created_at, created_by from dbml.service_versions"
        " where workspace = %s and service = %s order by generation desc"
    )
    return all_rows(connection, query, [workspace, name])


def comparisons(connection: Connection, workspace: str, name: str, limit: int) -> list[Row]:
    """Return what a service and its shadow answered to the same requests, the last first."""
    query = sql.SQL(
        "select generation, candidate, request_id, path, agrees, largest_difference, status, candidate_status, ms, candidate_ms,"
        " answer, candidate_answer, asked_at from dbml.service_comparisons where workspace = %s and service = %s"
        " order by asked_at desc limit %s"
    )
    return all_rows(connection, query, [workspace, name, limit])


def delete(connection: Connection, workspace: str, name: str) -> bool:
    """Delete a service; returns whether it was there."""
    return bool(call(connection, "delete_service", service=name, workspace=workspace))


def find(connection: Connection, workspace: str, name: str) -> Row | None:
    """Return a service's row, None where there is none."""
    return one_row(connection, _COLUMNS + sql.SQL(" and name = %(name)s"), {"workspace": workspace, "name": name})


def list_all(connection: Connection, workspace: str) -> list[Row]:
    """Return the services of a workspace by name."""
    return all_rows(connection, _COLUMNS + sql.SQL(" order by name"), {"workspace": workspace})


def keys(connection: Connection, workspace: str, name: str) -> tuple[str, str]:
    """Return the two keys."""
    query = sql.SQL("select primary_key, secondary_key from dbml.service_keys(service => %s, workspace => %s)")
    row = one_row(connection, query, [name, workspace])
    assert row is not None
    return str(row["primary_key"]), str(row["secondary_key"])


def regenerate_key(connection: Connection, workspace: str, name: str, key: str, value: str | None = None) -> str:
    """Replace the key Primary or Secondary; returns the new one."""
    return str(call(connection, "regenerate_key", service=name, key=key, value=value, workspace=workspace))


def report(connection: Connection, workspace: str, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a service is served; returns what is wanted of it."""
    query = sql.SQL("select dbml_channel.report_service(service => %s, report => %s, workspace => %s) as wanted")
    row = one_row(connection, query, [name, jsonb(dict(said)), workspace])
    assert row is not None
    return dict(row["wanted"])


def unserved(connection: Connection, called: Collection[tuple[str, str]] = ()) -> list[tuple[str, str, str]]:
    """Return the services, (workspace, name, target), that no runner has been heard of for a while, or those that are called for.

    One that was just deployed is left for a moment to a runner that its deployer may start.
    """
    query = sql.SQL(
        "select workspace, name, target from dbml.services where state not in ('Failed', 'Unschedulable')"
        " and (coalesce(seen_at, created_at) < now() - case when seen_at is null then interval '5 s' else interval '10 s' end"
        " or node is null and (workspace, name) in (select c ->> 0, c ->> 1 from jsonb_array_elements(%s) c))"
        " order by workspace, name"
    )
    rows = all_rows(connection, query, [jsonb([list(one) for one in called])])
    return [(str(row["workspace"]), str(row["name"]), str(row["target"])) for row in rows]


def look_after(connection: Connection, place: str) -> None:
    """Say, as long as the session lives, that what this role deploys at a place is served by whoever calls this.

    place: a machine and its Python, as a text.  Calls arrive as notifications of `CALLS`.
    """
    one_row(connection, sql.SQL("select pg_advisory_lock_shared(%s, hashtext(%s || current_user))"), [_LOCKS, place])
    connection.execute(sql.SQL("listen {}").format(sql.Identifier(CALLS)))


def call_who_looks(connection: Connection, place: str, workspace: str, name: str) -> bool:
    """Call for who looks after what this role deploys at a place to serve a service; returns whether there is somebody."""
    # An advisory lock of two numbers; pg_locks shows them as oids.  Source: PostgreSQL documentation, "pg_locks".
    query = sql.SQL(
        "select case when exists (select from pg_locks where locktype = 'advisory' and granted and objsubid = 2"
        " and database = (select oid from pg_database where datname = current_database()) and classid = %s"
        " and objid::bigint = hashtext(%s || current_user)::bit(32)::bigint)"
        " then pg_notify(%s, %s) is not null else false end as called"
    )
    row = one_row(connection, query, [_LOCKS, place, CALLS, json.dumps([workspace, name])])
    return row is not None and bool(row["called"])
