"""What every command has in common: help with an example, one-line errors, exit codes; psql and install."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import psycopg
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import dbml
from dbml import errors
from dbml.cli import supervisor, worker_process
from dbml.cli.app import app
from dbml.home import Home

pytestmark = pytest.mark.once

COMMANDS = sorted(get_command(app).commands)
DEAD = "postgresql://somebody:geheim@127.0.0.1:1/none"


def run(*arguments: str, cwd=None, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    inherited = {key: value for key, value in os.environ.items() if key not in ("DBML_DSN", "DBML_DEBUG")}
    command = [sys.executable, "-m", "dbml.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**inherited, **environment})


def test_version():
    assert run("--version").stdout == f"dbml {dbml.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command):
    printed = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert re.search(r"Example: .*dbml " + command, re.sub(r"\s+", " ", printed)) or command == "status"
    assert "Example: " in printed


@pytest.mark.parametrize("command", ["install", "upgrade", "worker"])
def test_an_error_is_one_line_without_a_traceback(command, tmp_path):
    answer = run(command, "--dsn", DEAD, cwd=tmp_path, DBML_WAIT_FOR_DATABASE="0")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(("error: ", "hint: "))
    assert len([line for line in answer.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in answer.stderr
    assert "geheim" not in answer.stdout + answer.stderr


def test_debug_shows_the_traceback(tmp_path):
    answer = run("install", "--dsn", DEAD, cwd=tmp_path, DBML_DEBUG="1")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


@pytest.mark.parametrize("command", ["install", "upgrade", "verify", "psql", "worker"])
def test_without_a_database_the_hint_is_dbml_up(command, tmp_path):
    answer = run(command, cwd=tmp_path)
    assert answer.returncode == 1
    assert "error: no database to talk to" in answer.stderr
    assert "hint: dbml up --detach" in answer.stderr


def test_status_where_nothing_runs(tmp_path):
    answer = run("status", "--json", cwd=tmp_path)
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["dsn"] is None
    assert list(tmp_path.iterdir()) == []


def test_down_where_nothing_runs(tmp_path):
    answer = run("down", cwd=tmp_path)
    assert (answer.returncode, list(tmp_path.iterdir())) == (0, [])


def test_psql_gets_its_arguments_as_they_are(server, tmp_path):
    arguments = ["-X", "-At", "-v", "x=a b", "-c", "select '-- --help' || $$ %(x)s $$"]
    answer = run("psql", "--dsn", server.admin_dsn, "--", *arguments, cwd=tmp_path)
    assert (answer.stdout, answer.stderr) == ("-- --help %(x)s \n", "")


def test_psql_hands_back_its_exit_code(server, tmp_path):
    answer = run("psql", "--", "-X", "-v", "ON_ERROR_STOP=1", "-f", "-", cwd=tmp_path, DBML_DSN=server.admin_dsn)
    assert answer.returncode == 0
    answer = run("psql", "--", "-c", "select 1/0", cwd=tmp_path, DBML_DSN=server.admin_dsn)
    assert answer.returncode == 1
    assert "division by zero" in answer.stderr


def test_install_and_upgrade_say_what_is_there(empty, tmp_path):
    assert "no schema dbml" in run("upgrade", "--dsn", empty, cwd=tmp_path).stderr
    installed = run("install", "--dsn", empty, cwd=tmp_path)
    assert installed.stdout.startswith(f"dbml {dbml.__version__} (revision ")
    with psycopg.connect(empty) as connection:
        connection.execute("update dbml._schema_version set version = '0.0.1'")
    assert "before 0.0.1" in run("upgrade", "--dsn", empty, cwd=tmp_path).stdout


def test_the_password_stays_out_of_what_is_printed(empty, tmp_path):
    password = psycopg.conninfo.conninfo_to_dict(empty).get("password", "no password")
    for command in (["install"], ["status"], ["verify"]):
        answer = run(*command, "--dsn", empty, cwd=tmp_path)
        assert password not in answer.stdout + answer.stderr


def test_an_unknown_log_level_is_refused(installed, tmp_path):
    answer = run("worker", "--dsn", installed, "--log-level", "loud", cwd=tmp_path)
    assert "--log-level must be" in answer.stderr


def test_up_says_what_a_worker_lacks_before_it_starts_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "WORKER_NEEDS", ("json", "no_such_module"))
    home = Home.of(tmp_path)
    home.create()
    with pytest.raises(errors.DbmlError, match="not installed here: no_such_module") as caught:
        supervisor.Supervisor(home, log=lambda *_: None).run(lambda _: None)
    assert caught.value.hint == "pip install 'dbml[worker]'"
    assert not (home.path / "postgresql").exists()
