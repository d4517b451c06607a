"""The caller is who PostgreSQL says: what is forged, altered, replayed or wrapped gives nobody more than he has."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import psycopg
import pytest
from psycopg import sql

from dbml import errors
from dbml.dsn import make_uri, parse

from .cast import MODEL, Cast, acting, staged

Connection = psycopg.Connection[Any]
REQUEST = """dbml_channel.script_request({script}, null, '{{}}', '{{}}', 'python', 'InputDataSet', 'OutputDataSet',
    null, null, null, 1, null, null, null, {workspace}, null)"""


@pytest.fixture
def cast(db: Connection) -> Iterator[Cast]:
    """Yield the workspace and its roles."""
    with staged(db) as made:
        yield made


def request(script: str, workspace: str) -> str:
    return REQUEST.format(script="$s$" + script + "$s$", workspace=f"'{workspace}'")


def test_a_signed_request_altered_in_any_part_is_refused(db: Connection) -> None:
    db.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(a int)")  # opens the link
    (line,) = db.execute(  # type: ignore[misc]
        """with made as (select jsonb_build_object('kind', 'ping', 'protocol', 1, 'user', 'u', 'session_user', 'u',
                'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60)::text as header)
        select 'open ' || encode(sha256(outer_key || sha256(inner_key || convert_to(header, 'utf8'))), 'hex') || ' ' || header
        from made, dbml._worker"""
    ).fetchone()
    verb, signature, header = line.split(" ", 2)
    known = json.loads(header)
    send = "select tag from dblink('dbml0', %s) as t(tag text, head text, body text)"
    for key, value in (
        ("user", "postgres"),
        ("kind", "cancel"),
        ("nonce", "another"),
        ("expires", known["expires"] + 1),
        ("more", 1),
    ):
        with pytest.raises(errors.WorkerRefused, match="not signed"):
            db.execute(send, [f"{verb} {signature} {json.dumps(known | {key: value})}"])
    with pytest.raises(errors.WorkerRefused, match="not signed"):
        db.execute(send, [f"{verb} {signature} {header} "])
    assert db.execute(send, [line]).fetchone() == ("pong",)


def test_private_functions_are_nobodys(db: Connection, cast: Cast) -> None:
    private = db.execute(
        """select p.oid::regprocedure::text from pg_proc p where p.proname ~ '^_'
        and p.pronamespace in ('dbml'::regnamespace, 'dbml_channel'::regnamespace)"""
    ).fetchall()
    assert len(private) > 10
    for role in cast.roles.values():
        may = db.execute(
            "select f from unnest(%s::text[]) f where has_function_privilege(%s, f, 'execute')",
            [[row[0] for row in private], role],
        ).fetchall()
        assert may == []


def test_a_request_that_names_another_workspace_is_checked_there(db: Connection, cast: Cast) -> None:
    forged = json.dumps({"workspace_id": cast.workspace_id, "workspace": cast.mark, "result": "json"})
    honest = request("OutputDataSet = [1]", "default")
    with acting(db, cast.roles["stranger"]):
        for change in (forged, json.dumps({"workspace_id": 0}), json.dumps({"workspace_id": None})):
            with pytest.raises(errors.WorkspaceNotFound):
                db.execute(f"select * from dbml_channel.run_call({honest} || '{change}')")  # type: ignore[arg-type]
    # The name goes by the number, and an environment of elsewhere is none.
    forged = json.dumps({
        "workspace_id": cast.workspace_id, "workspace": "default", "result": "json", "user": "postgres",
        "environment": {"id": 0, "name": "x", "lock_sha256": "00"},
    })  # fmt: skip
    with acting(db, cast.roles["contributor"]):
        db.execute(f"select * from dbml_channel.run_call({honest} || '{forged}')")  # type: ignore[arg-type]
    run = "select workspace, username, environment from dbml.runs where workspace = %s order by started_at desc limit 1"
    assert db.execute(run, [cast.mark]).fetchone() == (cast.mark, cast.roles["contributor"], None)


def test_a_stored_script_that_one_may_run_is_no_way_to_repeat_other_runs(db: Connection, cast: Cast) -> None:
    with acting(db, cast.roles["owner"]):
        db.execute("select dbml.grant_script(%s, %s, %s)", [cast.mark, cast.roles["reader"], cast.mark])
    forged = json.dumps({"stored_script": cast.mark, "replay_of": cast.run_id, "result": "json"})
    with acting(db, cast.roles["reader"]), pytest.raises(psycopg.errors.InsufficientPrivilege, match="it needs contributor"):
        db.execute(f"select * from dbml_channel.run_call({request('x = 1', cast.mark)} || '{forged}')")  # type: ignore[arg-type]


def test_a_run_in_a_workspace_that_was_rolled_back_is_an_administrators_to_see(db: Connection, cast: Cast) -> None:
    name = f"gone-{cast.mark}"
    with db.transaction(force_rollback=True):
        db.execute(sql.SQL("set local role {}").format(sql.Identifier(cast.roles["stranger"])))
        db.execute("select dbml.create_workspace(%s)", [name])
        db.execute("select * from dbml.run_script('OutputDataSet = [1]', workspace => %s) as t(a int)", [name])
    query = "select status from dbml.runs where workspace = %s"
    assert db.execute(query, [name]).fetchall() == [("completed",)]
    with acting(db, cast.roles["owner"]):
        assert db.execute(query, [name]).fetchall() == []
    db.execute("delete from dbml._runs where workspace = %s", [name])


def test_whoever_knows_a_digest_does_not_get_the_bytes(db: Connection, cast: Cast) -> None:
    """A model is registered by the bytes that its script sends, not by the digest that somebody names."""
    (digest,) = db.execute("select encode(sha256(%s), 'hex')", [MODEL]).fetchone()  # type: ignore[misc]
    script = "run.register_model('mine', {'a': 1})"
    with acting(db, cast.roles["stranger"]):
        for head in (
            {"name": "stolen", "digest": digest, "size": len(MODEL)},
            {"name": "poison", "digest": "ab" * 32, "size": 16},
        ):
            db.execute("begin")
            made = request(script, "default")
            db.execute(f'select * from dbml_channel.open_call({made} || \'{{"inputs": [], "result": "json"}}\')')  # type: ignore[arg-type]
            for _ in range(200):
                tags = [row[0] for row in db.execute("select tag from dbml_channel.exchange('run {}')").fetchall()]
                if "register" in tags:
                    break
            assert "register" in tags, tags
            with pytest.raises(psycopg.DatabaseError, match="do not match their digest"):
                db.execute("select dbml_channel.receive_model(%s::jsonb, 1)", [json.dumps(head)])
            db.execute("rollback")
        # By itself it does what it says.
        db.execute("begin")
        db.execute("select * from dbml.run_script(%s) as t(a int)", [script + "\nOutputDataSet = [1]"])
        assert db.execute("select version from dbml.models where name = 'mine'").fetchall() != []
        db.execute("rollback")


def test_what_runs_with_anothers_rights_has_not_his_workspaces(db: Connection, cast: Cast) -> None:
    """A view, a definer's function, an operator and a search_path of one's own."""
    owner, stranger = (sql.Identifier(cast.roles[name]) for name in ("owner", "stranger"))
    with db.transaction(force_rollback=True):
        db.execute(sql.SQL("create schema wrapped; grant all on schema wrapped to {}, {}").format(owner, stranger))
        with acting(db, cast.roles["owner"]):
            db.execute("create view wrapped.models as select * from dbml.models; grant select on wrapped.models to public")
            db.execute(
                f"create function wrapped.bytes() returns bytea language sql security definer as $$select dbml.model_bytes('{cast.mark}', '{cast.mark}')$$"  # type: ignore[arg-type]
            )
        with acting(db, cast.roles["stranger"]):
            query = "select count(*) from wrapped.models where workspace = %s"
            assert db.execute(query, [cast.mark]).fetchone() == (0,)
            with pytest.raises(errors.WorkspaceNotFound), db.transaction():
                db.execute("select wrapped.bytes()")
            # A caller() of one's own, before the real one in the search path.
            db.execute("create function wrapped.pg_has_role(text, oid, text) returns bool language sql as 'select true'")
            db.execute("create function wrapped.current_setting(text) returns text language sql as $$select 'postgres'$$")
            db.execute("create function wrapped.eq(text, text) returns bool language sql as 'select true'")
            db.execute("create operator wrapped.= (leftarg = text, rightarg = text, function = wrapped.eq)")
            db.execute("set local search_path = wrapped, pg_catalog")
            assert db.execute("select dbml_channel.caller(), dbml_channel.may(%s, 'read')", [cast.workspace_id]).fetchone() == (
                cast.roles["stranger"], False)  # fmt: skip
            assert db.execute(
                "select count(*) from dbml.runs where workspace operator(pg_catalog.=) %s", [cast.mark]
            ).fetchone() == (0,)
            with pytest.raises(errors.WorkspaceNotFound), db.transaction():
                db.execute("select dbml.model_bytes(%s, %s)", [cast.mark, cast.mark])


def test_who_has_logged_in_becomes_nobody_else(db: Connection, cast: Cast, dsn: str) -> None:
    stranger, owner = cast.roles["stranger"], cast.roles["owner"]
    db.execute(sql.SQL("alter role {} login password 'secret'").format(sql.Identifier(stranger)))
    become = f"select set_config(''role'', ''{owner}'', true), 1.0::float8 as x"
    with psycopg.connect(make_uri({**parse(dsn), "user": stranger, "password": "secret"}), autocommit=True) as connection:
        for attempt in (
            f"set role {owner}", f"set session authorization {owner}", f"select set_config('role', '{owner}', false)",
            f"select * from dbml.run_script('OutputDataSet = [1]', input_query => '{become}') as t(a int)",
            f"select set_config('session_authorization', '{owner}', false)",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt)  # type: ignore[arg-type]
        # On its own connection to the worker it can say nothing at all, or nothing that is believed.
        connection.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(a int)")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, errors.WorkerError)):
            connection.execute("select * from dblink('dbml0', 'run {}') as t(a text)")
        for said in ("open " + "0" * 64 + ' {"kind": "active", "user": "postgres"}', "run {}", "rows {}", "nonsense"):
            with pytest.raises(psycopg.DatabaseError) as caught:
                connection.execute("select * from dbml_channel.exchange(%s)", [said + "\n"])
            assert caught.value.sqlstate in ("ML012", "ML013"), (said, caught.value)
            connection.execute("select dbml_channel.abandon('57014', ''), dbml_channel.connect()")
        assert connection.execute("select * from dbml.run_script('OutputDataSet = [run.user]') as t(u text)").fetchone() == (
            stranger,
        )
        for look in ("select dbml.model_bytes(%s, %s)", "select dbml_channel.find_workspace(%s), %s"):
            with pytest.raises(errors.WorkspaceNotFound):
                connection.execute(look, [cast.mark, cast.mark])


def test_a_running_script_is_seen_and_stopped_by_whom_its_workspace_lets_in(
    db: Connection, connect: Callable[[], Connection], cast: Cast
) -> None:
    mark = f"import time  # {cast.mark} runs\ntime.sleep(60)"
    said: list[Any] = []

    def run() -> None:
        with connect() as other:
            other.execute(sql.SQL("set role {}").format(sql.Identifier(cast.roles["contributor"])))
            try:
                other.execute("select * from dbml.run_script(%s, workspace => %s) as t(a int)", [mark, cast.mark])
            except psycopg.Error as error:
                said.append(error.sqlstate)

    thread = threading.Thread(target=run)
    thread.start()
    running = "select run_id from dbml.active_scripts where script = %s and status = 'running'"
    deadline = time.monotonic() + 30
    while (row := db.execute(running, [mark]).fetchone()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for relation in ("stranger", "reader"):
        with acting(db, cast.roles[relation]):
            assert (db.execute(running, [mark]).fetchone() is not None) is (relation == "reader")
            assert db.execute("select dbml.cancel_script(%s)", [row[0]]).fetchone() == (False,)
            # By hand no more than through the view.
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute('select * from dbml_channel._open_call(\'{"kind": "active"}\')')
    with acting(db, cast.roles["owner"]):
        assert db.execute("select dbml.cancel_script(%s)", [row[0]]).fetchone() == (True,)
    thread.join(30)
    assert said == ["57014"]


def test_a_run_that_is_not_ones_own_is_no_models_origin(db: Connection, cast: Cast) -> None:
    """Neither by naming it, nor by a script of one's own whose word is altered on its way."""
    call = "select dbml.register_model('forged', %s, run_id => %s)"
    for role, error in (("stranger", errors.RunNotFound), ("reader", psycopg.errors.InsufficientPrivilege)):
        with acting(db, cast.roles[role]):
            for origin in (cast.run_id, cast.client):
                with pytest.raises(error):
                    db.execute(call, [MODEL, origin])
                files = "select dbml.register_model_files('forged', jsonb_build_array(jsonb_build_object('path', 'p', 'digest', encode(dbml.upload_bytes('x'), 'hex'))), run_id => %s)"
                with pytest.raises(error):
                    db.execute(files, [origin])
    with acting(db, cast.roles["stranger"]):
        db.execute("begin")
        made = request("run.register_model('mine', {'a': 1})", "default")
        db.execute(f'select * from dbml_channel.open_call({made} || \'{{"inputs": [], "result": "json"}}\')')  # type: ignore[arg-type]
        head = None
        for _ in range(200):
            heard = db.execute("select tag, head from dbml_channel.exchange('run {}')").fetchall()
            head = next((json.loads(told) for tag, told in heard if tag == "register"), None)
            if head is not None:
                break
        assert head is not None and head["proof"]
        db.execute("savepoint before")
        with pytest.raises(errors.RunNotFound):
            db.execute("select dbml_channel.receive_model(%s::jsonb, 1)", [json.dumps(head | {"run_id": cast.run_id})])
        db.execute("rollback")
        # Of one's own runs it is told as ever; so it is by who may write where the run was.
        db.execute("begin")
        db.execute("select * from dbml.run_script('run.register_model(''mine'', {''a'': 1})') as t(a int)")
        (own,) = db.execute("select run_id from dbml.models where name = 'mine'").fetchone()  # type: ignore[misc]
        db.execute("rollback")
        db.execute("begin")
        db.execute(call, [MODEL, own])
        db.execute("rollback")
    with acting(db, cast.roles["contributor"]):
        db.execute("begin")
        db.execute(call, [MODEL, cast.run_id])
        db.execute("rollback")


class Slow:
    """A model that waits for as many seconds as its first feature says."""

    def predict(self, rows: Any) -> Any:
        import time as clock

        clock.sleep(float(rows[0][0]))
        return [float(len(rows[0]))]


def test_long_messages_of_all_sessions_have_room_together_and_no_more(installed: str, server: Any) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    worker = server.start_worker(installed, "--messages-mb", "4")
    measure = "select * from dbml.run_script('OutputDataSet = [InputDataSet.v.str.len()[0]]', input_query => %s) as t(n int)"
    value = "select repeat('x', {}) as v"
    try:
        with psycopg.connect(installed, autocommit=True) as one, psycopg.connect(installed, autocommit=True) as two:
            assert one.execute(measure, [value.format(600_000)]).fetchone() == (600_000,)
            with pytest.raises(psycopg.errors.OutOfMemory, match=r"no room for a message of 1.* MB now") as caught:
                one.execute(measure, [value.format(6_000_000)])
            assert "--messages-mb" in str(caught.value.diag.message_hint)
            # The session goes on, and what was refused has left nothing behind.
            for session in (one, two):
                assert session.execute(measure, [value.format(600_000)]).fetchone() == (600_000,)
            # Whatever is not signed is held to it as well.
            with pytest.raises(psycopg.errors.OutOfMemory):
                two.execute("select * from dblink('dbml0', 'open ' || repeat('0', 5000000)) as t(tag text, head text, body text)")
            assert two.execute(measure, [value.format(10)]).fetchone() == (10,)
            # A message has its room until it is answered, though SQL is told every now and then to wait.
            one.execute("select dbml.register_model('slow', %s)", [cloudpickle.dumps(Slow())])
            predict = "select dbml.predict('slow', array[%s] || array(select random() from generate_series(2, 120000)))"
            assert two.execute(predict, [0.0]).fetchone() == (120_000,)
            answers: list[Any] = []
            waiting = threading.Thread(target=lambda: answers.append(one.execute(predict, [6.0]).fetchone()))
            waiting.start()
            time.sleep(3)
            with pytest.raises(psycopg.errors.OutOfMemory):
                two.execute(predict, [0.0])
            assert answers == []
            waiting.join(30)
            assert answers == [(120_000,)] and two.execute(predict, [0.0]).fetchone() == (120_000,)
    finally:
        worker.stop()


def test_the_worker_takes_no_more_of_a_model_than_was_announced(db: Connection) -> None:
    part = "select tag from dblink('dbml0', %s) as t(tag text, head text, body text)"
    db.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(a int)")  # opens the link
    db.execute("select dbml_channel.abandon('ML000', 'it is over')")
    (announced,) = db.execute("select digest from dbml._store_blob('12345') digest").fetchone()  # type: ignore[misc]
    for sent in ("part {}\n00", "part {}\nzz"):
        with pytest.raises(errors.ProtocolMismatch):
            db.execute(part, [sent])
    db.execute("select dbml_channel._announce_model(%s)", [announced])
    assert db.execute(part, ["part {}\n" + "00" * 5]).fetchone() == ("ok",)
    with pytest.raises(errors.ProtocolMismatch, match="must be expected"):
        db.execute(part, ["part {}\n00"])
    db.execute("select dbml_channel._announce_model(%s)", [announced])
    db.execute("select dbml_channel.abandon('ML000', 'enough')")
    with pytest.raises(errors.ProtocolMismatch, match="must be expected"):
        db.execute(part, ["part {}\n00"])
    db.execute("delete from dbml._blob_chunks where blob = %s", [announced])
    db.execute("delete from dbml._blobs where digest = %s", [announced])
