"""The parts of the page: each starts a server of its own, measures in turns, and returns its figures.

A cell of `sets` is repeated until it has ROUNDS times or has taken CELL_S; where the size before says that one time would
take longer, it is left out, and the page says so.
"""

from __future__ import annotations

import contextlib
import http.client
import pickle
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import houses, maintain
from benchmarks.bench import FEATURES, connect, make_rows, served, timed
from benchmarks.engines import ROW
from benchmarks.report import alternatives
from benchmarks.report.results import Figure, Part, Wish
from dbml.database import binaries
from dbml.database.account import server_account

ROUNDS = 3
CELL_S = 10.0
BLOCK = 20  # calls in a row before another way has its turn: who scores, scores again
PLPYTHON_MAJOR = 15
ORBITAL_ROWS = 40_000  # its SQL over more takes long
RIDGE, BOOSTED, FOREST, SMALL = (
    "Ridge with a scaler",
    "boosted, {} trees of depth 3",
    "forest, {} trees of depth 10",
    "boosted, 25 trees",
)
INTO, COPY = "dbml.predict_into", "COPY out, predict, COPY in"
ADBC, PANDAS, AGAIN = "ADBC round trip", "pandas round trip", "the whole table again"
ONE = "dbml.predict"


class Setting:
    """How large everything is."""

    def __init__(self, *, quick: bool, ten_million: bool, major: int | None) -> None:
        self.quick, self.major = quick, major
        self.trees = 10 if quick else 100
        self.sizes = [1, 50] if quick else [1, 1_000, 100_000, 1_000_000, *([10_000_000] if ten_million else [])]
        self.set_rows = 2_000 if quick else 200_000
        self.calls = 5 if quick else 200
        self.seconds = 1 if quick else 4
        self.kept = 500 if quick else 50_000
        self.houses = 20_000 if quick else 1_000_000

    def models(self, *kinds: str) -> dict[str, Any]:
        """Return fitted models of these kinds by what the page calls them; of a quick run only the last."""
        random = np.random.default_rng(0)
        features = pd.DataFrame(random.random((2000, len(FEATURES))), columns=FEATURES)
        target = np.sin(features.to_numpy() * 5) @ random.random(len(FEATURES))
        made = {
            RIDGE: make_pipeline(StandardScaler(), Ridge()),
            SMALL: GradientBoostingRegressor(n_estimators=25),
            BOOSTED.format(self.trees): GradientBoostingRegressor(n_estimators=self.trees),
            FOREST.format(self.trees): RandomForestRegressor(self.trees, max_depth=10, n_jobs=1, random_state=0),
        }
        wanted = [kind.format(self.trees) for kind in (kinds[-1:] if self.quick else kinds)]
        return {name: made[name].fit(features, target) for name in wanted}


def register(connection: psycopg.Connection[Any], models: dict[str, Any]) -> None:
    """Register models, which compiles them."""
    for name, model in models.items():
        connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(model)))


def measure(work: Callable[[], object], before: Callable[[], object], rounds: int) -> list[float]:
    """Return how long work takes, some times, `before` each of them."""
    taken: list[float] = []
    while len(taken) < rounds and sum(taken) < CELL_S:
        before()
        taken.append(timed(work))
    return taken


def sets(part: Part, setting: Setting) -> None:
    """Measure a table scored into another, by size, model and way."""
    models = setting.models(FOREST, BOOSTED, RIDGE)
    with served(setting.major) as (dsn, _), connect(dsn) as connection, contextlib.ExitStack() as services:
        ports = {name: services.enter_context(alternatives.service(model)) for name, model in models.items()}
        note_server(part, connection)
        register(connection, models)
        outside = alternatives.Outside(dsn, connection)
        last: dict[tuple[str, str], Figure] = {}

        def fresh() -> None:
            connection.execute("drop table if exists scored; checkpoint", prepare=False)

        for size in setting.sizes:
            make_rows(connection, "given", size)
            for name, model in models.items():
                alternatives.probe(model, ports[name])
                connection.execute("select dbml.predict_json(%s, 'select * from given limit 1')", [name])
                into = f"select dbml.predict_into('{name}', 'select * from given', 'scored')"
                ways: dict[str, Callable[[], object]] = {INTO: lambda s=into: connection.execute(s, prepare=False)}  # type: ignore[misc]
                for way, work in {**ways, **outside.ways(model, ports[name])}.items():
                    wished = name == RIDGE and way == PANDAS and size <= 1_000_000  # a ratio is wanted of it
                    if too_long(last.get((name, way)), size) and not wished:
                        last[name, way] = part.add(name, way, size, missing=f"more than {CELL_S:g} s")
                    else:
                        last[name, way] = part.add(name, way, size, measure(work, fresh, ROUNDS))
        outside.close()
    size = min(setting.sizes[-1], 1_000_000)
    part.ratio(
        f"{RIDGE}, {size:,} rows: pandas / predict_into",
        part.find(RIDGE, PANDAS, size),
        part.find(RIDGE, INTO, size),
        at_least=30,
    )
    part.ratio(
        f"{RIDGE}, {size:,} rows: predict_into / COPY", part.find(RIDGE, INTO, size), part.find(RIDGE, COPY, size), at_most=1.3
    )


