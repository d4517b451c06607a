"""`dbml demo`: the main job from end to end, each step as the SQL that it runs.

The steps are statements that a reader can paste into psql; this module loads the data, runs them,
and prints what came back.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.syntax import Syntax

from dbml import errors
from dbml.cli.output import console, print_table
from dbml.cli.up import start_detached
from dbml.home import Home, find_home

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Step:
    """One statement of the demo, and the sentence above it."""

    title: str
    statement: str


TABLES = """\
CREATE SCHEMA IF NOT EXISTS demo;
DROP TABLE IF EXISTS demo.diabetes, demo.iris, demo.species;
CREATE TABLE demo.diabetes (patient int PRIMARY KEY,
    age float8, sex float8, bmi float8, bp float8, s1 float8, s2 float8,
    s3 float8, s4 float8, s5 float8, s6 float8, progression float8);
CREATE TABLE demo.species (species_id int PRIMARY KEY, species text);
CREATE TABLE demo.iris (flower int PRIMARY KEY,
    sepal_length float8, sepal_width float8,
    petal_length float8, petal_width float8,
    species_id int REFERENCES demo.species);"""

TRAIN_DIABETES = """\
SELECT * FROM dbml.run_script($$
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

train, test = train_test_split(patients, test_size=0.25, random_state=7)
features = patients.columns.drop('progression')
model = make_pipeline(StandardScaler(), Ridge(alpha=alpha))
model.fit(train[features], train.progression)

errors = abs(model.predict(test[features]) - test.progression)
run.log('mean_error', errors.mean())
run.log('r2', model.score(test[features], test.progression))
version = run.register_model('demo-diabetes', model)
OutputDataSet = [{'version': version, 'trained_on': len(train)}]
$$,
    input_query => 'SELECT age, sex, bmi, bp, s1, s2, s3, s4, s5, s6,
                    progression FROM demo.diabetes ORDER BY patient',
    input_name  => 'patients',
    params      => '{"alpha": 1.0}',
    experiment  => 'demo'
) AS t(version int, trained_on int);"""

TRAIN_IRIS = """\
SELECT * FROM dbml.run_script($$
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

X, y = flowers.drop(columns='species'), flowers.species
model = RandomForestClassifier(n_estimators=50, random_state=7)
for fold, accuracy in enumerate(cross_val_score(model, X, y, cv=3)):
    run.log('accuracy', accuracy, step=fold)
model.fit(X, y)
print('classes:', ', '.join(model.classes_))
version = run.register_model('demo-iris', model)
OutputDataSet = [{'version': version, 'trained_on': len(X)}]
$$,
    input_query => 'SELECT sepal_length, sepal_width, petal_length,
                    petal_width, species FROM demo.iris
                    JOIN demo.species USING (species_id) ORDER BY flower',
    input_name  => 'flowers',
    experiment  => 'demo'
) AS t(version int, trained_on int);"""

STEPS = (
    Step("Train a regression where the rows are, log its metrics, register it", TRAIN_DIABETES),
    Step("Train a classifier; what the script prints arrives as NOTICE", TRAIN_IRIS),
    Step(
        "Score one row, its features found by column name",
        """\
SELECT patient, progression,
       dbml.predict_row('demo-diabetes', d) AS predicted
FROM demo.diabetes d WHERE patient = 7;""",
    ),
    Step(
        "Score a joined query; other columns pass through, and SQL goes on with the answer",
        """\
