"""docker-compose.hardened.yml: what its containers may not do, tried in them, and that dbml works there all the same."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import psycopg
import pytest

from .conftest import ROOT, command
from .stack import Checkout, Stack

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

DOUBLE = """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * factor',
    input_query => 'SELECT g AS x FROM generate_series(1, 3) g', params => '{"factor": 3}') AS t(x int)"""
# x86-64 and others: the calls by number, ctypes has no names for them
CALLS = """
import ctypes, platform, os, socket
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
for name, number, args in (('unshare', 272 if x86 else 97, (0x10000000,)), ('ptrace', 101 if x86 else 117, (0,)),
        ('mount', 165 if x86 else 40, (0, 0, 0, 0, 0)), ('bpf', 321 if x86 else 280, (0, 0, 0)), ('io_uring_setup', 425, (1, 0)),
        ('keyctl', 250 if x86 else 219, (0,)), ('userfaultfd', 323 if x86 else 282, (1,)), ('process_vm_readv', 310 if x86 else 270, (1,) * 6),
        ('open_by_handle_at', 304 if x86 else 265, (0, 0, 0)), ('setns', 308 if x86 else 268, (0, 0))):
    ctypes.set_errno(0)
    if libc.syscall(number, *args) >= 0 or ctypes.get_errno() != 1:
        print('allowed', name, ctypes.get_errno())
try:
    socket.socket(17, 3)
    print('allowed a packet socket')
except PermissionError:
    pass
print('looked')
"""


@pytest.fixture(scope="module")
def stack(checkout: Checkout) -> Iterator[Stack]:
    """The project with its secrets in files that every account may read, in a folder that none may enter."""
    password = secrets.token_hex(8)
    folder = checkout.folder / "secrets"
    folder.mkdir(mode=0o700)
    for name, content in {
        "postgres_password": password,
        "owner_dsn": f"host=postgres dbname=dbml user=postgres password={password}\n",
    }.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o444)
    with checkout.started("docker-compose.hardened.yml", password) as made:
        yield made


@pytest.fixture
def db(stack: Stack) -> Iterator[psycopg.Connection]:
    with stack.connect() as connection:
        yield connection


def within(stack: Stack, *words: str, service: str = "worker") -> str:
    return stack("exec", "-T", service, *words)


def test_scripts_and_predictions(db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    trained = """
from sklearn.linear_model import LinearRegression
open('scratch', 'w').write('x' * 10000)
OutputDataSet = [run.register_model('line', LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))]"""
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(version int)", [trained]).fetchone() == (1,)
    assert db.execute("SELECT round(dbml.predict('line', array[4.0])::numeric, 6)").fetchone() == (8,)


def test_the_layer_that_holds_is_told(db: psycopg.Connection) -> None:
    (found,) = db.execute("SELECT sandbox FROM dbml.worker_status").fetchone()  # type: ignore[misc]
    assert found["layer"] == "landlock" and "bubblewrap" in found["passed_over"]
    assert found["user"] == 10001 and found["capabilities"] == 0 and found["no_new_privileges"] and found["filter"]
    assert found["landlock"] >= 1 and found["namespaces"] == []


def test_a_script_sees_neither_the_secrets_nor_a_network(db: psycopg.Connection) -> None:
    script = """
import glob, os, socket
seen = []
for path in ['/run/dbml/worker.dsn', '/run/secrets/owner_dsn', '/proc/1/environ', '/etc/shadow', *glob.glob('/proc/[0-9]*/environ')]:
    try:
        if path != f'/proc/{os.getpid()}/environ':
            open(path).read(); seen.append(path)
    except OSError:
        pass
for host in ('postgres', '127.0.0.1'):
    try:
        socket.create_connection((host, 5432), 2); seen.append(host)
    except OSError:
        pass