def too_long(before: Figure | None, size: int) -> bool:
    """Tell from the time of fewer rows whether these take longer than a cell may."""
    return before is not None and (not before.seconds or (before.rows >= 1000 and before.median * size / before.rows > CELL_S))


def note_server(part: Part, connection: psycopg.Connection[Any]) -> None:
    """Note PostgreSQL's version."""
    (said,) = connection.execute("show server_version").fetchone()  # type: ignore[misc]
    part.about["PostgreSQL"] = str(said).split()[0]


def why_no_plpython() -> str | None:
    """Return why PL/Python cannot use this environment's scikit-learn; None where it can."""
    if sys.version_info[:2] != (3, 11) or not Path(f"/usr/lib/postgresql/{PLPYTHON_MAJOR}/lib/plpython3.so").exists():
        return f"needs Debian's postgresql-plpython3-{PLPYTHON_MAJOR}, and its Python 3.11"
    account = server_account()
    if account is not None and not account.reaches(Path(sysconfig.get_paths()["purelib"])):
        return "the account that runs the server may not read this environment"
    return None


def row(part: Part, setting: Setting) -> None:
    """Measure one row, whole statement, against what is at hand in a session or beside it; then sets by PL/Python."""
    models = setting.models(RIDGE, SMALL, BOOSTED, FOREST)
    why = why_no_plpython()
    with served(setting.major if why else PLPYTHON_MAJOR) as (dsn, _), connect(dsn) as connection:
        note_server(part, connection)
        register(connection, models)
        make_rows(connection, "given", 1)
        if why is None:
            text = alternatives.PLPYTHON.format(packages=sysconfig.get_paths()["purelib"], features=FEATURES)
            connection.execute(text, prepare=False)  # type: ignore[arg-type]
            connection.execute("select _packages()")
        for name, model in models.items():
            one_row(part, connection, setting, name, model, why)
        if why is None:
            for size in setting.sizes[1:3]:
                make_rows(connection, "given", size)
                for name in models:
                    sets_by_plpython(part, connection, name, size)
    forest = FOREST.format(setting.trees)
    part.ratio(
        f"one row of a {forest}: PL/Python / dbml.predict",
        part.find(forest, "PL/Python", 1),
        part.find(forest, ONE, 1),
        at_least=20,
    )


