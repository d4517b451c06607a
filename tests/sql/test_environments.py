"""Environments through SQL: locked, versioned, used by scripts and models, and recorded."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import dbml
from dbml import errors

from .. import wheels

pytestmark = pytest.mark.once

CREATE = "SELECT dbml.create_environment(%s, %s)"
VERSION = "SELECT * FROM dbml.run_script('import tiny; OutputDataSet = {\"v\": [tiny.VERSION]}', environment => %s) AS t(v text)"
IN_CI = os.environ.get("CI") == "true"
SKLEARNS = ("1.7.2", "1.8.0")

TRAIN = """SELECT * FROM dbml.run_script($$
import sklearn
from sklearn.linear_model import LinearRegression

class Telling(LinearRegression):
    def predict(self, X):
        import sklearn, time
        time.sleep(pause)
        return super().predict(X) * 0 + int(sklearn.__version__.replace('.', ''))

model = Telling().fit([[0.0], [1.0]], [0.0, 1.0])
OutputDataSet = {'v': [run.register_model(name, model)], 's': [sklearn.__version__]}
$$, params => jsonb_build_object('name', %s::text, 'pause', %s::float8), environment => %s) AS t(v int, s text)"""


@pytest.fixture
def name() -> str:
    return "e-" + uuid.uuid4().hex


@pytest.fixture(scope="session")
def tiny(wheelhouse: Path) -> Path:
    """The workers' wheels, with 'tiny' in two versions."""
    for version in ("1.0", "2.0"):
        wheels.write(wheelhouse, "tiny", version, {"tiny.py": f"VERSION = {version!r}\n"})
    return wheelhouse


@pytest.fixture(scope="session")
def sklearns(wheelhouse: Path) -> Path:
    """The workers' wheels, with scikit-learn in two versions: from DBML_TEST_WHEELS, else by pip, once."""
    wheels.repack(wheelhouse, ("scipy", "joblib", "threadpoolctl"))
    given = os.environ.get("DBML_TEST_WHEELS")
    for version in SKLEARNS:
        if given and (found := list(Path(given).glob(f"scikit_learn-{version}-*.whl"))):
            for wheel in found:
                (wheelhouse / wheel.name).write_bytes(wheel.read_bytes())
            continue
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", wheelhouse]
        fetched = subprocess.run([*command, f"scikit-learn=={version}"], capture_output=True, text=True, timeout=100)
        if fetched.returncode != 0:
            reason = f"needs a wheel of scikit-learn {version}, in DBML_TEST_WHEELS or by pip download"
            (pytest.fail if IN_CI else pytest.skip)(reason)
    return wheelhouse


