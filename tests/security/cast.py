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
OutputDataSet = [run.id]"""
# In how many ways a role can be related to a workspace; the strangers have every right that is not the workspace's.
GRANTED = ("predictor", "reader", "contributor", "owner")
ON_MODEL = ("predict", "read", "write")


@dataclass
class Cast:
    """mark: a word that stands in every row of the workspace, and nowhere else.  roles: by relation."""

    mark: str
    workspace_id: int
    run_id: str
    environment_id: int
    roles: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, Any]:
        """Return what statements are formatted with."""
        return {
            "w": self.mark, "id": self.workspace_id, "run": self.run_id, "env": self.environment_id,
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
            connection.execute("select dbml.register_model(%s, %s, alias => 'best', workspace => %s)", [mark, MODEL, mark])
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
        (environment,) = connection.execute(  # type: ignore[misc]
            "insert into dbml._environments (workspace_id, name, version, format, spec, python_version, lock, lock_sha256)"
            " values (%s, %s, 1, 'requirements', 'joblib', '3.11', %s, %s) returning environment_id",
            [workspace, mark, LOCK + f"# {mark}", hashlib.sha256(f"{LOCK}# {mark}".encode()).hexdigest()],
        ).fetchone()
        made = [workspace]
        yield Cast(mark, workspace, str(run_id), environment, roles)
    finally:
        connection.execute("reset role")
        for workspace in made:
            connection.execute("delete from dbml._runs where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._experiments where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._models where workspace_id = %s", [workspace])
            connection.execute("delete from dbml._run_datasets where workspace_id = %s", [workspace])
        connection.execute("delete from dbml._workspaces where name = %s", [mark])
        for role in roles.values():
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


# What of a table belongs to the workspace %(id)s: by its run, or directly.
SCOPE = ("run_id in (select run_id from dbml._runs where workspace_id = %(id)s)", "workspace_id = %(id)s")


def scoped_tables(connection: Connection) -> set[str]:
    """Return the tables that name a workspace themselves."""
    query = """select c.oid::regclass::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'workspace_id'
        where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'r'"""
    return {row[0] for row in connection.execute(query)}


def fingerprint(connection: Connection, workspace_id: int) -> list[Any]:
    """Return the number of rows and a digest of all that belong to a workspace, table by table."""
    direct = scoped_tables(connection)
    secured = connection.execute(
        "select oid::regclass::text from pg_class where relnamespace = 'dbml'::regnamespace and relkind = 'r' and relrowsecurity"
    ).fetchall()
    parts = [
        f"select '{table}', count(*), md5(string_agg(md5(t::text), '' order by t::text)) from {table} t where {SCOPE[table in direct]}"
        for (table,) in sorted(secured)
    ]
    return connection.execute(" union all ".join(parts), {"id": workspace_id}).fetchall()  # type: ignore[arg-type]
