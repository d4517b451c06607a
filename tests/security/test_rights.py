"""Who may do what: nothing for PUBLIC, three roles, and private things for the owner alone."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbml import errors

SCRIPT = "SELECT * FROM dbml.run_script('OutputDataSet = {\"u\": [run.user]}') AS t(u text)"


@pytest.fixture
def stranger(db: psycopg.Connection[Any]) -> Iterator[str]:
    """An ordinary role without any rights on dbml."""
    name = "stranger_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {name} NOLOGIN")  # type: ignore[arg-type]
    yield name
    db.execute("RESET ROLE")
    db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")  # type: ignore[arg-type]


def test_public_has_nothing(db: psycopg.Connection[Any]) -> None:
    granted = db.execute(
        """SELECT 'schema ' || nspname FROM pg_namespace, aclexplode(nspacl) a WHERE nspname IN ('dbml', 'dbml_channel') AND a.grantee = 0
        UNION ALL SELECT 'table ' || relname FROM pg_class c, aclexplode(relacl) a
            WHERE relnamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace) AND a.grantee = 0
        UNION ALL SELECT 'function ' || proname FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
            WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace) AND a.grantee = 0"""
    ).fetchall()
    assert granted == []


def test_private_things_are_the_owners_alone(db: psycopg.Connection[Any]) -> None:
    granted = db.execute(
        """SELECT relname::text, grantee::regrole FROM pg_class c, aclexplode(relacl) a
            WHERE relnamespace = 'dbml'::regnamespace AND relname LIKE '\\_%' AND grantee <> relowner
                AND grantee IS DISTINCT FROM to_regrole('dbml_worker')  -- what that has: test_worker_login
        UNION ALL SELECT proname::text, grantee::regrole FROM pg_proc p, aclexplode(proacl) a
            WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace) AND proname LIKE '\\_%'
                AND grantee <> proowner
                AND (grantee IS DISTINCT FROM to_regrole('dbml_worker') OR proname !~ '_v[0-9]+$')"""
    ).fetchall()
    assert granted == []


def test_every_definer_function_pins_its_search_path_and_says_why(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT p.oid::regprocedure::text, p.proconfig, obj_description(p.oid, 'pg_proc') IS NOT NULL FROM pg_proc p
        WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace) AND prosecdef"""
    ).fetchall()
    assert rows and [r for r in rows if "search_path=pg_catalog, pg_temp" not in (r[1] or [])] == []
    assert [r[0] for r in rows if not r[2]] == []


def test_dblink_is_called_where_it_is_and_nowhere_else(db: psycopg.Connection[Any]) -> None:
    """Everybody may put a function of that name into a schema that is on the path; PostgreSQL 14 lets them into public."""
    rows = db.execute(
        r"""SELECT p.oid::regprocedure::text, p.prosecdef, n.nspname,
            regexp_replace(p.prosrc, '--[^\n]*', '', 'g') ~ ('(^|[^.\w])' || e.function || '\s*[(]') AS anywhere
        FROM pg_proc p, (SELECT extnamespace, proname::text AS function
            FROM pg_depend JOIN pg_extension x ON refclassid = 'pg_extension'::regclass AND refobjid = x.oid AND extname = 'dblink'
            JOIN pg_proc ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid) e
            JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace)
            AND regexp_replace(p.prosrc, '--[^\n]*', '', 'g') ~ (e.function || '\s*[(]')"""
    ).fetchall()
    assert rows and [row for row in rows if row[3] or not row[1]] == []


def test_every_view_is_a_security_barrier(db: psycopg.Connection[Any]) -> None:
    rows = db.execute(
        """SELECT relname, coalesce(reloptions, '{}') @> '{security_barrier=true}' FROM pg_class
        WHERE relkind = 'v' AND relnamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace)"""
    ).fetchall()
    assert rows and [name for name, barrier in rows if not barrier] == []


