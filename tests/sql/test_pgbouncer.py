"""Behind PgBouncer in transaction mode: clients take turns on one connection of the server, and so on its link to the worker."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sklearn.linear_model import LinearRegression

from dbml.database.account import server_account
from dbml.dsn import make_uri, parse
from dbml.errors import WorkspaceNotFound

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
WHO = "SELECT * FROM dbml.run_script('OutputDataSet = {\"u\": [run.user]}') AS t(u text)"
SLOW = "SELECT * FROM dbml.run_script('import time; time.sleep(60)') AS t(a int)"
Client = Callable[..., psycopg.Connection[Any]]


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """A folder that PgBouncer's account can enter, and nobody else."""
    folder = Path(tempfile.mkdtemp(prefix="dbml-pgbouncer-"))
    if account := server_account():
        os.chown(folder, account.uid, account.gid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def client(shared: Any, module_folder: Path, login: Callable[[str], str]) -> Iterator[Client]:
    """Connect through a pooler: to `pooled`, whose clients all share one connection, or as a role, which has one of its own."""
    if PROGRAM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pgbouncer must be on this machine: see .ci/run")
        pytest.skip("there is no pgbouncer on this machine")
    behind = parse(shared.dsn)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    place = f"host={behind['host']} port={behind.get('port', 5432)} dbname={behind['dbname']}"
    owner = f"user={behind['user']} password='{behind['password']}'" if behind.get("password") else f"user={behind['user']}"
    users = module_folder / "users"
    users.write_text("".join(f'"{name}" "secret"\n' for name in ("anyone", login("one"), login("other"))))
    configuration = module_folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\npooled = {place} {owner}\neach = {place}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 1\n"
    )
    account = server_account()
    for file in (users, configuration):
        if account:
            os.chown(file, account.uid, account.gid)
        file.chmod(0o600)
    log = module_folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [PROGRAM, str(configuration)], cwd="/", stdout=stream, stderr=stream, **(account.process() if account else {})
        )
    opened: list[psycopg.Connection[Any]] = []

    def connect(database: str = "pooled", user: str = "anyone") -> psycopg.Connection[Any]:
        uri = make_uri({"host": "127.0.0.1", "port": port, "user": user, "password": "secret", "dbname": database})
        # No prepared statements of its own accord: a session's, and in transaction mode there is no session.
        opened.append(psycopg.connect(uri, autocommit=True, prepare_threshold=None, connect_timeout=10))
        return opened[-1]

    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                connect()
                break
            except psycopg.OperationalError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield connect
    finally:
        for connection in opened:
            connection.close()
        process.terminate()
        process.wait(20)


@pytest.fixture
def login(db: psycopg.Connection[Any]) -> Iterator[Callable[[str], str]]:
    """Make roles that may log in with the password 'secret'; the same word is the same role."""
    made: dict[str, str] = {}

    def make(word: str) -> str:
        if word not in made:
            made[word] = f"{word}_{uuid.uuid4().hex[:8]}"
            db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(made[word])))
        return made[word]

    yield make
    for name in made.values():
        db.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def roles(db: psycopg.Connection[Any], login: Callable[[str], str]) -> tuple[str, str]:
    """A role that may run scripts, and one that may only predict."""
    scripter, predictor = login("one"), login("other")
    db.execute(sql.SQL("GRANT dbml_scripter TO {}").format(sql.Identifier(scripter)))
    db.execute(sql.SQL("GRANT dbml_predictor TO {}").format(sql.Identifier(predictor)))
    return scripter, predictor


@pytest.fixture
def model(db: psycopg.Connection[Any]) -> Iterator[str]:
    name = f"line{uuid.uuid4().hex[:8]}"
    db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))))
    yield name
    db.execute("SELECT dbml.delete_model(%s)", (name,))