SELECT species, prediction, count(*)
FROM dbml.predict('demo-iris',
        'SELECT species, petal_width, petal_length, sepal_width, sepal_length
         FROM demo.iris JOIN demo.species USING (species_id)')
    AS t(species text, petal_width float8, petal_length float8,
         sepal_width float8, sepal_length float8, prediction text)
GROUP BY 1, 2 ORDER BY 1, 2;""",
    ),
    Step(
        "Score a whole table into another one",
        """\
SELECT dbml.predict_into('demo-diabetes',
    'SELECT * FROM demo.diabetes', 'demo.diabetes_scored', 'replace')
    AS rows_written;""",
    ),
    Step(
        "It is a table like any other",
        """\
SELECT patient, bmi, progression, prediction
FROM demo.diabetes_scored ORDER BY prediction DESC LIMIT 4;""",
    ),
    Step(
        "Every run was recorded, with what it logged",
        """\
SELECT left(run_id::text, 8) AS run, status, rows_in,
       round(seconds::numeric, 2) AS seconds, name AS metric, step,
       round(value::numeric, 3) AS value
FROM dbml.runs JOIN dbml.metrics USING (run_id, experiment)
WHERE experiment = 'demo'
ORDER BY started_at DESC, name, step LIMIT 5;""",
    ),
    Step(
        "And the models, each with the run that made it",
        """\
SELECT name, version, size_bytes, left(run_id::text, 8) AS run,
       framework || ' ' || framework_version AS framework
FROM dbml.models WHERE name LIKE 'demo-%'
ORDER BY name, version DESC LIMIT 4;""",
    ),
)


def demo() -> None:
    """Train two models inside PostgreSQL and score with them, every step shown as the SQL it runs.

    Starts a server and a worker in this folder's .dbml (or uses the ones that run here) and leaves
    them running for you to go on; dbml down stops them.  It writes to the schema demo and to the
    models demo-diabetes and demo-iris, and can be repeated.

    Example: dbml demo
    """
    started = time.monotonic()
    with console.status("starting a PostgreSQL server and a worker"):
        dsn = _database()
    console.print(f"A PostgreSQL server and a worker are running ({_took(started)}).\n")
    with psycopg.connect(dsn, client_encoding="utf8", autocommit=True, application_name="dbml demo") as connection:
        connection.add_notice_handler(lambda notice: console.print(f"NOTICE:  {notice.message_primary}", markup=False))
        _load(connection)
        for number, step in enumerate(STEPS, start=2):
            _run(connection, number, step)
    program = _program()
    console.print(f"[bold]Done in {_took(started)}.[/bold] The server and the worker run on; to stop them:\n")
    console.print(f"    {program} down\n", markup=False)
    console.print("And to go on in psql, with the tables, the models and the manual:\n")
    console.print(f'    {program} psql -- -c "\\df+ dbml.predict*"', markup=False, soft_wrap=True)
    console.print(f"    {program} psql", markup=False, soft_wrap=True)


def _program() -> str:
    """Return how this command line was called, so that the next line can be pasted."""
    called = Path(sys.argv[0])
    if called.name != "dbml":
        return f"{sys.executable} -m dbml.cli"
    on_path = shutil.which("dbml")
    if on_path and Path(on_path).resolve() == called.resolve():
        return "dbml"
    try:
        return str(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(called)


def _database() -> str:
    """Return the DSN of the dbml that runs here, started if need be."""
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        raise errors.DbmlError("the demo needs scikit-learn", hint="pip install 'dbml[demo]'") from None
    home = find_home()
    state = home.state() if home else None
    return str(state["dsn"]) if state else start_detached(Home.of(Path.cwd()))


def _load(connection: Connection) -> None:
    """Make the tables and copy scikit-learn's data sets into them."""
    from sklearn.datasets import load_diabetes, load_iris

    diabetes, iris = load_diabetes(scaled=False), load_iris()
    patients = [
        (number, *map(float, row), float(target))
        for number, (row, target) in enumerate(zip(diabetes.data, diabetes.target, strict=True), start=1)
    ]
    flowers = [
        (number, *map(float, row), int(target))
        for number, (row, target) in enumerate(zip(iris.data, iris.target, strict=True), start=1)
    ]
    console.print("[bold]1. Two data sets of scikit-learn, into ordinary tables by COPY[/bold]")
    _show(TABLES)
    started = time.monotonic()
    with connection.transaction():
        connection.execute("SET LOCAL client_min_messages = warning")
        for statement in TABLES.split(";\n"):
            connection.execute(statement.encode())
        _copy(connection, "diabetes", patients)
        _copy(connection, "species", enumerate(map(str, iris.target_names)))
        _copy(connection, "iris", flowers)
    print_table(["table", "rows"], [["demo.diabetes", len(patients)], ["demo.iris", len(flowers)]])
    console.print(f"[dim]{_took(started)}[/dim]\n")


def _copy(connection: Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier("demo", table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _run(connection: Connection, number: int, step: Step) -> None:
    console.print(f"[bold]{number}. {step.title}[/bold]")
    _show(step.statement)
    started = time.monotonic()
    cursor = connection.execute(step.statement.encode())
    took = _took(started)
    print_table([column.name for column in cursor.description or ()], cursor.fetchall())
    console.print(f"[dim]{took}[/dim]\n")


def _show(statement: str) -> None:
    console.print(Syntax(statement, "postgresql", theme="ansi_light", background_color="default", word_wrap=True))


def _took(started: float) -> str:
    seconds = time.monotonic() - started
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