def one_row(part: Part, connection: psycopg.Connection[Any], setting: Setting, name: str, model: Any, why: str | None) -> None:
    """Measure prepared statements in turns, and the same row asked of others."""
    frame = pd.DataFrame([ROW], columns=FEATURES)
    (wanted,) = model.predict(frame)
    statements = {ONE: "select dbml.predict(%s, %s::float8[])"}
    if why is None:
        statements["PL/Python"] = "select plpython_one(%s, %s::float8[])"
    taken: dict[str, list[float]] = {way: [] for way in statements}
    for way, statement in statements.items():
        for _ in range(3):
            (got,) = connection.execute(statement, (name, ROW), prepare=True).fetchone()  # type: ignore[misc, arg-type]
        assert abs(got - wanted) < 1e-9, (way, got, wanted)
    for _ in range(0, setting.calls, BLOCK):
        for way, statement in statements.items():
            for _ in range(BLOCK if way == ONE else BLOCK // 4):
                taken[way].append(
                    timed(lambda s=statement: connection.execute(s, (name, ROW), prepare=True).fetchone())  # type: ignore[misc]
                )
    for way, seconds in taken.items():
        part.add(name, way, 1, seconds)
    if why is not None:
        part.add(name, "PL/Python", 1, missing=why)
    part.add(
        name, "scikit-learn, no database", 1, [timed(lambda: model.predict(frame)) for _ in range(max(3, setting.calls // 4))]
    )
    with alternatives.service(model) as port:
        asked = http.client.HTTPConnection("127.0.0.1", port)
        alternatives.ask(asked, [ROW])
        part.add(name, "FastAPI + ONNX Runtime", 1, [timed(lambda: alternatives.ask(asked, [ROW])) for _ in range(setting.calls)])
        asked.close()


def sets_by_plpython(part: Part, connection: psycopg.Connection[Any], name: str, size: int) -> None:
    """Measure a table scored by PL/Python, which reads it through a cursor, and by predict_into on the same server."""
    ways = {
        INTO: f"select dbml.predict_into('{name}', 'select * from given', 'scored')",
        "PL/Python": f"create table scored as select given.*, prediction from given join plpython_set('{name}') using (id)",
    }
    for way, statement in ways.items():
        part.add(name, way, size, measure(
            lambda s=statement: connection.execute(s, prepare=False),  # type: ignore[misc]
            lambda: connection.execute("drop table if exists scored"), ROUNDS,
        ))  # fmt: skip


def rate(part: Part, setting: Setting) -> None:
    """Measure prepared one-row predictions a second by pgbench."""
    found = binaries.find(setting.major)
    random = ", ".join(f":c{i}::float8 / 1000" for i in range(len(FEATURES)))
    draws = "\n".join(f"\\set c{i} random(1, 1000)" for i in range(len(FEATURES)))
    best = 0.0
    with served(setting.major) as (dsn, _), connect(dsn) as connection, tempfile.TemporaryDirectory() as folder:
        note_server(part, connection)
        register(connection, {"trees": setting.models(SMALL)[SMALL]})
        statements = {
            ONE: f"{draws}\nselect dbml.predict('trees', array[{random}]);\n",
            "select of the same array": f"{draws}\nselect array[{random}];\n",
        }
        for way, text in statements.items():
            script = Path(folder, "one.sql")
            script.write_text(text)
            for clients in (1, 2) if setting.quick else (1, 2, 4):
                command = [
                    str(found.program("pgbench")), "--no-vacuum", "--protocol=prepared", f"--file={script}",
                    f"--client={clients}", "--jobs=1", f"--time={setting.seconds}", dsn,
                ]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
                (a_second,) = re.findall(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
                part.add(f"{SMALL}, {clients} connection{'s' * (clients > 1)}", way, 1, [1 / float(a_second)])
                best = max(best, float(a_second) if way == ONE else 0)
    part.wishes.append(Wish(f"{SMALL}: prepared one-row predict a second, pgbench on the same processors", best, at_least=5000))


def compiled(part: Part, setting: Setting) -> None:
    """Measure compiled functions over a table, on one processor and with two parallel workers, against orbital's SQL."""
    models = setting.models(RIDGE, SMALL, FOREST, BOOSTED)
    boosted = BOOSTED.format(setting.trees)
    rows = setting.set_rows
    with served(setting.major) as (dsn, _), connect(dsn) as connection:
        note_server(part, connection)
        register(connection, models)
        make_rows(connection, "given", rows)
        connection.execute("set jit = off; set parallel_setup_cost = 0; set parallel_tuple_cost = 0", prepare=False)
        connection.execute("set min_parallel_table_scan_size = 0")
        for name, model in models.items():
            (function,) = connection.execute(
                "select functions -> 'predict' ->> 'set' from dbml._certificates s join dbml._models m using (model_id)"
                " where m.name = %s and s.engine = 'sql'", [name],
            ).fetchone()  # type: ignore[misc]  # fmt: skip
            texts: dict[str, str | None] = {}
            texts["dbml"] = function and f"select sum(dbml_models.{function}({', '.join(FEATURES)})) from given"
            theirs = alternatives.orbital_sql(model)
            texts["orbital"] = theirs and f"select sum(v) from ({theirs}) as t(v)"
            sums = {}
            for way, text in texts.items():
                why = (
                    "scored by the model itself: too many nodes" if way == "dbml" else f"no SQL within {alternatives.ORBITAL_S} s"
                )
                for workers, label in ((0, "one processor"), (2, "two parallel workers")):
                    if text is None:
                        part.add(name, f"{way}, {label}", rows, missing=why)
                        continue
                    connection.execute(f"set max_parallel_workers_per_gather = {workers}")  # type: ignore[arg-type]
                    done = run_sum(connection, text, rows if way == "dbml" else min(rows, ORBITAL_ROWS))
                    sums[way] = done[2]
                    part.add(name, f"{way}, {label}", done[0], done[1])
    for name, wanted in ((RIDGE, 2_000_000), (boosted, 150_000)):
        if one := part.find(name, "dbml, one processor", rows):
            part.wishes.append(Wish(f"{name}: rows a second, one processor", rows / one.median, at_least=wanted))
    one = part.find(boosted, "dbml, one processor", rows)
    part.ratio(
        f"{boosted}: two parallel workers / one processor",
        one,
        part.find(boosted, "dbml, two parallel workers", rows),
        at_least=1.6,
    )
    for figure in part.figures:
        if (figure.what, figure.way) == (boosted, "orbital, one processor"):
            part.ratio(f"{boosted}: orbital's SQL / dbml's, one processor", figure, one, at_least=8)


def run_sum(connection: psycopg.Connection[Any], text: str, rows: int) -> tuple[int, list[float], float]:
    """Return how many rows were summed, how long it took each time, and the sum."""
    if rows < connection.execute("select count(*) from given").fetchone()[0]:  # type: ignore[index]
        text = text.replace('"given" AS "t0"', f'(select * from given limit {rows}) AS "t0"')
    answers: list[float] = []
    taken = measure(
        lambda: answers.append(connection.execute(text, prepare=False).fetchone()[0]),  # type: ignore[index, arg-type]
        lambda: None, ROUNDS,
    )  # fmt: skip
    return rows, taken, answers[-1]


def keep(part: Part, setting: Setting) -> None:
    """Measure writes to a table with kept predictions, against the same writes without and against scoring the table again."""
    rows, changed = setting.kept, max(10, setting.kept // 25)
    model = Ridge().fit(*_small())
    with served(setting.major) as (dsn, _), connect(dsn) as connection:
        note_server(part, connection)
        connection.execute("select dbml.register_model('m', %s)", [pickle.dumps(model)])
        make_rows(connection, "given", rows)
        connection.execute("alter table given add primary key (id)")
        plain = maintain.writes(connection, changed, ROUNDS)
        connection.execute("select dbml.maintain_predictions('m', 'given', 'kept')")
        for what, seconds in maintain.writes(connection, changed, ROUNDS).items():
            part.add(what, "kept true", changed, seconds)
            part.add(what, "without predictions", changed, plain[what])
        outside = alternatives.Outside(dsn, connection)
        work = outside.ways(model, 0)[ADBC]
        part.add(AGAIN, ADBC, rows, measure(work, lambda: connection.execute("drop table if exists scored"), ROUNDS))
        outside.close()
    update, again = part.find("update", "kept true", changed), part.find(AGAIN, ADBC, rows)
    if update and again:
        what = f"ADBC over all {rows:,} rows / an update of {changed:,} that is kept true"
        part.wishes.append(Wish(what, again.median / update.median, at_least=1))


def real(part: Part, setting: Setting) -> None:
    """Compare each row of houses that SQL has scored with what the model says."""
    with served(setting.major) as (dsn, _), connect(dsn) as connection:
        note_server(part, connection)
        for found in houses.compare(connection, setting.houses):
            for engine, seconds in found.seconds.items():
                part.add(found.model, f"{INTO}, engine {engine}", setting.houses, [seconds])
            of = f"{found.model}: of {found.rows:,} rows that SQL scored ({found.left:,} left to the model)"
            part.wishes.append(Wish(f"{of}, different from the model's own answer", found.different, at_most=0))
            if found.relative:
                part.wishes.append(Wish(f"{of}, largest relative error", found.relative, at_most=houses.MOST_ERROR))


def _small() -> tuple[pd.DataFrame, Any]:
    frame = pd.DataFrame(np.random.default_rng(0).random((500, len(FEATURES))), columns=FEATURES)
    return frame, frame.sum(axis=1)


PARTS: dict[str, Callable[[Part, Setting], None]] = {
    "sets": sets,
    "row": row,
    "rate": rate,
    "compiled": compiled,
    "keep": keep,
    "real": real,
}
