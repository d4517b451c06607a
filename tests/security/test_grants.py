"""Grants on workspaces and models, what they give beside the right itself, and the view that says who may do what."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dbml import errors

from .cast import MODEL, acting

Connection = psycopg.Connection[Any]


@pytest.fixture
def make_role(db: Connection) -> Iterator[Callable[..., str]]:
    """Make roles, members of the groups named."""
    made: list[str] = []

    def make(*groups: str, name: str = "somebody") -> str:
        made.append(f"{name}_{uuid.uuid4().hex[:8]}")
        db.execute(sql.SQL("create role {}").format(sql.Identifier(made[-1])))
        for group in groups:
            db.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(made[-1])))
        return made[-1]

    yield make
    db.execute("reset role")
    for name in reversed(made):
        db.execute("delete from dbml._workspaces where created_by = %s", [name])
        db.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


@pytest.fixture
def model(db: Connection) -> Iterator[str]:
    name = "line" + uuid.uuid4().hex[:8]
    db.execute("select dbml.register_model(%s, %s)", [name, MODEL])
    yield name
    db.execute("reset role")
    db.execute("delete from dbml._model_grants where name = %s", [name])
    db.execute("delete from dbml._models where name = %s", [name])


def test_a_grant_on_a_model_is_all_that_a_role_needs(db: Connection, model: str, make_role: Callable[..., str]) -> None:
    """A role without any other right: each way to score, and nothing that shows the model."""
    role = make_role()
    db.execute("select dbml.grant_model(%s, %s, 'predict')", [model, role])
    with acting(db, role):
        assert round(db.execute("select dbml.predict(%s, array[4.0])", [model]).fetchone()[0], 6) == 8  # type: ignore[index]
        assert db.execute("select dbml.predict_row(%s, jsonb_build_object('x', 1))", [model]).fetchone()
        assert db.execute(
            "select * from dbml.predict(%s, 'select 1.0::float8 as x') as t(x float8, prediction float8)", [model]
        ).fetchall()
        assert db.execute("select dbml.predict_json(%s, 'select 1.0::float8 as x')", [model]).fetchall()
        assert db.execute("select dbml.predict_into(%s, 'select 1.0::float8 as x', 'pg_temp.scored')", [model]).fetchone() == (1,)
        for shows in (
            "select dbml.model_bytes(%s)", "select * from dbml.models where name = %s", "select dbml_channel.find_model(%s)",
            "select dbml_channel._send_model(convert_to(%s, 'utf8'))", "select dbml.delete_model(%s)",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(shows, [model])
    # To a script the bytes go too.
    scripter = make_role()
    db.execute("select dbml.grant_model(%s, %s, 'predict')", [model, scripter])
    db.execute(sql.SQL("grant dbml_scripter to {}").format(sql.Identifier(scripter)))
    db.execute("select dbml.revoke_workspace('default', 'dbml_scripter')")
    try:
        with acting(db, scripter):
            (own,) = db.execute("select dbml.create_workspace(%s)", [f"of-{scripter}"]).fetchone()  # type: ignore[misc]
            assert own
            db.execute("select dbml.predict(%s, array[4.0])", [model])
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f'may not read model "{model}": it needs read'):
                db.execute("select dbml.model_bytes(%s)", [model])
            with pytest.raises(
                psycopg.errors.InsufficientPrivilege, match='may not write in workspace "default": it needs contributor'
            ):
                db.execute("select * from dbml.run_script('x = 1') as t(a int)")
    finally:
        db.execute("select dbml.grant_workspace('default', 'dbml_scripter', 'contributor')")


def test_the_last_grant_counts_and_revoking_ends_it(db: Connection, model: str, make_role: Callable[..., str]) -> None:
    group = make_role(name="group")
    member = make_role(group)
    db.execute("select dbml.grant_model(%s, %s, 'write')", [model, group])
    with acting(db, member):
        assert db.execute("select dbml.register_model(%s, %s)", [model, MODEL]).fetchone() == (2,)
        assert db.execute("select dbml.set_model_alias(%s, 'best')", [f"{model}:1"]).fetchone() == (1,)
        assert db.execute("select version from dbml.models where name = %s", [model]).fetchall() != []
        assert db.execute("select dbml.delete_model(%s)", [f"{model}:2"]).fetchone() == (2,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="it needs contributor"):
            db.execute("select dbml.register_model('another', %s)", [MODEL])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to role"):
            db.execute("select dbml.grant_model(%s, %s, 'write')", [model, member])
    db.execute("select dbml.grant_model(%s, %s, 'read')", [model, group])
    with acting(db, member):
        assert db.execute("select dbml.model_bytes(%s)", [model]).fetchone() == (MODEL,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="it needs write"):
            db.execute("select dbml.delete_model(%s)", [model])
    assert db.execute("select dbml.revoke_model(%s, %s)", [model, group]).fetchone() == (True,)
    assert db.execute("select dbml.revoke_model(%s, %s)", [model, group]).fetchone() == (False,)
    with acting(db, member):
        with pytest.raises(errors.ModelNotFound):
            db.execute("select dbml.model_bytes(%s)", [model])
        assert db.execute("select * from dbml.models where name = %s", [model]).fetchall() == []


def test_a_model_that_takes_a_deleted_ones_name_has_none_of_its_grants(
    db: Connection, model: str, make_role: Callable[..., str]
) -> None:
    role = make_role()
    db.execute("select dbml.grant_model(%s, %s, 'read')", [model, role])
    db.execute("select dbml.delete_model(%s)", [model])
    db.execute("select dbml.register_model(%s, %s)", [model, MODEL])
    with acting(db, role), pytest.raises(errors.ModelNotFound):
        db.execute("select dbml.model_bytes(%s)", [model])


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            "grant_model('{m}', 'pg_monitor', 'all')",
            errors.InvalidArgument,
            "privilege must be predict, read or write, got 'all'",
        ),
        ("grant_model('{m}', 'pg_monitor', null)", errors.InvalidArgument, "got NULL"),
        ("grant_model('{m}:1', 'pg_monitor', 'read')", errors.InvalidArgument, "whatever its version, got '{m}:1'"),
        ("grant_model('{m}', 'no such role', 'read')", psycopg.errors.UndefinedObject, 'role "no such role" does not exist'),
        ("grant_model('{m}', null, 'read')", psycopg.errors.UndefinedObject, "does not exist"),
        ("grant_model('not there', 'pg_monitor', 'read')", errors.ModelNotFound, "is not in workspace"),
        ("grant_model(null, 'pg_monitor', 'read')", errors.ModelNotFound, "is not in workspace"),
        (
            "grant_workspace('default', 'pg_monitor', 'write')",
            errors.InvalidArgument,
            "privilege must be owner, contributor, reader or predictor",
        ),
        ("grant_workspace('default', 'no such role', 'reader')", psycopg.errors.UndefinedObject, "does not exist"),
        ("grant_workspace('not there', 'pg_monitor', 'reader')", errors.WorkspaceNotFound, "does not exist"),
        ("revoke_workspace('not there', 'pg_monitor')", errors.WorkspaceNotFound, "does not exist"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(db: Connection, model: str, call: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.format(m=model).replace("(", r"\(")):
        db.execute(f"select dbml.{call.format(m=model)}")  # type: ignore[arg-type]


def test_quoted_names(db: Connection, make_role: Callable[..., str]) -> None:
    role = make_role(name='Größe "x" $1')
    owner = make_role("dbml_scripter", name="it's; drop")
    name = f"w '{owner}' \" ü"
    with acting(db, owner):
        db.execute("select dbml.create_workspace(%s)", [name])
        db.execute("select dbml.register_model('m ü', %s, workspace => %s)", [MODEL, name])
        db.execute("select dbml.grant_model('m ü', %s, 'predict', %s)", [role, name])
    with acting(db, role):
        db.execute("select set_config('dbml.workspace', %s, false)", [name])
        assert db.execute("select dbml.predict('m ü', array[1.0])").fetchone()
        with pytest.raises(errors.ModelNotFound):
            db.execute("select dbml.predict('other', array[1.0])")
        db.execute("reset dbml.workspace")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            db.execute(
                "select dbml_channel.require((select dbml_channel.find_workspace(%s, 'use')).id, 'write')".replace(
                    "(select dbml_channel.find_workspace(%s, 'use')).id", "(dbml_channel.find_workspace(%s, 'use')).id"
                ),
                [name],
            )
    # The hint is the command: run as the owner, it helps.
    hint = caught.value.diag.message_hint
    assert hint is not None
    with acting(db, owner):
        db.execute(hint)  # type: ignore[arg-type]
    with acting(db, role):
        assert db.execute("select dbml.register_model('mine', %s, workspace => %s)", [MODEL, name]).fetchone() == (1,)


def test_an_owner_gives_away_nothing_of_other_workspaces(db: Connection, model: str, make_role: Callable[..., str]) -> None:
    """The functions and views that come with a grant are the same everywhere; who may predict only sees no more by them."""
    owner, predictor = make_role("dbml_scripter"), make_role("dbml_predictor")
    name = f"of-{owner}"
    with acting(db, owner):
        db.execute("select dbml.create_workspace(%s)", [name])
        db.execute("select dbml.register_model('m', %s, workspace => %s)", [MODEL, name])
        db.execute("select dbml.grant_workspace(%s, %s, 'contributor')", [name, predictor])
        db.execute("select dbml.grant_workspace(%s, 'public', 'reader')", [name])
    with acting(db, predictor):
        assert db.execute("select distinct workspace from dbml.models").fetchall() == [(name,)]
        assert db.execute("select dbml.predict(%s, array[1.0])", [model]).fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="it needs read"):
            db.execute("select dbml.model_bytes(%s)", [model])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="run_script"):
            db.execute("select * from dbml.run_script('x = 1', workspace => %s) as t(a int)", [name])


def test_an_administrator_administers_all_of_it(db: Connection, make_role: Callable[..., str]) -> None:
    owner, administrator = make_role("dbml_scripter"), make_role("dbml_admin")
    name = f"of-{owner}"
    with acting(db, owner):
        db.execute("select dbml.create_workspace(%s)", [name])
        db.execute("select dbml.register_model('m', %s, workspace => %s)", [MODEL, name])
    with acting(db, administrator):
        assert db.execute("select dbml.model_bytes('m', %s)", [name]).fetchone() == (MODEL,)
        db.execute("select dbml.grant_workspace(%s, %s, 'reader')", [name, administrator])
        db.execute("select dbml.create_pool(%s)", [name])
        db.execute("select dbml.delete_pool(%s)", [name])
        assert db.execute("select count(*) from dbml.permissions where workspace = %s", [name]).fetchone()[0] >= 4  # type: ignore[index]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("select secret from dbml._worker")
    with acting(db, owner), pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute("select dbml.create_pool('mine')")


def test_permissions_say_who_may_do_what_and_why(db: Connection, model: str, make_role: Callable[..., str]) -> None:
    group = make_role(name="group")
    member = make_role(group, name="member")
    (me,) = db.execute("select session_user::text").fetchone()  # type: ignore[misc]
    db.execute("select dbml.grant_workspace('default', %s, 'contributor')", [group])
    db.execute("select dbml.grant_model(%s, %s, 'read')", [model, group])
    db.execute("select dbml.create_script('perm-' || %s, 'python', 'x = 1')", [group])
    db.execute("select dbml.grant_script('perm-' || %s, %s)", [group, member])
    db.execute("select dbml.grant_pool('default', %s)", [group])
    try:
        said = set(
            db.execute(
                "select role, action, object_type, workspace, object, reason, granted_by from dbml.permissions"
                " where role = any (%s) and object_type not in ('function', 'procedure', 'view')", [[group, member]],
            ).fetchall()
        )  # fmt: skip
        own: Any = {
            (group, "predict", "workspace", "default", "default", "is contributor", me),
            (group, "read", "workspace", "default", "default", "is contributor", me),
            (group, "write", "workspace", "default", "default", "is contributor", me),
            (group, "predict", "model", "default", model, "was granted read", me),
            (group, "read", "model", "default", model, "was granted read", me),
            (group, "use", "pool", None, "default", "was granted it", me),
        }
        through = {(member, *row[1:5], f"member of {group}, which {row[5]}", row[6]) for row in own}
        assert said == own | through | {(member, "run", "script", "default", f"perm-{group}", "was granted it", me)}
        may = db.execute(
            "select object from dbml.permissions where role = %s and object_type = 'function' and object ~ '^dbml\\.(register_model|run_script)\\('",
            [member],
        ).fetchall()
        assert len(may) == 1 and may[0][0].startswith("dbml.register_model"), "to run scripts is the operator's to grant"
        assert db.execute(
            "select distinct reason from dbml.permissions where role = %s and action = 'administer'", [me]
        ).fetchall() in ([("is a superuser",), ("owns the schema",)], [("owns the schema",), ("is a superuser",)])
        with acting(db, member):
            seen = db.execute("select distinct role from dbml.permissions").fetchall()
        assert {row[0] for row in seen} - {"public"} == {group, member}
    finally:
        db.execute("select dbml.revoke_workspace('default', %s)", [group])
        db.execute("select dbml.revoke_pool('default', %s)", [group])
        db.execute("select dbml.delete_script('perm-' || %s)", [group])


def test_roles_and_workspaces_agree_whichever_way_they_are_asked(db: Connection, make_role: Callable[..., str]) -> None:
    """may, workspace_role and workspaces are one predicate in three forms."""
    rank = {"predictor": 1, "reader": 2, "contributor": 3, "owner": 4}
    group, other = make_role(name="group"), make_role(name="other")
    owner = make_role("dbml_scripter")
    caller = make_role("dbml_scripter", group)
    with acting(db, owner):
        made = {
            (own, of_group): db.execute("select dbml.create_workspace(%s)", [f"{owner}-{own}-{of_group}"]).fetchone()[0]  # type: ignore[index]
            for own in (None, *rank)
            for of_group in (None, *rank)
        }  # fmt: skip
        for (own, of_group), _ in made.items():
            for role, privilege in ((caller, own), (group, of_group), (other, "owner")):
                if privilege:
                    db.execute("select dbml.grant_workspace(%s, %s, %s)", [f"{owner}-{own}-{of_group}", role, privilege])
    with acting(db, caller):
        for (own, of_group), number in made.items():
            held = max(rank.get(own or "", 0), rank.get(of_group or "", 0))
            name = next((name for name, value in rank.items() if value == held), None)
            assert db.execute("select dbml_channel.workspace_role(%s)", [number]).fetchone() == (name,)
            for needed, wanted in enumerate(("predict", "read", "write", "own"), 1):
                may, among = db.execute(
                    "select dbml_channel.may(%s, %s), %s in (select dbml_channel.workspaces(%s))",
                    [number, wanted, number, wanted],
                ).fetchone()  # type: ignore[misc]
                assert may is among is (held >= needed), (own, of_group, wanted)
