"""Resource pools: who makes them, who uses which, and what becomes of a script over a limit."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from dbml import errors

Db = psycopg.Connection[Any]
RUN = "SELECT * FROM dbml.run_script(%s, pool => %s) AS t(x int)"
MADE = {
    "memory_mb": 64, "cpu_seconds": 1, "processes": 6, "scratch_mb": 4, "output_mb": 1, "timeout": "1500 ms", "concurrency": 1,
}  # fmt: skip


def wait_until(probe: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, "it must come in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def make(db: Db) -> Iterator[Callable[..., str]]:
    """Make pools; they are gone at the end."""
    made = []

    def make(**limits: Any) -> str:
        name = "pool-" + uuid.uuid4().hex[:8]
        given = "".join(f", {key} => %({key})s" for key in limits)
        db.execute(f"SELECT dbml.create_pool(%(name)s{given})", {"name": name, **limits})  # type: ignore[arg-type]
        made.append(name)
        return name

    yield make
    db.execute("RESET ROLE")
    for name in made:
        db.execute("SELECT dbml.delete_pool(name) FROM dbml.pools WHERE name = %s", (name,))


@pytest.fixture
def roles(db: Db) -> Iterator[Callable[..., str]]:
    """Make roles that may run scripts, members of others; they are gone at the end."""
    made: list[str] = []

    def make(*groups: str) -> str:
        name = "role_" + uuid.uuid4().hex[:8]
        db.execute(f"CREATE ROLE {name}; GRANT dbml_scripter TO {name}")  # type: ignore[arg-type]
        for group in groups:
            db.execute(f"GRANT {group} TO {name}")  # type: ignore[arg-type]
        made.append(name)
        return name

    yield make
    db.execute("RESET ROLE")
    for name in reversed(made):
        db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")  # type: ignore[arg-type]


def pool_of(db: Db, role: str, pool: str | None = None) -> str:
    """Run a script as a role and return the pool that it ran in."""
    db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
    try:
        (run_id,) = db.execute(
            "SELECT * FROM dbml.run_script('OutputDataSet = [run.id]', pool => %s) AS t(x uuid)", (pool,)
        ).fetchone()  # type: ignore[misc]
    finally:
        db.execute("RESET ROLE")
    return str(db.execute("SELECT pool FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone()[0])  # type: ignore[index]


# -- making ------------------------------------------------------------------------------------------------------------


def test_a_pool_is_made_changed_and_deleted(db: Db, make: Callable[..., str]) -> None:
    name = make(memory_mb=64, timeout="5 min", network=True)
    columns = "memory_mb, cpu_seconds, timeout::text, concurrency, network, granted_to, running, queued"
    show = f"SELECT {columns} FROM dbml.pools WHERE name = %s"
    assert db.execute(show, (name,)).fetchone() == (64, None, "00:05:00", None, True, [], 0, 0)  # type: ignore[arg-type]
    db.execute("SELECT dbml.alter_pool(%s, %s)", (name, '{"timeout": null, "cpu_seconds": 9, "network": false}'))
    assert db.execute(show, (name,)).fetchone() == (64, 9, None, None, False, [], 0, 0)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="exists") as caught:
        db.execute("SELECT dbml.create_pool(%s)", (name,))
    db.execute(str(caught.value.hint))  # type: ignore[arg-type]
    db.execute("SELECT dbml.delete_pool(%s)", (name,))
    for again in (
        "dbml.delete_pool(%s)",
        "dbml.alter_pool(%s, '{}')",
        "dbml.grant_pool(%s, 'public')",
        "dbml.revoke_pool(%s, 'x')",
    ):
        with pytest.raises(errors.PoolNotFound, match=name):
            db.execute(f"SELECT {again}", (name,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("create_pool('p', memory_mb => 0)", "memory_mb must be more than zero, got 0"),
        ("create_pool('p', concurrency => -1)", "concurrency must be more than zero, got -1"),
        ("create_pool('p', timeout => '0 s')", "timeout must be more than zero"),
        ("create_pool('p', network => null)", "network must be true or false"),
        ("create_pool('p:1')", "none of : @ /"),
        ("create_pool(null)", "got NULL"),
        ("create_pool('default')", "exists"),
        ("delete_pool('default')", "must be there"),
        ("alter_pool('default', '[]')", "must be a JSON object"),
        ("alter_pool('default', '{\"memory\": 1}')", 'no limit "memory"'),
        ("alter_pool('default', '{\"memory_mb\": \"much\"}')", "are no limits"),
        ("alter_pool('default', '{\"processes\": 0}')", "processes must be more than zero"),
    ],
)
def test_what_makes_no_sense_is_refused(db: Db, statement: str, said: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=said):
        db.execute(f"SELECT dbml.{statement}")  # type: ignore[arg-type]


def test_administrators_alone_make_pools(db: Db, roles: Callable[..., str], make: Callable[..., str]) -> None:
    pool, role = make(), roles()
    db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
    for statement in (
        "create_pool('mine')", f"alter_pool('{pool}', '{{}}')", f"delete_pool('{pool}')",
        f"grant_pool('{pool}', '{role}')", f"revoke_pool('{pool}', '{role}')",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"role {role} may not"):
            db.execute(f"SELECT dbml.{statement}")  # type: ignore[arg-type]
    for private in ("dbml_channel._choose_pool('default', 'postgres')", "dbml_channel._memberships('postgres')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(f"SELECT {private}")  # type: ignore[arg-type]
    assert db.execute("SELECT count(*) FROM dbml.pools WHERE name = %s", (pool,)).fetchone() == (1,)


def test_a_pool_is_granted_to_a_role_that_is_there(db: Db, make: Callable[..., str]) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match="nobody_of_that_name"):
        db.execute("SELECT dbml.grant_pool(%s, 'nobody_of_that_name')", (make(),))


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_the_default_is_the_nearest_roles(db: Db, make: Callable[..., str], roles: Callable[..., str]) -> None:
    mine, near, far, other = make(), make(), make(), make()
    company = roles()
    team, guild = sorted((roles(company), roles()))
    db.execute(f"GRANT {company} TO {team}; GRANT {company} TO {guild}") if team > guild else None  # type: ignore[func-returns-value, arg-type]
    person = roles(team, guild)
    grant = "SELECT dbml.grant_pool(%s, %s, as_default => %s)"
    assert pool_of(db, person) == "default"
    db.execute(grant, (far, company, True))
    assert pool_of(db, person) == far
    db.execute(grant, (other, guild, True))
    assert pool_of(db, person) == other
    db.execute(grant, (near, team, True))
    assert pool_of(db, person) == near, "of two that are as near, the first by name"
    db.execute(grant, (mine, person, True))
    assert pool_of(db, person) == mine
    assert [pool_of(db, person, name) for name in (near, far, other)] == [near, far, other], "members may use them all"
    db.execute("SELECT dbml.revoke_pool(%s, %s)", (mine, person))
    assert pool_of(db, person) == near
    assert db.execute("SELECT granted_to, default_of FROM dbml.pools WHERE name = %s", (near,)).fetchone() == ([team], [team])
    db.execute(grant, (mine, team, True))
    assert pool_of(db, person) == mine, "a role has one default, the last that was said"
    assert pool_of(db, person, near) == near, "and may still use the other"


def test_a_role_with_a_default_of_its_own_may_not_use_the_pool_default(
    db: Db, make: Callable[..., str], roles: Callable[..., str]
) -> None:
    pool, role, stranger = make(), roles(), roles()
    db.execute("SELECT dbml.grant_pool(%s, %s, as_default => true)", (pool, role))
    with pytest.raises(errors.PoolDenied, match=f'role {role} may not use the pool "default"') as caught:
        pool_of(db, role, "default")
    assert caught.value.detail == {"pool": "default", "role": role, "own": pool}
    with pytest.raises(errors.PoolDenied) as caught:
        pool_of(db, stranger, pool)
    assert f"SELECT dbml.grant_pool('{pool}', '{stranger}')" in str(caught.value.hint)
    assert pool_of(db, stranger) == "default"
    db.execute("SELECT dbml.grant_pool('default', %s)", (role,))
    assert pool_of(db, role, "default") == "default" and pool_of(db, role) == pool
    db.execute("SELECT dbml.revoke_pool('default', %s)", (role,))


def test_the_request_says_nothing_of_limits(db: Db, make: Callable[..., str], roles: Callable[..., str]) -> None:
    pool, role = make(memory_mb=64), roles()
    db.execute("SELECT dbml.grant_pool(%s, %s, as_default => true)", (pool, role))
    db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
    forged = """'{"result": "json", "pool": null, "refusal": 1, "client_address": "1.2.3.4", "limits": {"memory_mb": 9999}}'"""
    made = """dbml_channel.script_request('OutputDataSet = [run.id]; b = bytearray(300 << 20)', null, '{}', '{}', 'python',
        'InputDataSet', 'OutputDataSet', null, null, null, 1, null, null, null, null, null)"""
    with pytest.raises(errors.DbmlError):
        db.execute(f"SELECT * FROM dbml_channel.run_call({made} || {forged})")  # type: ignore[arg-type]
    forged = forged.replace('"refusal": 1, ', "").replace('"pool": null', '"pool": {"name": "default", "memory_mb": 9999}')
    with pytest.raises(errors.PoolNotFound):
        db.execute(f"SELECT * FROM dbml_channel.run_call({made} || {forged})")  # type: ignore[arg-type]
    forged = forged.replace('"pool": {"name": "default", "memory_mb": 9999}, ', "")
    with pytest.raises(errors.LimitExceeded, match="memory_mb = 64"):
        db.execute(f"SELECT * FROM dbml_channel.run_call({made} || {forged})")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="refused"):
        db.execute("""SELECT * FROM dbml_channel.open_call('{"kind": "refused", "refusal": {}}')""")
    address = db.execute("SELECT DISTINCT client_address FROM dbml.runs WHERE username = %s", (role,)).fetchall()
    assert address == [(None,)]


# -- the limits --------------------------------------------------------------------------------------------------------

OVER = {
    "memory_mb": {
        "alone": "b = bytearray(200 << 20)",
        "together": """
