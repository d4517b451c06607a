"""Revision 0006: whoever could use what was there still can, and what is made from then on is its maker's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg import sql

from dbml.database import install as module
from dbml.database.install import install

from ..security.cast import MODEL


@pytest.fixture
def roles(server: Any) -> Iterator[dict[str, str]]:
    """Roles of every kind that there was before: members of the groups, and some to which the owner granted by hand."""
    made = {
        kind: f"{kind}_{next(server.numbers)}"
        for kind in ("scripter", "predictor", "reader", "writes", "predicts", "looks", "clerk", "maker")
    }
    for group in ("dbml_scripter", "dbml_predictor", "dbml_reader"):
        server.run(f"do $$ begin if to_regrole('{group}') is null then create role {group}; end if; end $$")
    for name in made.values():
        server.run(f"create role {name}")
    for kind in ("scripter", "predictor", "reader"):
        server.run(f"grant dbml_{kind} to {made[kind]}")
    yield made
    for name in made.values():
        server.run(f"drop role {name}")


def test_nobody_loses_what_he_had(roles: dict[str, str], empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection: object) -> None:
        config = module._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")

    with monkeypatch.context() as before:
        before.setattr(module, "_migrate", migrate)
        before.setattr(module, "sql_files", list)
        install(empty)
    with psycopg.connect(empty) as owner:
        owner.execute(
            "insert into dbml._workspaces (name, created_by) values ('old', %s), ('orphan', 'nobody any more')", [roles["maker"]]
        )
        owner.execute(
            "insert into dbml._runs (run_id, workspace_id, workspace, username, session_user_, status, started_at, finished_at)"
            " select gen_random_uuid(), workspace_id, name, 'me', 'me', 'completed', now(), now() from dbml._workspaces"
        )
        owner.execute("insert into dbml._chunks values (sha256(%s), %s)", [MODEL, MODEL])
        owner.execute("insert into dbml._blobs values (sha256(%s), octet_length(%s))", [MODEL, MODEL])
        owner.execute("insert into dbml._blob_chunks values (sha256(%s), 0, sha256(%s))", [MODEL, MODEL])
        owner.execute(
            "insert into dbml._models (workspace_id, name, version, digest) select workspace_id, 'm', 1, sha256(%s) from dbml._workspaces",
            [MODEL],
        )
        owner.execute(
            "insert into dbml._script_grants (workspace_id, name, grantee, granted_by) values (1, 's', %s, 'me')",
            [roles["clerk"]],
        )
        # Of what sql/ made then, that which the owner has granted by hand.
        for name, kind in (("register_model", "writes"), ("predict", "predicts"), ("run_stored", "clerk")):
            owner.execute(f"create function dbml.{name}() returns int language sql as 'select 1'")  # type: ignore[arg-type]
            owner.execute(f"grant execute on function dbml.{name}() to {roles[kind]}")  # type: ignore[arg-type]
        owner.execute("create view dbml.models_before as select 1 as a")
        owner.execute(f"grant select on dbml.models_before to {roles['looks']}")  # type: ignore[arg-type]
    install(empty)
    with psycopg.connect(empty, autocommit=True) as db:
        held = {
            (kind, workspace): held_by(db, role, workspace) for kind, role in roles.items() for workspace in ("default", "old", "orphan")
        }  # fmt: skip
        expected = {
            "scripter": "contributor", "writes": "contributor", "reader": "reader", "predictor": "predictor", "predicts": "predictor",
            "looks": "reader", "clerk": None, "maker": None,
        }  # fmt: skip
        assert held == {(kind, w): expected[kind] for kind in roles for w in ("default", "old", "orphan")} | {
            ("maker", "old"): "owner"
        }
        db.execute(f"set role {roles['reader']}")  # type: ignore[arg-type]
        assert db.execute("select workspace from dbml.runs order by 1").fetchall() == [("default",), ("old",), ("orphan",)]
        assert db.execute("select workspace, dbml.model_bytes('m', workspace) = %s from dbml.models order by 1", [MODEL]).fetchall() == [
            ("default", True), ("old", True), ("orphan", True)]  # fmt: skip
        db.execute(f"reset role; set role {roles['scripter']}")  # type: ignore[arg-type]
        db.execute("select dbml.create_workspace('new')")
        db.execute(f"reset role; set role {roles['reader']}")  # type: ignore[arg-type]
        assert db.execute("select name from dbml.workspaces order by 1").fetchall() == [("default",), ("old",), ("orphan",)]
        # Again, and it stays as it is, an owner's change included.
        db.execute("reset role")
        db.execute("select dbml.revoke_workspace('old', 'dbml_reader')")
    install(empty)
    with psycopg.connect(empty, autocommit=True) as db:
        assert held_by(db, roles["reader"], "old") is None and held_by(db, roles["reader"], "orphan") == "reader"


def held_by(db: psycopg.Connection[Any], role: str, workspace: str) -> Any:
    with db.transaction(force_rollback=True):
        (number,) = db.execute("select workspace_id from dbml._workspaces where name = %s", [workspace]).fetchone()  # type: ignore[misc]
        db.execute(
            "grant usage on schema dbml_channel to public; grant execute on function dbml_channel.workspace_role(bigint) to public"
        )
        db.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        return db.execute("select dbml_channel.workspace_role(%s)", [number]).fetchone()[0]  # type: ignore[index]
