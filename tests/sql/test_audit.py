"""What is recorded of a script, and what is not: who, from where, what; and no secret."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from dbml import errors
from dbml.cli.worker_process import WorkerProcess

Db = psycopg.Connection[Any]
SECRET = "correct horse 'battery' \"stäple\"\\"
PARAMS = Jsonb(
    {
        "password": {"$secret": SECRET},
        "pin": {"$secret": 12345678},
        "alpha": 0.5,
        "tree": {"a": [1, {"$secret": "hidden-inside"}]},
    }
)
SHOWN = {"password": {"$secret": True}, "pin": {"$secret": True}, "alpha": 0.5, "tree": {"a": [1, {"$secret": True}]}}


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def role(db: Db) -> Iterator[str]:
    name = "role_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {name}; GRANT dbml_scripter TO {name}")  # type: ignore[arg-type]
    yield name
    db.execute("RESET ROLE")
    db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")  # type: ignore[arg-type]


def run_of(db: Db, mark: str) -> dict[str, Any]:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        (row,) = cursor.execute("SELECT * FROM dbml.runs WHERE script LIKE %s", (f"%{mark}%",)).fetchall()
    return row


def test_a_run_says_who_from_where_what_and_how(db: Db, dsn: str, role: str, mark: str) -> None:
    db.execute("SELECT set_config('application_name', 'the audit', false)")
    session = db.execute("SELECT session_user, current_database(), pg_backend_pid(), host(inet_client_addr())").fetchone()
    db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
    script = f"# {mark}\nOutputDataSet = InputDataSet[['x']]"
    db.execute(
        "SELECT * FROM dbml.run_script(%s, 'SELECT g % 3 AS k, g AS x FROM generate_series(1, 9) g', '{\"more\": \"SELECT 1 AS one\"}',"
        " partition_by => '{k}', order_by => '{x desc}', parallel => 2, timeout => '1 min', experiment => 'audited')"
        " AS t(k int, x int)".replace("% 3", "%% 3"), (script,)
    ).fetchall()  # fmt: skip
    db.execute("RESET ROLE")
    run = run_of(db, mark)
    assert (run["username"], run["session_username"], run["database"], run["backend_pid"], run["client_address"]) == (
        role,
        *session[:3],
        session[3],
    )  # type: ignore[index]
    assert run["application"] == "the audit" and run["script_sha256"] == hashlib.sha256(script.encode()).hexdigest()
    assert {given["name"]: given["query"] for given in run["inputs"]} == {
        "InputDataSet": "SELECT g % 3 AS k, g AS x FROM generate_series(1, 9) g", "more": "SELECT 1 AS one",
    }  # fmt: skip
    assert (run["status"], run["rows_in"], run["rows_out"], run["pool"], run["experiment"]) == (
        "completed",
        10,
        9,
        "default",
        "audited",
    )
    options = run["options"]
    limits = options.pop("limits")
    assert options == {
        "partition_by": ["k"], "order_by": ["x desc"], "parallel": 2, "timeout_s": 60, "input_name": "InputDataSet",
        "output_name": "OutputDataSet", "result": "table",
    }  # fmt: skip
    assert limits["memory_mb"] >= 1024 and limits["network"] is False and limits["timeout_s"] is None


def test_a_call_that_is_refused_is_recorded(db: Db, role: str, mark: str) -> None:
    db.execute("SELECT dbml.create_pool(%s)", (f"p{mark}",))
    db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
    with pytest.raises(errors.PoolDenied):
        db.execute("SELECT * FROM dbml.run_script(%s, pool => %s, params => %s) AS t(x int)", (f"# {mark}", f"p{mark}", PARAMS))
    db.execute("RESET ROLE")
    run = run_of(db, mark)
    assert (run["status"], run["sqlstate"], run["username"], run["pool"]) == ("failed", "ML061", role, f"p{mark}")
    assert f"role {role} may not use the pool" in run["error"] and run["params"] == SHOWN and run["finished_at"] is not None
    db.execute("SELECT dbml.delete_pool(%s)", (f"p{mark}",))


def test_one_too_many_is_recorded(server: Any, mark: str) -> None:
    name = server.create(server.template())
    worker = server.start_worker(server.dsn(name), "--max-scripts", "1")
    try:
        with (
            psycopg.connect(server.dsn(name), autocommit=True) as db,
            psycopg.connect(server.dsn(name), autocommit=True) as other,
        ):
            inner = "dbml_channel.open_call(dbml_channel.script_request('x', null, '{}', '{}', 'python', 'i', 'o', null, null, null, 1, null, null, null, null, null) || '{\"inputs\": [], \"result\": \"json\"}')"
            db.execute(f"SELECT * FROM {inner}")  # type: ignore[arg-type]
            with pytest.raises(errors.TooManyScripts):
                other.execute("SELECT * FROM dbml.run_script(%s) AS t(x int)", (f"# {mark}",))
            run = run_of(db, mark)
            assert (run["status"], run["sqlstate"]) == ("failed", "ML015")
    finally:
        worker.stop()
        server.drop(name)


@pytest.mark.parametrize("language", ["python", pytest.param("r", marks=pytest.mark.needs_r)])
def test_a_secret_is_seen_by_the_script_and_by_nobody_else(db: Db, mark: str, language: str) -> None:
    notices: list[str] = []
    db.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
    script = {
        "python": "# {0}\nprint('it is', password, [password], pin)\nrun.tag('t', password)\nassert tree['a'][1][::-1] == 'edisni-neddih'\n"
                  "OutputDataSet = {{'n': [len(password)]}}",
        "r": "# {0}\ncat('it is', password, pin, '\\n')\nrun$tag('t', password)\nOutputDataSet <- data.frame(n = nchar(password))",
    }[language].format(mark)  # fmt: skip
    params = (
        PARAMS if language == "python" else Jsonb({"password": {"$secret": SECRET}, "pin": {"$secret": 12345678}, "alpha": 0.5})
    )
    call = "SELECT * FROM dbml.run_script(%s, params => %s, language => %s) AS t(n int)"
    assert db.execute(call, (script, params, language)).fetchone() == (len(SECRET),)
    run = run_of(db, mark)
    assert run["params"] == {name: value for name, value in SHOWN.items() if language == "python" or name != "tree"}
    assert "it is ***" in run["log"] and "it is ***" in "".join(notices)
    kept = db.execute("SELECT r::text FROM dbml._runs r WHERE run_id = %s", (run["run_id"],)).fetchone()
    for told in (str(kept), str(notices), str(run)):
        assert "horse" not in told and "12345678" not in told and "hidden-inside" not in told
    assert run["tags"] == {"t": "***"}


@pytest.mark.parametrize(
    "ending",
    ["raise ValueError(f'cannot log in with {password}')", "raise ValueError([password])", "{}[password]", "1 / 0  # stäple is no secret",
     "import json; raise RuntimeError(json.dumps({'pw': password}))", "int(password)", "import sys; sys.exit(password)",
     "raise ValueError('x') from KeyError(password)"],
)  # fmt: skip
def test_an_error_has_no_secret(db: Db, mark: str, ending: str) -> None:
    with pytest.raises(errors.ScriptFailed) as caught:
        db.execute("SELECT * FROM dbml.run_script(%s, params => %s) AS t(n int)", (f"# {mark}\n{ending}", PARAMS))
    run = run_of(db, mark)
    told = f"{caught.value} {caught.value.detail} {caught.value.context} {run}"
    assert "horse" not in told and "battery" not in told and run["status"] == "failed"
    assert "***" in told or "1 / 0" in ending


def test_a_short_secret_is_not_recorded_and_not_masked(db: Db, mark: str) -> None:
    db.execute(
        "SELECT * FROM dbml.run_script(%s, params => %s) AS t(n int)",
        (f"# {mark}\nprint('a word')", Jsonb({"p": {"$secret": "a"}})),
    )
    run = run_of(db, mark)
    assert run["params"] == {"p": {"$secret": True}} and run["log"] == "a word\n"


def test_names_and_tables_have_no_secret(db: Db, mark: str) -> None:
    script = f"""# {mark}