@pytest.fixture
def own(fresh: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of the test's own, with a worker of its own."""
    with psycopg.connect(fresh.dsn, autocommit=True) as connection:
        yield connection


def notices(connection: psycopg.Connection[Any]) -> list[str]:
    said: list[str] = []
    connection.add_notice_handler(lambda diagnostic: said.append(diagnostic.message_primary or ""))
    return said


def test_a_lock_with_hashes_is_kept_with_the_version(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    said = notices(db)
    assert db.execute(
        "SELECT dbml.create_environment(%s, 'tiny==1', description => 'small', tags => '{\"a\": 1}')", (name,)
    ).fetchone() == (1,)
    row = db.execute(
        "SELECT workspace, version, format, spec, lock, lock_sha256, python_version, description, tags, created_by = current_user"
        " FROM dbml.environments WHERE name = %s",
        (name,),
    ).fetchone()
    assert row is not None
    digest = hashlib.sha256((tiny / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert row[:4] == ("default", 1, "requirements", "tiny==1")
    assert f"tiny==1.0 \\\n    --hash=sha256:{digest}" in row[4]
    assert row[5] == hashlib.sha256(row[4].encode()).hexdigest()
    assert row[6] == f"{sys.version_info[0]}.{sys.version_info[1]}" and row[7:] == ("small", {"a": 1}, True)
    assert said[0].startswith("resolving for Python ") and any(line.startswith("Resolved ") for line in said)


def test_the_same_again_is_the_version_that_is_there(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    versions = [db.execute(CREATE, (name, spec)).fetchone() for spec in ("tiny==1", "tiny==1", "tiny<2", "tiny==2", "tiny==1")]
    assert versions == [(1,), (1,), (2,), (3,), (4,)]


def test_a_broken_specification_is_told_in_the_resolvers_words_and_changes_nothing(
    db: psycopg.Connection[Any], tiny: Path, name: str
) -> None:
    db.execute(CREATE, (name, "tiny==1"))
    before = db.execute("SELECT * FROM dbml.environments WHERE name = %s", (name,)).fetchall()
    with pytest.raises(errors.EnvironmentUnresolvable, match="there is no version of tiny==9 and you require tiny==9") as caught:
        db.execute(CREATE, (name, "tiny==9"))
    assert caught.value.sqlstate == "ML037"
    assert "No solution found when resolving dependencies" in str(caught.value.detail["resolver"])
    for spec in ("what ever", "dependencies:\n  - cudatoolkit=11\n", "[project]\ndependencies = ["):
        with pytest.raises(errors.EnvironmentUnresolvable):
            db.execute(CREATE, (name, spec))
    with pytest.raises(errors.EnvironmentUnresolvable, match=r"Python 3\.8 must be on the worker's machine, which has"):
        db.execute("SELECT dbml.create_environment(%s, 'tiny', python_version => '3.8')", (name,))
    assert db.execute("SELECT * FROM dbml.environments WHERE name = %s", (name,)).fetchall() == before
    assert db.execute(VERSION, (name,)).fetchall() == [("1.0",)], "the former version stays in use"


@pytest.mark.parametrize(
    ("spec", "kind", "properties"),
    [
        ("name: x\nchannels: [forge]\ndependencies:\n  - tiny=1\n  - pip:\n    - joblib\n", "conda", {"name": "x", "channels": ["forge"]}),
        ("[project]\nname = 'x'\ndependencies = ['tiny==1', 'joblib']\n", "pyproject", {"project": "x"}),
        ("tiny == 1  # one\njoblib\n", "requirements", {}),
    ],
)  # fmt: skip
def test_three_formats(db: psycopg.Connection[Any], tiny: Path, name: str, spec: str, kind: str, properties: Any) -> None:
    db.execute(CREATE, (name, spec))
    row = db.execute("SELECT format, properties, lock FROM dbml.environments WHERE name = %s", (name,)).fetchone()
    assert row is not None and row[:2] == (kind, properties)
    assert "tiny==1.0 \\" in row[2] and "joblib==" in row[2]


def test_a_script_runs_in_the_version_that_it_names_and_the_run_records_the_lock(
    own: psycopg.Connection[Any], tiny: Path, name: str
) -> None:
    for spec in ("tiny==1", "tiny==2"):
        own.execute(CREATE, (name, spec))
    said = notices(own)
    assert own.execute(VERSION, (name,)).fetchall() == [("2.0",)]
    assert own.execute(VERSION, (f"{name}:1",)).fetchall() == [("1.0",)]
    built = [line for line in said if line.startswith("building environment ")]
    assert all(line.partition(" for ")[0].endswith((f"{name}:1", f"{name}:2")) for line in built)
    recorded = own.execute(
        "SELECT r.environment, r.environment_version, r.lock_sha256 = e.lock_sha256 FROM dbml.runs r"
        " JOIN dbml.environments e ON (e.name, e.version) = (r.environment, r.environment_version) ORDER BY r.started_at"
    ).fetchall()
    assert recorded == [(name, 2, True), (name, 1, True)]
    own.execute("SELECT * FROM dbml.run_script('x = 1') AS t(a int)")
    last = own.execute("SELECT environment, lock_sha256 FROM dbml.runs ORDER BY started_at DESC LIMIT 1").fetchone()
    assert last == (None, None), "the worker's own packages have no lock"
    (row,) = own.execute("SELECT dbml_channel.ping() -> 'environments'").fetchall()
    assert sorted(shown["environment"] for shown in row[0]) == [f"{name}:1", f"{name}:2"]


def test_the_other_calls_of_scripts_take_it_too(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    db.execute(CREATE, (name, "tiny==1"))
    row = db.execute(
        "SELECT dbml.run_script_json('import tiny; OutputDataSet = {\"v\": [tiny.VERSION]}', environment => %s)", (name,)
    ).fetchone()
    assert row == ({"v": "1.0"},)
    row = db.execute(
        "CALL dbml.execute_script('import tiny; v = tiny.VERSION', environment => %s, params => '{\"v\": null}')", (name,)
    ).fetchone()
    assert row == ({"v": "1.0"},)


def test_what_asks_for_entry_points_finds_dbmls_there(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    db.execute(CREATE, (name, "tiny==1"))
    script = (
        "from importlib import metadata\n"
        "found = [(e.name, e.value) for e in metadata.entry_points(group='mlflow.tracking_store')]\n"
        "OutputDataSet = pandas.DataFrame({'a': [repr(found)], 'b': [metadata.version('dbml')]})"
    )
    row = db.execute(
        "SELECT * FROM dbml.run_script(%s, environment => %s) AS t(a text, b text)", (f"import pandas\n{script}", name)
    ).fetchone()
    assert row == ("[('dbml', 'dbml.mlflow.stores:tracking_store')]", dbml.__version__)


def test_it_belongs_to_the_transaction(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    db.execute("BEGIN")
    db.execute(CREATE, (name, "tiny==1"))
    assert db.execute(VERSION, (name,)).fetchall() == [("1.0",)]
    db.execute("ROLLBACK")
    with pytest.raises(errors.EnvironmentNotFound, match=f'environment "{name}" is not in workspace "default"'):
        db.execute(VERSION, (name,))


@pytest.mark.parametrize("reference", ["{}:9", "{}:0", "no-{}"])
def test_one_that_is_not_there_is_named(db: psycopg.Connection[Any], tiny: Path, name: str, reference: str) -> None:
    db.execute(CREATE, (name, "tiny==1"))
    with pytest.raises(errors.EnvironmentNotFound) as caught:
        db.execute(VERSION, (reference.format(name),))
    db.execute(str(caught.value.hint))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["x:y", "x:", "x:-1", "x:1:2", "x:99999999999"])
def test_a_reference_has_a_number_after_the_colon(db: psycopg.Connection[Any], bad: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="an environment's version must be a number"):
        db.execute(VERSION, (bad,))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "tiny"), "an environment's name"), (("a:b", "tiny"), "an environment's name"), ((None, "tiny"), "an environment's name"),
        (("x", None), "spec must be given"), (("x", "--index-url y"), "no options"),
    ],
)  # fmt: skip
def test_bad_arguments(db: psycopg.Connection[Any], arguments: tuple[str | None, str | None], said: str) -> None:
    with pytest.raises((errors.InvalidArgument, errors.EnvironmentUnresolvable), match=said):
        db.execute(CREATE, arguments)


def test_deleting_spares_what_a_model_needs(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    for spec in ("tiny==1", "tiny==2"):
        db.execute(CREATE, (name, spec))
    db.execute("SELECT dbml.register_model(%s, 'x'::bytea, environment => %s)", (name, f"{name}:1"))
    assert db.execute("SELECT environment FROM dbml.models WHERE name = %s", (name,)).fetchone() == (f"{name}:1",)
    with pytest.raises(errors.InvalidArgument, match="an environment must have no models to be deleted"):
        db.execute("SELECT dbml.delete_environment(%s)", (f"{name}:1",))
    assert db.execute("SELECT dbml.delete_environment(%s)", (name,)).fetchone() == (2,)
    db.execute("SELECT dbml.delete_model(%s)", (name,))
    assert db.execute("SELECT dbml.delete_environment(%s)", (name,)).fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM dbml.environments WHERE name = %s", (name,)).fetchone() == (0,)


def test_who_may_run_no_scripts_makes_no_environment(db: psycopg.Connection[Any], name: str) -> None:
    role = "predictor_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role} NOLOGIN; GRANT dbml_predictor TO {role}; SET ROLE {role}")  # type: ignore[arg-type]
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(CREATE, (name, "tiny"))
        for form in ("resolve", "other"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not run scripts"):
                db.execute(
                    "SELECT * FROM dbml_channel.open_call(jsonb_build_object('kind', 'environment', 'form', %s::text, 'spec', ''))",
                    (form,),
                )
        with pytest.raises(errors.EnvironmentNotFound, match="is of no environment"):
            db.execute(
                "SELECT * FROM dbml_channel.open_call(jsonb_build_object('kind', 'environment', 'form', 'build',"
                " 'lock_sha256', encode(sha256('tiny==1.0'), 'hex')), 'tiny==1.0')"
            )
    finally:
        db.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def test_a_cancelled_creation_leaves_the_connection_usable(
    db: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]], tiny: Path, name: str
) -> None:
    db.execute("SET statement_timeout = '20ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        db.execute("SELECT dbml.create_environment(%s, 'tiny', python_version => '3.8')", (name,))
    db.execute("RESET statement_timeout")
    assert db.execute(CREATE, (name, "tiny==1")).fetchone() == (1,)
    with connect() as other:
        assert other.execute("SELECT count(*) FROM dbml.environments WHERE name = %s", (name,)).fetchone() == (1,)


@pytest.mark.timeout(300)
def test_two_scikit_learns_serve_two_models_at_the_same_time(
    own: psycopg.Connection[Any], fresh: Any, sklearns: Path, name: str
) -> None:
    for number, version in enumerate(SKLEARNS):
        own.execute(CREATE, (f"{name}-{number}", f"scikit-learn=={version}"))
        trained = own.execute(TRAIN, (f"{name}-{number}", 0.5, f"{name}-{number}")).fetchall()
        assert trained == [(1, version)]
    assert own.execute("SELECT name, environment FROM dbml.models ORDER BY name").fetchall() == [
        (f"{name}-{number}", f"{name}-{number}:1") for number in range(2)
    ]
    answers: dict[int, Any] = {}
    busy: set[int] = set()

    def predict(number: int) -> None:
        with psycopg.connect(fresh.dsn, autocommit=True) as connection:
            answers[number] = connection.execute(
                "SELECT sum(prediction) FROM dbml.predict(%s, 'SELECT 1.0::float8 AS x FROM generate_series(1, 3)')"
                " AS t(x float8, prediction float8)",
                (f"{name}-{number}",),
            ).fetchone()

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        (row,) = own.execute("SELECT dbml_channel.ping() -> 'environments'").fetchall()
        busy.add(sum(shown["calls"] > 0 for shown in row[0]))
    for thread in threads:
        thread.join()
    expected = [int(version.replace(".", "")) for version in SKLEARNS]
    assert [answers[number] for number in range(2)] == [(3.0 * value,) for value in expected]
    assert 2 in busy, "both worked at the same time"
    both = own.execute("SELECT dbml.predict(%s, array[1.0]), dbml.predict(%s, array[1.0])", (f"{name}-0", f"{name}-1")).fetchone()
    assert both == tuple(map(float, expected)), "and in one statement"


def test_a_model_is_scored_where_it_was_trained_after_a_restart_of_the_worker(
    own: psycopg.Connection[Any], fresh: Any, tiny: Path, name: str
) -> None:
    own.execute(CREATE, (name, "tiny==1"))
    own.execute(
        """SELECT * FROM dbml.run_script($$
import tiny

class Model:
    def predict(self, X):
        import tiny
        return [float(tiny.VERSION)] * len(X)

run.register_model(name, Model())
$$, params => jsonb_build_object('name', %s::text), environment => %s) AS t(a int)""",
        (name, name),
    )
    own.execute(CREATE, (name, "tiny==2"))
    fresh.worker.stop()
    fresh.worker.start()
    fresh.worker.wait_ready()
    assert own.execute("SELECT dbml.predict(%s, array[1.0])", (name,)).fetchone() == (1.0,)
    assert own.execute("SELECT dbml.predict_row(%s, '{\"a\": 1}'::jsonb)", (name,)).fetchone() == (1.0,)


def test_a_first_use_that_is_cancelled_leaves_no_half_environment(own: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    wheels.write(tiny, "slow", "1.0", {"slow.py": f"# {name}\n"})  # so that it is not built already
    own.execute(CREATE, (name, "slow"))
    use = "SELECT * FROM dbml.run_script('import slow; OutputDataSet = {\"v\": [1]}', environment => %s) AS t(v int)"
    own.execute("SET statement_timeout = '100ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        own.execute(use, (name,))
    own.execute("RESET statement_timeout")
    assert own.execute(use, (name,)).fetchall() == [(1,)]
    assert own.execute("SELECT status FROM dbml.runs WHERE environment = %s", (name,)).fetchall() == [("completed",)]


def test_a_stored_script_and_a_script_in_pieces_run_in_it(db: psycopg.Connection[Any], tiny: Path, name: str) -> None:
    db.execute(CREATE, (name, "tiny==1"))
    rows = db.execute(
        "SELECT * FROM dbml.run_script('import tiny; OutputDataSet = InputDataSet.assign(v = tiny.VERSION)',"
        " input_query => 'SELECT g FROM generate_series(1, 4) g', parallel => 2, environment => %s) AS t(g int, v text)",
        (name,),
    ).fetchall()
    assert sorted(rows) == [(i, "1.0") for i in range(1, 5)]
    db.execute("SELECT dbml.create_script(%s, 'python', 'import tiny; OutputDataSet = {\"v\": [tiny.VERSION]}')", (name,))
    stored = "SELECT * FROM dbml.run_stored(%s, environment => %s) AS t(v text)"
    assert db.execute(stored, (name, name)).fetchall() == [("1.0",)]