OutputDataSet = {'seen': [str(seen)]}"""
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(seen text)", [script]).fetchone() == ("[]",)


@pytest.mark.parametrize(("service", "user"), [("worker", 10001), ("postgres", 999)])
def test_nothing_is_root_and_nothing_has_rights(stack: Stack, db: psycopg.Connection, service: str, user: int) -> None:
    db.execute(DOUBLE)
    listed = within(stack, "sh", "-c", "cat /proc/[0-9]*/status", service=service).split("Name:\t")[1:]
    assert len(listed) > 3
    for one in listed:
        process = dict(line.split(":\t", 1) for line in f"Name:\t{one}".splitlines() if ":\t" in line)
        assert process["Uid"].split() == [str(user)] * 4, process
        assert {process[f"Cap{kind}"].strip("0") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}, process
        assert process["NoNewPrivs"] == "1" and process["Seccomp"] == "2", process


@pytest.mark.parametrize("service", ["worker", "postgres"])
def test_the_root_file_system_is_read_only(stack: Stack, service: str) -> None:
    assert stack.inspect(service)["HostConfig"]["ReadonlyRootfs"]
    places = "/ /etc /usr/bin /opt /home /root /var/tmp" + (" /home/dbml /opt/dbml /run/dbml" if service == "worker" else "")
    said = within(
        stack, "sh", "-c", f'for d in {places}; do touch "$d/x" 2>/dev/null && echo "$d"; done; echo looked', service=service
    )
    assert said == "looked"


def test_the_workers_profile_refuses_what_it_does_not_need(stack: Stack) -> None:
    assert within(stack, "python3", "-c", CALLS) == "looked"
    profile = json.loads((ROOT / "docker/seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"


def test_the_worker_has_its_own_network_with_no_way_out(stack: Stack) -> None:
    networks = {
        service: set(stack.inspect(service)["NetworkSettings"]["Networks"]) for service in ("worker", "postgres", "install")
    }
    channel, clients = f"{stack.project}_channel", f"{stack.project}_clients"
    assert networks == {"worker": {channel}, "postgres": {channel, clients}, "install": {channel}}
    assert json.loads(stack.engine.docker("network", "inspect", channel))[0]["Internal"]
    assert not any(stack.inspect("worker")["NetworkSettings"]["Ports"].values())


def test_limits_of_memory_and_processes(stack: Stack) -> None:
    for service in ("worker", "postgres", "install"):
        host = stack.inspect(service)["HostConfig"]
        assert host["Memory"] > 0 and 0 < host["PidsLimit"] <= 1000 and host["CapDrop"] == ["ALL"], service


def test_the_worker_knows_no_password_of_the_owner(stack: Stack, db: psycopg.Connection) -> None:
    password = psycopg.conninfo.conninfo_to_dict(stack.dsn)["password"]
    for service in ("worker", "postgres", "install"):
        assert password not in json.dumps(stack.inspect(service)), service
    found = within(
        stack,
        "sh",
        "-c",
        "cat /run/dbml/worker.dsn; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; ls /run/secrets 2>&1; true",
    )
    assert password not in found and "dbml_container" in found
    (role,) = db.execute("SELECT usename FROM pg_stat_activity WHERE usename = 'dbml_container' LIMIT 1").fetchone()  # type: ignore[misc]
    owned = "SELECT count(*) FROM pg_class WHERE relowner = 'dbml_container'::regrole"
    assert role and db.execute(owned).fetchone() == (0,)
    assert not db.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'dbml_container'").fetchone()[0]  # type: ignore[index]


def test_it_comes_back_when_it_was_killed(stack: Stack, db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    stack.engine.docker("kill", stack.inspect("worker")["Id"])
    stack("up", "--detach", "--no-build", "worker")  # Docker does not restart what was killed by hand
    stack.wait_healthy("worker")
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]


def test_the_profile_parses_by_the_tool_of_this_machine(stack: Stack) -> None:
    said = command(*stack.compose, "--file", stack.file, "config", environment=stack.engine.environment, cwd=stack.folder)
    assert "read_only: true" in said and "privileged" not in said.replace("no-new-privileges", "")
