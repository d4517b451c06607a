"""Where the DSN comes from, and its other spellings."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import conninfo

from dbml import errors
from dbml.dsn import find_dsn, libpq_environment, make_uri, parse, without_password
from dbml.home import Home

STATE = {"dsn": "postgresql://u@/d?host=/run/here", "pid": 1}


@pytest.fixture
def running(tmp_path):
    """A project whose `dbml up` runs: this process holds its lock."""
    home = Home.of(tmp_path)
    with home.locked():
        home.write_state(STATE)
        yield tmp_path


def test_the_argument_comes_first(running):
    found = find_dsn("dbname=argument", environment={"DBML_DSN": "dbname=variable"}, start=running)
    assert found == "dbname=argument"


def test_then_the_variable(running):
    assert find_dsn(None, environment={"DBML_DSN": "dbname=variable"}, start=running) == "dbname=variable"


def test_then_what_runs_in_this_folder(running):
    assert find_dsn(None, environment={}, start=running) == STATE["dsn"]


def test_or_in_a_folder_above(running):
    below = running / "a" / "b"
    below.mkdir(parents=True)
    assert find_dsn(None, environment={}, start=below) == STATE["dsn"]


def test_a_state_whose_process_is_gone_does_not_count(tmp_path):
    home = Home.of(tmp_path)
    home.create()
    home.write_state({**STATE, "pid": os.getpid()})
    with pytest.raises(errors.DbmlError, match="no dbml is running here") as caught:
        find_dsn(None, environment={}, start=tmp_path)
    assert "dbml up" in caught.value.hint


@pytest.mark.parametrize("wrong", ["not a dsn", "postgresql://h/?nosuchkey=1", "nosuchkey=1"])
def test_what_is_no_dsn_is_refused_without_showing_it(wrong):
    with pytest.raises(errors.InvalidArgument, match="DBML_DSN must be") as caught:
        find_dsn(None, environment={"DBML_DSN": wrong})
    assert wrong not in str(caught.value)


def test_the_password_is_not_displayed():
    shown = without_password("postgresql://me:sec%40ret@db.example.com:5433/sales?sslmode=require")
    assert shown == "postgresql://me@db.example.com:5433/sales?sslmode=require"


def test_psql_gets_the_login_by_its_environment():
    variables, rest = libpq_environment("host=/run/x dbname=d password='a b' user=me keepalives=1")
    assert variables == {"PGHOST": "/run/x", "PGDATABASE": "d", "PGPASSWORD": "a b", "PGUSER": "me"}
    assert rest == "keepalives=1"


text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(
    user=text,
    password=text,
    dbname=text,
    host=st.sampled_from(["db.example.com", "::1", "127.0.0.1", "/run/a folder/ü%20"]),
    port=st.sampled_from(["5432", "1"]),
)
def test_a_uri_means_what_it_was_made_of(**keys):
    assert conninfo.conninfo_to_dict(make_uri(keys)) == keys
    assert parse(without_password(make_uri(keys))) == {k: v for k, v in keys.items() if k != "password"}
