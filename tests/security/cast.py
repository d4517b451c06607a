"""A workspace with one of everything in it, and roles that stand in every relation to it."""

from __future__ import annotations

import hashlib
import pickle
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from sklearn.linear_model import LinearRegression

Connection = psycopg.Connection[Any]
MODEL = pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))
LOCK = "joblib==1.5.2\n"
SCRIPT = """
import pandas
run.log("mark", 1.0)
run.outputs["mark"] = pandas.DataFrame({"x": [1]})
open("f.txt", "w").write(mark)
run.upload_file("mark.txt", "f.txt")
run.load_model(mark)
OutputDataSet = [run.id]"""
# In how many ways a role can be related to a workspace; the strangers have every right that is not the workspace's.
GRANTED = ("predictor", "reader", "contributor", "owner")
ON_MODEL = ("predict", "read", "write")


@dataclass
class Cast:
    """mark: a word that stands in every row of the workspace, and nowhere else.  roles: by relation.

    run_id: of a run that is over; client: of one that the owner's program has begun; queued: see submitted().  upload: one
    that the owner has begun.  kept: predictions that the owner keeps, of the table t in the schema of the mark.
    """

    mark: str
    workspace_id: int
    run_id: str
    environment_id: int
    client: str
    snapshot: str
    upload: str
    kept: int
    queued: str | None = None
    roles: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, Any]:
        """Return what statements are formatted with."""
        return {
            "w": self.mark, "id": self.workspace_id, "run": self.run_id, "env": self.environment_id,
            "client": self.client, "queued": self.queued, "snapshot": self.snapshot, "upload": self.upload, "kept": self.kept,
            "hex": MODEL.hex(), **self.roles,
        }  # fmt: skip


@contextmanager
def acting(connection: Connection, role: str) -> Iterator[Connection]:
    """Act as a role, and as oneself again."""
    connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    try:
        yield connection
    finally:
        connection.execute("reset role")