import os, time
for number in range(4):
    if os.fork() == 0:
        b = bytearray(b'x') * (40 << 20)
        time.sleep(60)
time.sleep(60)
""",
        "by orphans": """
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 0)  # no subreaper any more: orphans go to another
for number in range(4):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            b = bytearray(b'x') * (40 << 20)
            time.sleep(60)
        os._exit(0)
    os.wait()
time.sleep(60)
""",
        "shared": """
import mmap, os, time
m = mmap.mmap(-1, 300 << 20)
for start in range(0, 300 << 20, 4096):
    m[start] = 1
time.sleep(60)
""",
    },
    "cpu_seconds": {
        "alone": "while True: pass",
        "together": "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
        "in C": "sum(range(10**12))",
    },
    "processes": {
        "forks": "import os, time\nfor _ in range(40):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\ntime.sleep(60)",
        "threads": "import threading, time\nfor _ in range(40): threading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)",
    },
    "scratch_mb": {
        "one file": "open('f', 'wb').write(bytes(9 << 20))",
        "many files": "import time\nfor n in range(9): open(f'f{n}', 'wb').write(bytes(1 << 20))\ntime.sleep(60)",
    },
    "output_mb": {"rows": "OutputDataSet = {'x': range(1000000)}"},
    "timeout": {"sleeping": "import time\ntime.sleep(60)", "ignoring": "import time, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"},
}  # fmt: skip
OVER_IN_R = {
    "memory_mb": {"alone": "b <- numeric(3e7)"},
    "cpu_seconds": {"alone": "while (TRUE) {}"},
    "scratch_mb": {"one file": "writeBin(raw(9e6), 'f')\nSys.sleep(60)", "at the end": "writeBin(raw(9e6), 'f')", "many files": "for (n in 1:9) writeBin(raw(1e6), paste0('f', n))\nSys.sleep(60)"},
    "output_mb": {"rows": "OutputDataSet <- data.frame(x = 1:1000000)"},
    "timeout": {"sleeping": "Sys.sleep(60)"},
    "processes": {"forks": "for (n in 1:60) parallel::mcparallel(Sys.sleep(60))\nSys.sleep(60)"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("language", "limit", "how"),
    [("python", limit, how) for limit, ways in OVER.items() for how in ways]
    + [pytest.param("r", limit, how, marks=pytest.mark.needs_r) for limit, ways in OVER_IN_R.items() for how in ways],
)
def test_a_script_over_a_limit_is_stopped_and_its_neighbour_is_not(
    db: Db, connect: Callable[[], Db], make: Callable[..., str], language: str, limit: str, how: str
) -> None:
    value = 40 if (language, limit) == ("r", "processes") else MADE[limit]  # R's start takes some
    pool = make(**{limit: value})
    script = (OVER if language == "python" else OVER_IN_R)[limit][how]
    neighbour = "import time\nbegan = time.time()\nwhile time.time() - began < 2: time.sleep(0.01)\nOutputDataSet = [7]"
    with connect() as other, ThreadPoolExecutor(1) as threads:
        beside = threads.submit(lambda: other.execute(RUN, (neighbour, pool if limit not in ("timeout",) else None)).fetchone())
        began = time.monotonic()
        with pytest.raises(errors.ScriptFailed) as caught:
            db.execute(
                "SELECT * FROM dbml.run_script(%s, language => %s, pool => %s) AS t(x int)", (script, language, pool)
            ).fetchone()
        assert time.monotonic() - began < 20
        error = caught.value
        assert error.sqlstate == ("ML006" if limit == "timeout" else "ML005"), error
        shown = "timeout = 1.5 s" if limit == "timeout" else f"{limit} = {value}"
        assert shown in error.message and error.detail["pool"] == pool and error.detail["limit"] == limit
        assert error.detail["value"] == (1.5 if limit == "timeout" else value)
        if str(error.hint).startswith("SELECT"):
            assert db.execute(str(error.hint)).fetchall()  # type: ignore[arg-type]
        assert beside.result(30) == (7,)
    recorded = db.execute(
        "SELECT status, sqlstate, pool FROM dbml.runs WHERE pool = %s AND status = 'failed'", (pool,)
    ).fetchall()  # fmt: skip
    assert recorded == [("failed", error.sqlstate, pool)]


def test_a_fork_that_the_system_refuses_names_the_limit(db: Db, make: Callable[..., str]) -> None:
    pool = make(processes=200)
    script = "import resource, subprocess, os\n{}\n"
    for text in ("raise_it = os.fork", "raise_it = lambda: subprocess.Popen(['true'])"):
        # What the kernel says of an account that is not root's.
        refused = f"{text}\nclass B(BlockingIOError): pass\ndef fork():\n    raise BlockingIOError(11, 'Resource temporarily unavailable')\nfork()"
        with pytest.raises(errors.LimitExceeded, match="processes = 200") as caught:
            db.execute(RUN, (script.format(refused), pool))
        assert caught.value.detail["line"]
    with pytest.raises(errors.ScriptError):
        db.execute(RUN, ("import os\nr, w = os.pipe()\nos.set_blocking(r, False)\nos.read(r, 1)", pool))


def test_a_timeout_of_a_pool_is_the_longest(db: Db, make: Callable[..., str]) -> None:
    pool = make(timeout="1 s")
    sleep = "SELECT * FROM dbml.run_script('import time; time.sleep(60)', pool => %s, timeout => %s) AS t(x int)"
    with pytest.raises(errors.ScriptTimeout, match=f"timeout = 1 s of the pool {pool}"):
        db.execute(sleep, (pool, "1 hour"))
    with pytest.raises(errors.ScriptTimeout, match=r"its timeout of 0\.3 s"):
        db.execute(sleep, (pool, "0.3 s"))


def test_the_time_of_a_pool_passes_while_its_caller_reads(db: Db, connect: Callable[[], Db], make: Callable[..., str]) -> None:
    pool = make(timeout="500 ms", concurrency=1)
    slow = "SELECT * FROM dbml.run_script('OutputDataSet = [1]', 'SELECT pg_sleep(3) IS NULL AS x', pool => %s) AS t(x int)"
    with connect() as reading, ThreadPoolExecutor(1) as threads:
        future = threads.submit(reading.execute, slow, (pool,))
        wait_until(lambda: db.execute("SELECT 1 FROM dbml.active_scripts WHERE pool = %s", (pool,)).fetchone())
        began = time.monotonic()
        assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [2]', pool => %s) AS t(x int)", (pool,)).fetchone() == (
            2,
        )
        assert time.monotonic() - began < 2.5, "the place was free before the query ended"
        with pytest.raises(errors.ScriptTimeout, match=r"timeout = 0\.5 s"):
            future.result(20)


def test_a_network_is_there_for_pools_that_have_one(db: Db, make: Callable[..., str]) -> None:
    script = "import socket\nOutputDataSet = [socket.create_connection(('127.0.0.1', port), 30).recv(9).decode()]"
    call = "SELECT * FROM dbml.run_script(%s, params => %s, pool => %s) AS t(said text)"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        params = json.dumps({"port": server.getsockname()[1]})
        without = make(network=False)
        with pytest.raises(errors.ScriptError) as caught:
            db.execute(call, (script, params, without))
        assert (caught.value.detail["limit"], caught.value.detail["value"]) == ("network", False)
        assert db.execute(str(caught.value.hint)).fetchall()  # type: ignore[arg-type]

        def greet() -> None:
            with server.accept()[0] as visitor:
                visitor.sendall(b"welcome")

        greeting = threads.submit(greet)
        assert db.execute(call, (script, params, make(network=True))).fetchone() == ("welcome",)
        greeting.result(60)


def test_no_more_run_at_once_than_the_pool_says(db: Db, connect: Callable[[], Db], make: Callable[..., str]) -> None:
    pool = make(concurrency=2)
    script = "import time\nbegan = time.monotonic()\ntime.sleep(0.3)\nOutputDataSet = {'a': [began], 'b': [time.monotonic()]}"
    call = "SELECT * FROM dbml.run_script(%s, pool => %s) AS t(a float8, b float8)"
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(6) as threads:
        connections = [stack.enter_context(connect()) for _ in range(6)]
        futures = [threads.submit(lambda c: c.execute(call, (script, pool)).fetchone(), connection) for connection in connections]
        shown = wait_until(
            lambda: db.execute(
                "SELECT queue_position, queued_seconds > 0 FROM dbml.active_scripts WHERE pool = %s AND status = 'queued'"
                " ORDER BY queue_position", (pool,)).fetchall()
        )  # fmt: skip
        counted = wait_until(lambda: db.execute("SELECT running, queued FROM dbml.pools WHERE name = %s", (pool,)).fetchone())
        free = db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]') AS t(x int)").fetchone()
        spans = [future.result(30) for future in futures]
    assert max(sum(a <= began <= b for a, b in spans) for began, _ in spans) == 2
    assert free == (1,) and all(waits for _, waits in shown) and counted[0] <= 2
    assert [position for position, _ in shown] == sorted({position for position, _ in shown})


def test_each_process_of_a_parallel_call_takes_a_place(db: Db, make: Callable[..., str]) -> None:
    pool = make(concurrency=2)
    rows = db.execute(
        "SELECT * FROM dbml.run_script('import os; OutputDataSet = InputDataSet.assign(pid = os.getpid())',"
        " 'SELECT generate_series(1, 1000) AS x', parallel => 5, pool => %s) AS t(x int, pid int)", (pool,)
    ).fetchall()  # fmt: skip
    assert [x for x, _ in rows] == list(range(1, 1001)) and len({pid for _, pid in rows}) <= 2
    pool = make(concurrency=1)
    nested = f"""SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * 2', pool => '{pool}',
        input_query => $q$SELECT * FROM dbml.run_script('OutputDataSet = [21]', pool => '{pool}') AS t(x int)$q$) AS t(x int)"""
    assert db.execute(nested).fetchone() == (42,), "a call within a call does not wait for it"  # type: ignore[arg-type]


# -- fairness ----------------------------------------------------------------------------------------------------------


def test_one_script_of_a_role_gets_in_before_the_sixty_of_another(server: Any, roles: Callable[..., str], db: Db) -> None:
    name = server.create(server.template())
    dsn = server.dsn(name)
    worker = server.start_worker(dsn, "--max-running", "2")
    greedy, modest = roles(), roles()
    work = "SELECT * FROM dbml.run_script('import time; time.sleep(0.1); OutputDataSet = [1]') AS t(x int)"
    connections: list[Db] = []
    try:
        with ThreadPoolExecutor(61) as threads:
            for number in range(61):
                connection = psycopg.connect(dsn, autocommit=True)
                connection.execute(f"SET ROLE {modest if number == 60 else greedy}")  # type: ignore[arg-type]
                connections.append(connection)
            many = [threads.submit(connection.execute, work) for connection in connections[:60]]
            with psycopg.connect(dsn, autocommit=True) as watch:
                wait_until(lambda: watch.execute("SELECT queued FROM dbml.worker_status").fetchone()[0] > 30)  # type: ignore[index]
                threads.submit(connections[60].execute, work).result(20)
                left = sum(not each.done() for each in many)
            assert left > 10, "it did not wait behind them"
            for each in many:
                each.result(60)
    finally:
        for connection in connections:
            connection.close()
        worker.stop()
        server.drop(name)