def test_what_listens_and_routes_has_loaded_nothing_that_unpickles_or_runs_a_script() -> None:
    """By whatever way; the linter knows only modules that it was told of."""
    program = """
import sys
import dbml.worker.router
unwanted = ('pickle', 'cloudpickle', 'joblib', 'sklearn', 'skops', 'pandas', 'numpy', 'dbml.columns', 'dbml.engines',
    'dbml.formats.load', 'dbml.formats.safe', 'dbml.worker.satellite', 'dbml.worker.scorer', 'dbml.worker.script',
    'dbml.worker.submitted_script', 'dbml.worker.inspector', 'dbml.worker.zygote')
print([name for name in unwanted if name in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_everything_public_has_its_manual_entry(db: psycopg.Connection[Any]) -> None:
    missing = db.execute(
        """SELECT p.oid::regprocedure::text FROM pg_proc p WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace)
            AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'dbml'::regnamespace AND relkind = 'v'
            AND obj_description(c.oid, 'pg_class') IS NULL"""
    ).fetchall()
    assert missing == []


def test_the_listed_overloads_are_all_there_are(db: psycopg.Connection[Any]) -> None:
    twice = db.execute(
        "SELECT proname::text FROM pg_proc WHERE pronamespace IN ('dbml'::regnamespace, 'dbml_channel'::regnamespace)"
        " GROUP BY proname HAVING count(*) > 1"
    ).fetchall()
    assert sorted(twice) == [("explain_prediction",), ("predict",)]


@pytest.mark.parametrize(
    "statement",
    [
        SCRIPT, "SELECT dbml.predict('m', array[1.0])", "SELECT * FROM dbml.models", "SELECT dbml.register_model('m', '\\x00')",
        "SELECT secret FROM dbml._worker", "SELECT dbml_channel.ping()",
        "SELECT * FROM dbml_channel.open_call('{\"kind\": \"script\"}')", "SELECT dbml._store_blob('\\x00')",
    ],
)  # fmt: skip
def test_a_stranger_may_do_nothing(db: psycopg.Connection[Any], stranger: str, statement: str) -> None:
    db.execute(f"SET ROLE {stranger}")  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(statement)  # type: ignore[arg-type]


def test_a_predictor_scores_and_runs_no_script(db: psycopg.Connection[Any], stranger: str) -> None:
    db.execute(f"GRANT dbml_predictor TO {stranger}; SET ROLE {stranger}")  # type: ignore[arg-type]
    with pytest.raises(errors.ModelNotFound):
        db.execute("SELECT dbml.predict('not-there', array[1.0]::float8[])")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(SCRIPT)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not run scripts"):
        db.execute('SELECT * FROM dbml_channel.open_call(\'{"kind": "script", "script": "x"}\')')
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute("SELECT dbml.register_model('m', '\\x00')")


def test_a_reader_sees_the_views_and_nothing_else(db: psycopg.Connection[Any], stranger: str) -> None:
    db.execute(f"GRANT dbml_reader TO {stranger}; SET ROLE {stranger}")  # type: ignore[arg-type]
    for view in ("workspaces", "datasets", "models", "experiments", "runs", "metrics", "artifacts", "environments"):
        db.execute(f"SELECT * FROM dbml.{view}")  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(SCRIPT)


def test_a_scripter_runs_scripts_as_itself(db: psycopg.Connection[Any], stranger: str) -> None:
    db.execute(f"GRANT dbml_scripter TO {stranger}; SET ROLE {stranger}")  # type: ignore[arg-type]
    assert db.execute(SCRIPT).fetchall() == [(stranger,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute("SELECT secret FROM dbml._worker")


def test_the_open_connection_takes_no_unsigned_replayed_or_altered_request(db: psycopg.Connection[Any]) -> None:
    db.execute(SCRIPT)
    assert db.execute("SELECT dblink_get_connections()").fetchone() == (["dbml0"],)
    header = '{"kind": "script", "script": "x = 1", "user": "postgres", "nonce": "n", "expires": 9999999999, "protocol": 1}'
    for message in (f"open {'0' * 64} {header}", f"open {header}", 'rows {"n": 1}', "run {}"):
        with pytest.raises(psycopg.DatabaseError) as caught:
            db.execute("SELECT * FROM dblink('dbml0', %s) AS t(tag text, head text, body text)", (message + "\n",))
        assert str(caught.value.sqlstate) in ("ML012", "ML013", "XX000"), message
    assert db.execute(SCRIPT).fetchone() is not None


def test_a_request_is_accepted_once(db: psycopg.Connection[Any]) -> None:
    db.execute(SCRIPT)
    signed = db.execute(
        """WITH made AS (SELECT jsonb_build_object('kind', 'ping', 'protocol', 1, 'user', 'u', 'session_user', 'u',
                'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60)::text AS header)
        SELECT 'open ' || encode(sha256(outer_key || sha256(inner_key || convert_to(header, 'UTF8'))), 'hex') || ' ' || header
        FROM made, dbml._worker"""
    ).fetchone()
    send = "SELECT tag FROM dblink('dbml0', %s) AS t(tag text, head text, body text)"
    assert db.execute(send, signed).fetchone() == ("pong",)
    with pytest.raises(errors.WorkerRefused, match="seen before"):
        db.execute(send, signed)


def test_the_script_sees_no_secret(db: psycopg.Connection[Any], dsn: str) -> None:
    (password,) = db.execute("SELECT password FROM dbml._worker").fetchone()  # type: ignore[misc]
    rows = db.execute(
        """SELECT * FROM dbml.run_script($$
import fcntl, os

def is_open(number):
    try:
        return bool(fcntl.fcntl(number, fcntl.F_GETFD) >= 0)
    except OSError:
        return False

try:
    environ = open("/proc/self/environ", "rb").read().decode("latin-1").replace(chr(0), " ")
except PermissionError:  # concealed, and not root's
    environ = ""
OutputDataSet = {"t": [str(dict(os.environ)), environ, str(sum(map(is_open, range(4096)))), os.getcwd(),
    oct(os.stat(".").st_mode & 0o777)]}
$$) AS t(t text)"""
    ).fetchall()
    texts = [row[0] for row in rows]
    assert all(password not in text and "postgres" not in text.lower() for text in texts[:2])
    assert int(texts[2]) <= 5, "0, 1, 2, the router's socket, and the printing pipe"
    assert ("satellite-" in texts[3] or texts[3] == "/scratch") and texts[4] == "0o700"


def test_a_request_made_by_hand_gets_no_more_than_its_function_gives(db: psycopg.Connection[Any]) -> None:
    made = """dbml_channel.script_request('OutputDataSet = [run.id]', 'SELECT 1 AS x', '{}', '{}', 'python', 'InputDataSet',
        'OutputDataSet', null, null, null, 2, null, null, null, null, null)"""
    forged = f"""SELECT * FROM dbml_channel.run_call({made} || '{{"result": "json", "backend_pid": 1, "parallel": 1000000}}')"""
    with pytest.raises(errors.InvalidArgument, match="parallel must be 1 to 64"):
        db.execute(forged)
    kept = """'{"result": "json", "backend_pid": 1}'"""
    (literals,) = db.execute(f"SELECT * FROM dbml_channel.run_call({made} || {kept})").fetchone()  # type: ignore[misc]
    (pid,) = db.execute("SELECT backend_pid FROM dbml.runs ORDER BY started_at DESC LIMIT 1").fetchone()  # type: ignore[misc]
    assert pid == db.info.backend_pid and literals