run.log(password, 1)
run.log_table('t', {{'who': [password]}})
run.tag(password, 'x')
open('f', 'w').write('x')
run.upload_file(password, 'f')
run.outputs[password] = [1]"""
    db.execute(
        "SELECT * FROM dbml.run_script(%s, params => %s) AS t(n int)", (script, Jsonb({"password": {"$secret": "correct-horse"}}))
    )
    run = str(run_of(db, mark)["run_id"])
    for view, named in (("metrics", 1), ("artifacts", 2), ("outputs", 1), ("runs", 1)):
        told = db.execute(f"SELECT v::text FROM dbml.{view} v WHERE run_id = %s", (run,)).fetchall()  # type: ignore[arg-type]
        assert len(told) >= named and "***" in str(told) and "horse" not in str(told), view


def test_a_secret_at_the_cut_of_a_long_log(db: Db, mark: str) -> None:
    script = f"# {mark}\nimport sys\nfor n in range(60): print('x' * 9990 + password)"
    secret = "0123456789abcdef"
    db.execute("SELECT * FROM dbml.run_script(%s, params => %s) AS t(n int)", (script, Jsonb({"password": {"$secret": secret}})))
    log = run_of(db, mark)["log"]
    assert all(secret[:n] not in log for n in (4, 16)) and "***" in log


def test_output_parameters_hide_what_was_given_as_a_secret(db: Db, mark: str) -> None:
    (params,) = db.execute(f"CALL dbml.execute_script('# {mark}', params => %s)", (PARAMS,)).fetchone()  # type: ignore[arg-type, misc]
    assert params == SHOWN
    assert run_of(db, mark)["params"] == SHOWN
    with pytest.raises(errors.InvalidArgument, match="must be text or a number"):
        db.execute("CALL dbml.execute_script('x = 1', params => %s)", (Jsonb(params),))


@pytest.mark.parametrize("params", ['{"p": {"$secret": null}}', '{"p": {"$secret": "a", "b": 1}}', '{"p": [{"$secret": {}}]}'])
def test_a_secret_is_text_or_a_number(db: Db, params: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="must be text or a number, alone in its object") as caught:
        db.execute("SELECT * FROM dbml.run_script('x = 1', params => %s) AS t(x int)", (params,))
    db.execute("SELECT * FROM dbml.run_script('x = 1', params => %s) AS t(x int)", (caught.value.hint,))


def test_a_stored_script_takes_a_secret_and_keeps_none(db: Db, mark: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="must not hold a secret") as caught:
        db.execute("SELECT dbml.create_script(%s, 'python', 'x = 1', params => %s)", (mark, PARAMS))
    assert "$secret" in str(caught.value.hint)
    db.execute(
        "SELECT dbml.create_script(%s, 'python', %s, params => '{\"password\": null}')",
        (mark, f"# {mark}\nOutputDataSet = [password]"),
    )
    found = db.execute(
        "SELECT * FROM dbml.run_stored(%s, params => %s) AS t(x text)", (mark, Jsonb({"password": {"$secret": SECRET}}))
    ).fetchone()
    assert found == (SECRET,) and run_of(db, mark)["params"] == {"password": {"$secret": True}}
    db.execute("SELECT dbml.delete_script(%s)", (mark,))


def test_no_log_of_the_worker_has_it(server: Any, mark: str) -> None:
    name = server.create(server.template())
    dsn = server.dsn(name)
    folder = Path(server.folder, f"audit-{mark}")
    worker = WorkerProcess(dsn, folder, options=("--log-level", "debug"))
    worker.start()
    try:
        worker.wait_ready()
        with psycopg.connect(dsn, autocommit=True) as db:
            for ending in (
                "raise ValueError(password)",
                "print(password); import os; os.kill(os.getpid(), 9)",
                "len(password).x",
            ):
                with pytest.raises(errors.ScriptFailed) as caught:
                    db.execute("SELECT * FROM dbml.run_script(%s, params => %s) AS t(x int)", (f"# {mark}\n{ending}", PARAMS))
                assert "horse" not in str(caught.value)
            assert db.execute("SELECT count(*) FROM dbml.runs WHERE script LIKE %s", (f"%{mark}%",)).fetchone() == (3,)
            text = db.execute("SELECT string_agg(r::text, ' ') FROM dbml._runs r").fetchone()
            assert "horse" not in str(text)
    finally:
        worker.stop()
        server.drop(name)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert all(b"horse" not in file.read_bytes() for file in files)


def test_the_command_line_takes_secrets_from_the_environment(dsn: str, db: Db, mark: str, tmp_path: Path) -> None:
    script, file = tmp_path / "script.py", tmp_path / "params.json"
    script.write_text(f"# {mark}\nprint(password == 'from the shell', alpha, beta)")
    file.write_text('{"beta": [1, 2]}')

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dbml.cli", "run", str(script), "--dsn", dsn, *options], capture_output=True, text=True, timeout=60,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PASSWORD": "from the shell"},
        )  # fmt: skip

    done = run("--secret", "password=@PASSWORD", "--param", "alpha=0.5", "--param-file", str(file))
    assert done.returncode == 0 and "True 0.5 [1, 2]" in done.stderr + done.stdout, done.stderr
    assert run_of(db, mark)["params"] == {"password": {"$secret": True}, "alpha": 0.5, "beta": [1, 2]}
    for options, said in (
        (("--secret", "password=@NOT_THERE"), "no variable NOT_THERE"),
        (("--secret", "password"), "must be name=value"),
        (("--secret", "a=1", "--param", "a=1"), "given twice"),
        (("--param-file", str(script)), "must be JSON"),
    ):
        refused = run(*options)
        assert refused.returncode != 0 and said in refused.stderr, refused.stderr