@contextmanager
def staged(connection: Connection) -> Iterator[Cast]:
    """Make the workspace and the roles, and take them away again."""
    mark = "mark" + uuid.uuid4().hex[:8]
    roles = {relation: f"{relation}_{mark}" for relation in (*GRANTED, *(f"model_{p}" for p in ON_MODEL), "clerk", "stranger")}
    for role in roles.values():
        connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    for relation in ("reader", "contributor", "owner", "stranger"):
        connection.execute(
            sql.SQL("grant dbml_scripter, dbml_predictor, dbml_reader to {}").format(sql.Identifier(roles[relation]))
        )
    made: list[Any] = []
    try:
        with acting(connection, roles["owner"]):
            (workspace,) = connection.execute("select dbml.create_workspace(%s)", [mark]).fetchone()  # type: ignore[misc]
            for relation in ("predictor", "reader", "contributor"):
                connection.execute("select dbml.grant_workspace(%s, %s, %s)", [mark, roles[relation], relation])
            # From a file, so that there is one of it.
            connection.execute(
                "select dbml.register_model_files(%s, jsonb_build_array(jsonb_build_object('path', 'model.pkl', 'digest',"
                " encode(dbml.upload_bytes(%s), 'hex'))), format => 'pickle', alias => 'best', workspace => %s)", [mark, MODEL, mark],
            )  # fmt: skip
            connection.execute(
                "select dbml.create_script(%s, 'python', %s, workspace => %s)", [mark, f"# {mark}\nOutputDataSet = [1]", mark]
            )
            connection.execute("select dbml.grant_script(%s, %s, %s)", [mark, roles["clerk"], mark])
            for privilege in ON_MODEL:
                connection.execute(
                    "select dbml.grant_model(%s, %s, %s, %s)", [mark, roles[f"model_{privilege}"], privilege, mark]
                )
            (run_id,) = connection.execute(  # type: ignore[misc]
                "select * from dbml.run_script(%s, params => jsonb_build_object('mark', %s::text), workspace => %s, experiment => %s) as t(id uuid)",
                [f"# {mark}\n{SCRIPT}", mark, mark, mark],
            ).fetchone()
        with acting(connection, roles["owner"]):
            connection.execute(
                "select dbml.register_dataset(%s, 'query', '{\"query\": \"select 1 as x\"}', workspace => %s)", [mark, mark]
            )
            connection.execute("select dbml.write_file(%s, convert_to(%s, 'UTF8'), workspace => %s)", [mark, mark, mark])
            connection.execute(
                "select dbml.register_dataset('files-' || %s, 'file', '{\"paths\": []}', files => array[%s], workspace => %s)",
                [mark, mark, mark],
            )
            connection.execute("select dbml.register_datastore(%s, 'local', '/nowhere', workspace => %s)", [mark, mark])
            connection.execute("select dbml.link_dataset(%s, %s, 'mark', %s)", [run_id, mark, mark])
            connection.execute("select dbml.create_compute(%s, workspace => %s)", [mark, mark])
            connection.execute("select dbml_channel.keep_calibration(%s, 0.9, 1, 9, %s)", [mark, mark])
            snapshot, client, upload = (
                connection.execute(statement, values).fetchone()[0]  # type: ignore[index]
                for statement, values in (
                    ("select dbml.create_snapshot(jsonb_build_object('a.py', %s::text), workspace => %s)", [mark, mark]),
                    ("select dbml.start_run(%s, lasting => true, workspace => %s)", [mark, mark]),
                    ("select dbml.begin_upload()", []),
                )
            )
            connection.execute(
                "select dbml.log_metrics(%s, '{\"mark\": 1}', writer => gen_random_uuid(), sequence => 1)", [client]
            )
            connection.execute("select dbml.upload_part(%s, 0, 'x')", [upload])
        connection.execute(
            sql.SQL(
                "create schema {0} authorization {1}; create table {0}.t (id int primary key, x float8); alter table {0}.t owner to {1}"
            ).format(sql.Identifier(mark), sql.Identifier(roles["owner"]))
        )
        with acting(connection, roles["owner"]):
            connection.execute("select dbml.maintain_predictions(%s, %s || '.t', %s || '.kept', %s)", [mark] * 4)
        (kept,) = connection.execute(  # type: ignore[misc]
            "select maintained_id from dbml._maintained where workspace_id = %s", [workspace]
        ).fetchone()
        (environment,) = connection.execute(  # type: ignore[misc]
            "insert into dbml._environments (workspace_id, name, version, format, spec, python_version, lock, lock_sha256)"
            " values (%s, %s, 1, 'requirements', 'joblib', '3.11', %s, %s) returning environment_id",
            [workspace, mark, LOCK + f"# {mark}", hashlib.sha256(f"{LOCK}# {mark}".encode()).hexdigest()],
        ).fetchone()
        connection.execute("insert into dbml._log_chunks (run_id, ordinal, text) values (%s, 0, %s)", [run_id, mark])
        connection.execute(
            "with served as (insert into dbml._services (workspace_id, name, models, target, compute_type, auth_enabled, primary_key,"
            " secondary_key, created_by) values (%s, %s, array[%s || ':9'], 'process', 'Local', true, 'p', 's', 'x')"
            " returning workspace_id, service_id)"
            " insert into dbml._containers (workspace_id, service_id, generation, kind, identity)"
            " select workspace_id, service_id, 1, 'process', '1' from served",
            [workspace, mark, mark],
        )
        connection.execute(
            "with tried as (insert into dbml._service_versions (workspace_id, service_id, generation, role, models, config, created_by)"
            " select workspace_id, service_id, 2, 'candidate', models, '{}', 'x' from dbml._services where workspace_id = %s"
            " returning workspace_id, service_id, generation),"
            " compared as (insert into dbml._service_comparisons (workspace_id, service_id, generation, candidate, request_id, path,"
            " agrees, status, ms, asked_at) select workspace_id, service_id, 1, generation, 'r', '/score', true, 200, 1, now() from tried)"
            " insert into dbml._service_candidates (workspace_id, service_id, generation, traffic_percent, shadow)"
            " select workspace_id, service_id, generation, 10, false from tried",
            [workspace],
        )
        (image,) = connection.execute(  # type: ignore[misc]
            "insert into dbml._images (workspace_id, name, version, entry_script, environment_id, lock, created_by)"
            " values (%s, %s, 1, 'score.py', %s, %s, current_user) returning image_id",
            [workspace, mark, environment, LOCK],
        ).fetchone()
        connection.execute(
            "insert into dbml._image_files (image_id, path, digest) values (%s, 'score.py', dbml._store_blob('pass'))", [image]
        )
        connection.execute(
            "insert into dbml._image_models (image_id, ordinal, model_id)"
            " select %s, 1, m.model_id from dbml._models m where m.workspace_id = %s limit 1",
            [image, workspace],
        )  # fmt: skip
        made = [workspace]
        yield Cast(
            mark, workspace, str(run_id), environment, str(client), snapshot=snapshot, upload=str(upload), kept=kept, roles=roles
        )
    finally:
        connection.execute("reset role")
        for workspace in made:
            connection.execute("delete from dbml._runs where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._experiments where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._images where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._models where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._run_datasets where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._uploads where owner = any (%s)", [list(roles.values())])
        connection.execute("delete from dbml._workspaces where name = %s", [mark])
        for role in roles.values():
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


@contextmanager
def submitted(connection: Connection, cast: Cast) -> Iterator[None]:
    """Have the contributor submit a run, in a transaction that stays open: so no worker begins it."""
    with connection.transaction(force_rollback=True):
        with acting(connection, cast.roles["contributor"]):
            submit = "select dbml.submit_run(%s, %s, 'a.py', workspace => %s)"
            (cast.queued,) = connection.execute(submit, [cast.mark, cast.snapshot, cast.mark]).fetchone()  # type: ignore[misc]
        yield


# What of a table belongs to the workspace %(id)s: directly, by its run, or by its model.
SCOPE = {
    "workspace_id": "workspace_id = %(id)s",
    "run_id": "run_id in (select run_id from dbml._runs where workspace_id = %(id)s)",
    "image_id": "image_id in (select image_id from dbml._images where workspace_id = %(id)s)",
    "model_id": "model_id in (select model_id from dbml._models where workspace_id = %(id)s)",
}


def secured_tables(connection: Connection) -> dict[str, str]:
    """Return the tables that are secured by row, and what of each belongs to the workspace %(id)s."""
    query = """select c.oid::regclass::text, array_agg(a.attname::text) from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'r' and c.relrowsecurity group by 1 order by 1"""
    return {table: SCOPE[next(name for name in SCOPE if name in columns)] for table, columns in connection.execute(query)}


def fingerprint(connection: Connection, workspace_id: int) -> list[Any]:
    """Return the number of rows and a digest of all that belong to a workspace, table by table."""
    parts = [
        f"select '{table}', count(*), md5(string_agg(md5(t::text), '' order by t::text)) from {table} t where {scope}"
        for table, scope in secured_tables(connection).items()
    ]
    return connection.execute(" union all ".join(parts), {"id": workspace_id}).fetchall()  # type: ignore[arg-type]