def as_role(connection: psycopg.Connection[Any], role: str, query: str, *parameters: Any) -> Any:
    """Run a query in a transaction as a role; returns its first cell."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        return connection.execute(query, parameters or None).fetchone()[0]  # type: ignore[index]


def backend(connection: psycopg.Connection[Any]) -> int:
    return connection.execute("SELECT pg_backend_pid()").fetchone()[0]  # type: ignore[index]


def test_scripts_and_predictions(client: Client, model: str) -> None:
    first, second = client(), client()
    for connection in (first, second, first):
        rows = connection.execute(
            "SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * f', input_query => 'SELECT 21 AS x', params => '{\"f\": 2}') AS t(x int)"
        )
        assert rows.fetchall() == [(42,)]
        assert round(connection.execute("SELECT dbml.predict(%s, array[4.0])", (model,)).fetchone()[0], 6) == 8  # type: ignore[index]
        scored = connection.execute(
            "SELECT r FROM dbml.predict_json(%s, 'SELECT g::float8 AS x FROM generate_series(1, 3) g') r", (model,)
        )
        assert [round(row["prediction"], 6) for (row,) in scored] == [2, 4, 6]
    assert backend(first) == backend(second)


def test_two_roles_in_turn_on_one_connection_are_told_apart(client: Client, roles: tuple[str, str], model: str) -> None:
    scripter, predictor = roles
    first, second = client(), client()
    for _ in range(3):
        assert as_role(first, scripter, WHO) == scripter
        assert round(as_role(second, predictor, "SELECT dbml.predict(%s, array[4.0])", model), 6) == 8
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_role(second, predictor, WHO)
        links = "SELECT dblink_get_connections()"
        assert first.execute(links).fetchone() == second.execute(links).fetchone() == (["dbml0"],)
    assert backend(first) == backend(second)
    assert first.execute(WHO).fetchone() == first.execute("SELECT current_user").fetchone()


def test_a_role_that_logs_in_is_the_caller(client: Client, roles: tuple[str, str]) -> None:
    scripter, predictor = roles
    assert client("each", scripter).execute(WHO).fetchone() == (scripter,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        client("each", predictor).execute(WHO)
    assert client("each", scripter).execute(WHO).fetchone() == (scripter,)


def test_what_one_client_breaks_off_the_next_does_not_get(client: Client, roles: tuple[str, str]) -> None:
    scripter, _ = roles
    first, second = client(), client()
    for timeout in ("300ms", "1s"):
        limited = f"SET LOCAL statement_timeout = '{timeout}'; {SLOW}"
        with pytest.raises(psycopg.errors.QueryCanceled):
            first.execute(limited)
        assert as_role(second, scripter, WHO) == scripter
    with pytest.raises(psycopg.DatabaseError, match="no"):
        first.execute("SELECT * FROM dbml.run_script('print(1); raise ValueError(\"no\")') AS t(a int)")
    assert as_role(second, scripter, WHO) == scripter


def test_a_client_that_goes_away_in_mid_call_leaves_nothing_behind(
    client: Client, roles: tuple[str, str], db: psycopg.Connection[Any]
) -> None:
    scripter, _ = roles
    first, second = client(), client()
    mark = uuid.uuid4().hex
    first.execute("BEGIN")
    first.execute("SET LOCAL client_connection_check_interval = '200ms'")  # else a server looks at its client when it writes
    first.pgconn.send_query(SLOW.replace("import time", f"# {mark}\nimport time").encode())
    running = "SELECT status FROM dbml.runs WHERE script LIKE %s"
    wait_for(lambda: db.execute(running, (f"%{mark}%",)).fetchall() == [("running",)])
    first.close()
    assert as_role(second, scripter, WHO) == scripter
    wait_for(lambda: db.execute(running, (f"%{mark}%",)).fetchall() not in ([("running",)], []))


def test_a_setting_of_the_transaction_holds_for_its_call_alone(client: Client) -> None:
    first, second = client(), client()
    where = "SELECT * FROM dbml.run_script('OutputDataSet = {\"w\": [run.workspace]}') AS t(w text)"
    name = f"w{uuid.uuid4().hex[:8]}"
    with first.transaction(force_rollback=True):
        first.execute("SELECT dbml.create_workspace(%s)", (name,))
        first.execute(f"SET LOCAL dbml.workspace = '{name}'")
        assert first.execute(where).fetchone() == (name,)
    assert second.execute(where).fetchone() == ("default",)


def test_rights_in_workspaces_and_on_models_go_by_who_asks(
    client: Client, db: psycopg.Connection[Any], login: Callable[[str], str]
) -> None:
    """Two owners and a role with one model, in turn on one backend: what one has set or may is not the next one's."""
    one, other, guest = login("one"), login("other"), login("guest")
    homes = {one: f"w{uuid.uuid4().hex[:8]}", other: f"w{uuid.uuid4().hex[:8]}"}
    first, second, third = client(), client(), client()
    for role, factor in ((one, 2.0), (other, 3.0)):
        db.execute(sql.SQL("GRANT dbml_scripter TO {}").format(sql.Identifier(role)))
        line = pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, factor]))
        with db.transaction():
            db.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            db.execute("SELECT dbml.create_workspace(%s)", (homes[role],))
            db.execute("SELECT dbml.register_model('line', %s, workspace => %s)", (line, homes[role]))
    try:
        with db.transaction():
            db.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(one)))
            db.execute("SELECT dbml.grant_model('line', %s, 'predict', %s)", (guest, homes[one]))
        predict = "SELECT round(dbml.predict('line', array[1.0])::numeric, 3)"
        where = "SELECT * FROM dbml.run_script('OutputDataSet = {\"w\": [run.user + run.workspace]}') AS t(w text)"
        for _ in range(3):
            # A setting for the session stays on the backend: the next client finds it, and no rights in it.
            first.execute(f"SET dbml.workspace = '{homes[one]}'")
            assert as_role(first, one, predict) == 2 and as_role(first, one, where) == one + homes[one]
            assert as_role(third, guest, predict) == 2
            for call in (where, "SELECT dbml.model_bytes('line')", "SELECT dbml.delete_model('line')"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    as_role(third, guest, call)
            for call in (predict, where, "SELECT dbml.model_bytes('line')", "SELECT dbml.delete_model('line')"):
                with pytest.raises(WorkspaceNotFound):
                    as_role(second, other, call)
            assert as_role(second, other, "SELECT count(*) FROM dbml.models WHERE workspace = %s", homes[one]) == 0
            second.execute(f"SET dbml.workspace = '{homes[other]}'")
            assert as_role(second, other, predict) == 3 and as_role(second, other, where) == other + homes[other]
            for role, call in ((one, predict), (one, where), (guest, predict)):
                with pytest.raises((WorkspaceNotFound, psycopg.errors.InsufficientPrivilege)):
                    as_role(first, role, call)
        assert backend(first) == backend(second) == backend(third)
        # Logged in as themselves, through a pooler of their own, the same.
        mine = client("each", one)
        mine.execute(f"SET dbml.workspace = '{homes[one]}'")
        assert mine.execute(predict).fetchone() == (2,)
        assert mine.execute("SELECT count(*) FROM dbml.workspaces WHERE name = %s", (homes[other],)).fetchone() == (0,)
    finally:
        first.execute("RESET dbml.workspace")
        db.execute(
            "DELETE FROM dbml._models WHERE workspace_id IN (SELECT workspace_id FROM dbml._workspaces WHERE name = ANY (%s))",
            (list(homes.values()),),
        )
        db.execute("DELETE FROM dbml._workspaces WHERE name = ANY (%s)", (list(homes.values()),))


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
