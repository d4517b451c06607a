"""Predictions that are kept true: whatever is done to the source, each row is what the model that it is stamped with says."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from dbml import errors

Db = psycopg.Connection[Any]
POINTS = np.random.default_rng(3).random((40, 2))


def linear(factor: float) -> LinearRegression:
    """Return a model that answers factor * (a + 2 b), up to rounding."""
    return LinearRegression().fit(POINTS, factor * (POINTS @ [1.0, 2.0]))


@pytest.fixture
def mark(db: Db) -> Iterator[str]:
    """Yield a schema of the test's own, which is on the path, and the name of a model with three versions: alias now is 1."""
    name = "kept" + uuid.uuid4().hex[:8]
    db.execute(f"create schema {name}; set search_path = {name}, public")  # type: ignore[arg-type]
    for version in (1, 2, 3):
        alias = "now" if version == 1 else None
        db.execute("select dbml.register_model(%s, %s, alias => %s)", [name, pickle.dumps(linear(version)), alias])
    yield name
    db.execute("reset role")
    db.execute(f"drop schema if exists {name} cascade")  # type: ignore[arg-type]
    db.execute("delete from dbml._models where name = %s", [name])


@pytest.fixture
def kept(db: Db, mark: str) -> str:
    """Keep predictions of the table given (id, a, b, note) in scored."""
    db.execute("create table given (id int primary key, a float8, b numeric, note text)")
    db.execute("insert into given select g, g, g / 7.0 from generate_series(1, 30) g")
    assert db.execute("select dbml.maintain_predictions(%s, 'given', 'scored')", [f"{mark}@now"]).fetchone() == (30,)
    return mark


# What is not as its stamp says, missing or too many.
SWEEP = """select count(*) from given g full join scored s using (id)
    where g.id is null or s.id is null or s.model_version is null
       or case when g.a is null or g.b is null then s.prediction is not null
               else s.prediction is null or abs(s.prediction - s.model_version * (g.a + 2 * g.b)) > 1e-6 * (1 + abs(s.prediction)) end"""


def wrong(db: Db) -> int:
    return int(db.execute(SWEEP).fetchone()[0])  # type: ignore[index]


CHANGES = [
    "insert into given values (100, 1, 2), (101, 3, 4)", "update given set a = a + 1 where id < 5", "update given set note = 'x'",
    "update given set id = id + 1000 where id < 10", "update given set id = -id, b = b + 1 where id % 5 = 0",
    "delete from given where id between 12 and 17", "insert into given values (200, null, 1), (201, 1, null)",
    "update given set a = 5 where id = 200", "update given set a = null where id = 20",
    "insert into given values (20, 9, 9) on conflict (id) do update set a = 7, b = 8",
    "with gone as (delete from given where id = 100 returning *) insert into given select id, a + 1, b from gone",
    "truncate given", "insert into given select g, g, g from generate_series(1, 5) g",
]  # fmt: skip


def test_every_change_of_the_source_is_followed(db: Db, kept: str) -> None:
    for statement in CHANGES:
        db.execute(statement)  # type: ignore[arg-type]
        assert wrong(db) == 0, statement
    with db.cursor() as cursor, cursor.copy("copy given (id, a, b) from stdin") as copy:
        copy.write_row((300, 1.5, 2))
    with db.transaction(force_rollback=True):
        db.execute("update given set a = 0; delete from given where id = 300")
        assert wrong(db) == 0
    assert wrong(db) == 0 and db.execute("select count(*) from scored").fetchone() == (6,)
    shown = db.execute(
        "select model, version, rows, compiled, problem from dbml.maintained_predictions where model_name = %s", [kept]
    ).fetchall()
    assert shown == [(f"{kept}@now", 1, 6, True, None)]


def test_moving_the_alias_scores_all_in_the_same_transaction(db: Db, kept: str, connect: Callable[[], Db]) -> None:
    with connect() as reader:
        reader.execute(f"set search_path = {kept}, public")  # type: ignore[arg-type]
        with db.transaction():
            db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:2"])
            assert db.execute("select distinct model_version from scored").fetchall() == [(2,)] and wrong(db) == 0
            assert reader.execute("select distinct model_version from scored").fetchall() == [(1,)]
        assert reader.execute("select distinct model_version from scored").fetchall() == [(2,)]
    with db.transaction(force_rollback=True):
        db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:3"])
    assert db.execute("select distinct model_version from scored").fetchall() == [(2,)] and wrong(db) == 0
    db.execute("insert into given values (50, 1, 1)")
    assert wrong(db) == 0
    with pytest.raises(errors.InvalidArgument, match="must keep no predictions"):
        db.execute("select dbml.delete_model(%s)", [f"{kept}:2"])
    with db.transaction():
        db.execute("set transaction isolation level repeatable read")
        with pytest.raises(errors.InvalidArgument, match="READ COMMITTED"), db.transaction():
            db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:1"])


def test_the_latest_version_is_followed_where_it_can(db: Db, mark: str) -> None:
    db.execute("create table given (id int primary key, a float8, b float8); insert into given values (1, 1, 1)")
    db.execute("select dbml.maintain_predictions(%s, 'given', 'scored')", [mark])
    db.execute("select dbml.register_model(%s, %s)", [mark, pickle.dumps(linear(4))])
    assert db.execute("select model_version from scored").fetchall() == [(4,)] and wrong(db) == 0
    db.execute("select dbml.register_model(%s, %s)", [mark, pickle.dumps(KNeighborsRegressor().fit(POINTS, POINTS[:, 0]))])
    assert wrong(db) == 0
    (version, problem) = db.execute(  # type: ignore[misc]
        "select version, problem from dbml.maintained_predictions where model_name = %s", [mark]
    ).fetchone()
    assert version == 4 and "not compiled" in problem


def test_what_is_not_compiled_is_scored_by_the_model_itself(db: Db, mark: str) -> None:
    neighbours = make_pipeline(FunctionTransformer(), KNeighborsRegressor(1)).fit(POINTS, POINTS[:, 0])
    db.execute("select dbml.register_model(%s, %s, alias => 'near')", [mark, pickle.dumps(neighbours)])
    db.execute("create table given (id int primary key, a float8, b float8)")
    db.cursor().executemany("insert into given values (%s, %s, %s)", [(i, *map(float, POINTS[i])) for i in range(3)])
    db.execute("select dbml.maintain_predictions(%s, 'given', 'scored')", [f"{mark}@near"])
    db.execute("update given set id = 9 where id = 2; insert into given values (10, null, 1)")
    found = dict(db.execute("select id, prediction from scored").fetchall())
    assert found == {0: POINTS[0, 0], 1: POINTS[1, 0], 9: POINTS[2, 0], 10: None}


def test_labels_several_targets_text_and_booleans(db: Db, mark: str) -> None:
    rows = pd.DataFrame({"city": ["a", "b", "c"] * 14, "flag": [True, False] * 21, "x": np.arange(42.0)})
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    models = {
        "text": make_pipeline(encoder, DecisionTreeClassifier(max_depth=4)).fit(
            rows, np.where(rows.x % 5 < 2, "low", "it's high")
        ),
        "whole": make_pipeline(encoder, DecisionTreeClassifier(max_depth=4)).fit(rows, rows.x.astype(int) % 4),
        "pair": make_pipeline(encoder, LinearRegression()).fit(rows, np.column_stack([rows.x, rows.x * 2])),
    }
    db.execute("create domain place as text; create table given (id int primary key, city place, flag boolean, x int, note text)")
    insert = "insert into given select g, chr(97 + g %% 3), g %% 2 = 0, g from generate_series(%s::int, %s::int) g"
    db.execute(insert, [1, 20])
    for kind, model in models.items():
        db.execute("select dbml.register_model(%s, %s)", [f"{mark}-{kind}", pickle.dumps(model)])
        db.execute("select dbml.maintain_predictions(%s, 'given', %s)", [f"{mark}-{kind}", kind])
    db.execute(insert, [21, 30])
    db.execute("update given set city = 'zz', flag = not flag where id % 3 = 0; update given set x = null where id = 5")
    for kind, model in models.items():
        kept = db.execute(
            sql.SQL("select id, city, flag, x, prediction from given join {} using (id) where x is not null").format(
                sql.Identifier(kind)
            )
        )
        frame = pd.DataFrame(kept.fetchall(), columns=["id", "city", "flag", "x", "prediction"])
        wanted = model.predict(frame[["city", "flag", "x"]].astype({"x": float}))
        assert (len(frame) == 29 and np.array_equal(np.array(frame.prediction.tolist()), wanted)) or np.allclose(
            frame.prediction.tolist(), wanted
        )
        (nothing,) = db.execute(sql.SQL("select prediction from {} where id = 5").format(sql.Identifier(kind))).fetchone()  # type: ignore[misc]
        assert nothing is None if kind == "pair" else nothing is not None
    db.execute("delete from dbml._models where name like %s", [f"{mark}-%"])


@pytest.mark.parametrize("kind", ["partitioned", "partition", "child"])
def test_partitions_and_children_are_followed(db: Db, mark: str, kind: str) -> None:
    columns = "(id int not null, a float8, b float8, primary key (id))"
    if kind == "child":
        db.execute(f"create table mother {columns}; create table given (primary key (id)) inherits (mother)")  # type: ignore[arg-type]
    else:
        root = "given" if kind == "partitioned" else "mother"
        db.execute(f"create table {root} {columns} partition by range (id)")  # type: ignore[arg-type]
        low = "low" if kind == "partitioned" else "given"
        db.execute(f"create table {low} partition of {root} for values from (0) to (100)")  # type: ignore[arg-type]
    into = "mother" if kind == "partition" else "given"
    db.execute(f"insert into {into} select g, g, 1 from generate_series(1, 9) g")  # type: ignore[arg-type]
    assert db.execute("select dbml.maintain_predictions(%s, 'given', 'scored')", [f"{mark}@now"]).fetchone() == (9,)
    through = "given" if kind == "partitioned" else "mother"
    if kind == "partitioned":
        db.execute("create table high partition of given for values from (100) to (200)")
        db.execute("insert into high values (150, 1, 1)")
        db.execute("update given set id = id + 100 where id in (1, 2)")  # to the other partition
        assert wrong(db) == 0
    db.execute(f"update {through} set a = a + 1 where id > 5; delete from {through} where id = 7")  # type: ignore[arg-type]
    assert wrong(db) == 0
    if kind == "partitioned":
        db.execute("truncate low")
        assert wrong(db) == 0
        db.execute("alter table given detach partition high")
        assert wrong(db) > 0, "nothing fires"
        db.execute("select dbml.refresh_predictions('scored')")
        assert wrong(db) == 0


def test_names_of_all_kinds(db: Db, mark: str) -> None:
    name = f"{mark} Ωé"
    db.execute("select dbml.register_model(%s, %s, alias => 'it''s')", [name, pickle.dumps(linear(1))])
    db.execute('create table "Gi\'v ""en" ("K ""ey" text, "prediction" int, "x y" float8, "Ü" float8, primary key ("K ""ey"))')
    db.execute('insert into "Gi\'v ""en" values (\'ä\', 1, 2, 3)')
    with pytest.raises(errors.InvalidArgument, match="features"):
        db.execute("select dbml.maintain_predictions(%s, %s, 'scored')", [f"{name}@it's", '"Gi\'v ""en"'])
    db.execute('alter table "Gi\'v ""en" drop column prediction')
    db.execute("select dbml.maintain_predictions(%s, %s, %s)", [f"{name}@it's", '"Gi\'v ""en"', f'{mark}."Sc,ör\'ed"'])
    db.execute('insert into "Gi\'v ""en" values (\'\\\', 1, 1)')
    db.execute('update "Gi\'v ""en" set "Ü" = 4 where "K ""ey" = \'ä\'')
    found = db.execute('select "K ""ey", round(prediction), model_version from "Sc,ör\'ed" order by 1').fetchall()
    assert sorted(found) == [("\\", 3, 1), ("ä", 10, 1)]
    with db.transaction(force_rollback=True):
        db.execute("select dbml.delete_maintained_predictions(%s)", ['"Sc,ör\'ed"'])
        assert db.execute("select to_regclass(%s)", ['"Sc,ör\'ed"']).fetchone() == (None,)
    db.execute("delete from dbml._models where name = %s", [name])


REFUSED = [
    ("create table given (id int, a float8, b float8)", "given", errors.InvalidArgument, "primary key"),
    ("create table given (id int, a float8, b float8, primary key (id) deferrable)", "given", errors.InvalidArgument, "deferrable"),
    ("create temporary table given_ (id int primary key, a float8, b float8)", "given_", errors.InvalidArgument, "lasts"),
    ("create view given as select 1 as id", "given", errors.InvalidArgument, "a table"),
    ("create table given (id int primary key, a float8)", "given", errors.InvalidArgument, "2 features"),
    ("create table given (id int primary key, a float8, b date)", "given", errors.InvalidArgument, "2 features"),
    ("create table given (id int primary key); create table child () inherits (given)", "given", errors.InvalidArgument, "inherit"),
    ("create type mood as enum ('x'); create table given (id mood primary key)", "given", errors.InvalidArgument, "PostgreSQL's own"),
    ("select 1", "nowhere", psycopg.errors.UndefinedTable, "nowhere"),
    ("create table given (id int primary key, a float8, b float8); create view scored as select 1", "given",
     psycopg.errors.DuplicateTable, "exists"),
    ("select 1", None, errors.InvalidArgument, "NULL"),
]  # fmt: skip


def test_what_cannot_be_kept_is_refused(db: Db, mark: str) -> None:
    for setup, source, error, said in REFUSED:
        with db.transaction(force_rollback=True):
            db.execute(setup)  # type: ignore[arg-type]
            with pytest.raises(error, match=said), db.transaction():
                db.execute("select dbml.maintain_predictions(%s, %s, 'scored')", [f"{mark}@now", source])
    assert db.execute(
        "select count(*) from dbml._maintained k join dbml._models m using (model_id) where m.name = %s", [mark]
    ).fetchone() == (0,)


def test_columns_stay_or_the_writer_is_told(db: Db, kept: str) -> None:
    for statement in ("alter table given drop column a", "alter table given alter column b type text"):
        with pytest.raises(psycopg.Error, match=r"depend|trigger"):
            db.execute(statement)  # type: ignore[arg-type]
    with pytest.raises(psycopg.Error, match="trigger"):
        db.execute("create table parent (like given including all); alter table given inherit parent")
    with db.transaction(force_rollback=True):
        db.execute("alter table given drop column a cascade")
        with pytest.raises(errors.InvalidArgument, match="no longer has the columns"), db.transaction():
            db.execute("insert into given (id, b) values (500, 1)")
    with db.transaction(force_rollback=True):  # another's type, whose casts would run as the owner
        db.execute("alter table given rename column b to c; alter table given add b text")
        with pytest.raises(errors.InvalidArgument, match="no longer has the columns"), db.transaction():
            db.execute("insert into given (id, a, b) values (500, 1, '1')")


def test_rights_are_those_of_whom_they_are_kept_for(db: Db, mark: str, role: str, connect: Callable[[], Db]) -> None:
    db.execute("create table given (id int primary key, a float8, b float8); insert into given values (1, 1, 1)")
    db.execute(f"grant usage, create on schema {mark} to {role}")  # type: ignore[arg-type]
    try:
        keep = sql.SQL("select dbml.maintain_predictions({}, 'given', 'scored')").format(f"{mark}@now")

        def refused(match: str, kind: Any = psycopg.errors.InsufficientPrivilege) -> None:
            db.execute(f"set role {role}")  # type: ignore[arg-type]
            with pytest.raises(kind, match=match), db.transaction():
                db.execute(keep)
            db.execute("reset role")

        refused("schema dbml")
        db.execute("select dbml.grant_model(%s, %s, 'predict')", [mark, role])
        refused("may not read table")
        db.execute(f"grant select on given to {role}")  # type: ignore[arg-type]
        refused("permission denied for table given")  # to make triggers on it
        db.execute(f"grant trigger on given to {role}; alter table given enable row level security")  # type: ignore[arg-type]
        refused("row-level security")
        db.execute("alter table given disable row level security")
        db.execute(f"set role {role}")  # type: ignore[arg-type]
        db.execute(keep)
        for statement in ("insert into scored values (5, 5)", "insert into dbml_predictions.p1 values (1)"):
            with pytest.raises(psycopg.Error, match=r"permission|not exist|cannot"):
                db.execute(statement)  # type: ignore[arg-type]
        db.execute("reset role; insert into given values (2, 2, 2)")
        assert wrong(db) == 0
        # A writer who may neither predict nor see what is kept, and an owner of the model who may not see the table.
        db.execute("insert into given select 3, 3, 3")
        db.execute("select dbml.set_model_alias(%s, 'now')", [f"{mark}:2"])
        assert wrong(db) == 0 and db.execute("select count(*) from scored where model_version = 2").fetchone() == (3,)
        for statement, back in (
            (f"revoke select on given from {role}", f"grant select on given to {role}"),
            (f"select dbml.revoke_model('{mark}', '{role}')", f"select dbml.grant_model('{mark}', '{role}', 'predict')"),
        ):
            db.execute(statement)  # type: ignore[arg-type]
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="for whom predictions"):
                db.execute("insert into given values (4, 4, 4)")
            db.execute(back)  # type: ignore[arg-type]
        # A trigger of one's own for another's predictions does nothing for another table.
        (kept_id,) = db.execute("select max(maintained_id) from dbml._maintained").fetchone()  # type: ignore[misc]
        db.execute("create table other (id int primary key, a float8, b float8)")
        db.execute(
            f"create trigger t after insert on other for each row execute function dbml_channel.follow_source({kept_id}, insert)"
        )  # type: ignore[arg-type]
        with pytest.raises(errors.InvalidArgument, match="are kept of table"):
            db.execute("insert into other values (1, 1, 1)")
        with pytest.raises(errors.NothingFound):
            db.execute("select dbml.delete_maintained_predictions('nothing')")
        # The model's owner ends it; what is left of the triggers does nothing.
        db.execute("select dbml.delete_maintained_predictions('scored')")
        db.execute("insert into given values (6, 6, 6)")
        assert db.execute("select to_regclass('scored')").fetchone() == (None,)
    finally:
        db.execute("reset role")
        db.execute(f"drop owned by {role} cascade")  # type: ignore[arg-type]
        db.execute("delete from dbml._model_grants where grantee = %s", [role])


def test_rows_are_followed_by_plans_that_are_kept_until_the_model_is_another(db: Db, kept: str) -> None:
    """The way that plans each row anew is for what the kept plans were not made for, and both do the same."""
    calls = "select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where funcname = '_follow_row'"

    def change(isolation: str = "read committed") -> int:
        db.execute(f"begin isolation level {isolation}; set local track_functions = 'all'")  # type: ignore[arg-type]
        (before,) = db.execute(calls).fetchone()  # type: ignore[misc]
        db.execute("update given set a = a + 1 where id <= 5")
        db.execute("update given set id = 1006 - id where id in (6, 1000)")
        db.execute("delete from given where id = 7; insert into given values (7, 7, 7)")
        (anew,) = db.execute(calls).fetchone()  # type: ignore[misc]
        assert db.execute(SWEEP).fetchone() == (0,)
        db.execute("commit")
        return int(anew - before)

    assert change() == 0
    db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:2"])
    assert change() == 0 and db.execute("select distinct model_version from scored").fetchall() == [(2,)]
    db.execute("select dbml.compile_model(%s)", [f"{kept}:2"])
    assert change() == 0
    assert change("repeatable read") == 8  # whose snapshot may be from before the model moved
    db.execute("begin; set local track_functions = 'all'")
    (before,) = db.execute(calls).fetchone()  # type: ignore[misc]
    db.execute("update given set a = null where id = 1")
    assert db.execute(calls).fetchone() == (before + 1,)  # a row for the model itself
    assert db.execute(SWEEP).fetchone() == (0,)
    db.execute("rollback")


def test_the_trigger_function_goes_with_what_is_kept(db: Db, kept: str) -> None:
    (kept_id,) = db.execute("select max(maintained_id) from dbml._maintained where model = %s", [f"{kept}@now"]).fetchone()  # type: ignore[misc]
    there = f"select to_regprocedure('dbml_predictions.follow_{kept_id}()') is not null"
    assert db.execute(there).fetchone() == (True,)  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.execute(f"select dbml_predictions.follow_{kept_id}()")  # type: ignore[arg-type]
    db.execute("select dbml.delete_maintained_predictions('scored')")
    assert db.execute(there).fetchone() == (False,)  # type: ignore[arg-type]
    db.execute("update given set a = 1")


def test_a_writer_with_an_older_snapshot_is_told_to_repeat(db: Db, kept: str, connect: Callable[[], Db]) -> None:
    with connect() as writer:
        writer.execute(f"set search_path = {kept}, public")  # type: ignore[arg-type]
        writer.execute("begin isolation level repeatable read; select count(*) from given")
        db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:2"])
        with pytest.raises(psycopg.errors.SerializationFailure):
            writer.execute("insert into given values (60, 1, 1)")
        writer.execute("rollback; insert into given values (60, 1, 1)")
    assert wrong(db) == 0


def test_under_load_every_commit_is_true(db: Db, kept: str, connect: Callable[[], Db]) -> None:
    """Writers that commit and roll back, an alias that moves and is rolled back, and sweeps in snapshots of their own."""
    failures: list[str] = []
    done = threading.Event()

    def working(work: Callable[[Db, np.random.Generator], None], seed: int, rounds: int) -> None:
        try:
            with connect() as connection:
                connection.execute(f"set search_path = {kept}, public")  # type: ignore[arg-type]
                random = np.random.default_rng(seed)
                for _ in range(rounds):
                    if not done.is_set():
                        work(connection, random)
        except Exception as error:
            failures.append(repr(error))
            done.set()

    def write(connection: Db, random: np.random.Generator) -> None:
        key = int(random.integers(1000, 2000)) + 10_000 * int(threading.get_ident() % 1000)
        with connection.transaction(force_rollback=random.random() < 0.3):
            connection.execute(
                "insert into given values (%s, %s, 1) on conflict (id) do update set a = 2", [key, random.random()]
            )
            connection.execute("update given set a = a + 1 where id = %s", [int(random.integers(1, 30))])
            connection.execute("update given set id = -id where id = %s", [key])
            connection.execute("delete from given where id = %s", [int(random.integers(-2000, -1000))])

    def move(connection: Db, random: np.random.Generator) -> None:
        with connection.transaction(force_rollback=random.random() < 0.3):
            connection.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:{int(random.integers(1, 4))}"])

    seen: set[int] = set()

    def sweep(connection: Db, random: np.random.Generator) -> None:
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            bad = wrong(connection)
            versions = [row[0] for row in connection.execute("select distinct model_version from scored")]
            (now,) = connection.execute(  # type: ignore[misc]
                "select version from dbml.models where name = %s and 'now' = any (aliases)", [kept]
            ).fetchone()
        seen.update(versions)
        if bad or versions != [now]:
            failures.append(f"{bad} rows are wrong, versions {versions}, the alias is {now}")
            done.set()

    threads = [threading.Thread(target=working, args=(write, seed, 40)) for seed in (1, 2)]
    threads += [threading.Thread(target=working, args=(move, 3, 12)), threading.Thread(target=working, args=(sweep, 4, 25))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == [] and wrong(db) == 0 and seen


def waits_for_a_lock(db: Db, connection: Db) -> bool:
    (waits,) = db.execute(
        "select count(*) from pg_locks where pid = %s and not granted", [connection.info.backend_pid]
    ).fetchone()  # type: ignore[misc]
    return bool(waits)


class Aside:
    """A statement in a session and a thread of its own; `blocked` waits until it waits for another session."""

    def __init__(self, db: Db, connection: Db, statement: str, *parameters: Any) -> None:
        self._db, self._connection = db, connection
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(statement, parameters))
        self._thread.start()

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> None:
        try:
            self._connection.execute(statement, parameters)  # type: ignore[arg-type]
        except psycopg.Error as error:
            self.error = error

    def blocked(self) -> Aside:
        while not waits_for_a_lock(self._db, self._connection):
            assert self._thread.is_alive(), f"it ended without waiting: {self.error}"
        return self

    def wait(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def pair(kept: str, connect: Callable[[], Db]) -> Iterator[tuple[Db, Db]]:
    """Yield two more sessions with the test's schema on their path."""
    with connect() as one, connect() as other:
        for each in (one, other):
            each.execute(f"set search_path = {kept}, public")  # type: ignore[arg-type]
        yield one, other


WRITES = [
    "insert into given values (70, 1, 1)",
    "update given set a = 5 where id = 3",
    "delete from given where id = 4",
    "truncate given",
]


@pytest.mark.parametrize("how", ["commit", "rollback"])
@pytest.mark.parametrize("statement", WRITES)
def test_a_move_waits_for_those_who_have_written(db: Db, kept: str, pair: tuple[Db, Db], statement: str, how: str) -> None:
    writer, mover = pair
    writer.execute(f"begin; {statement}")  # type: ignore[arg-type]
    moving = Aside(db, mover, "select dbml.set_model_alias(%s, 'now')", f"{kept}:2").blocked()
    writer.execute(how)  # type: ignore[arg-type]
    moving.wait()
    assert moving.error is None and wrong(db) == 0
    assert db.execute("select count(*) from scored where model_version <> 2").fetchone() == (0,)


@pytest.mark.parametrize("how", ["commit", "rollback", "terminated"])
@pytest.mark.parametrize("statement", WRITES[:3])
def test_who_writes_while_the_model_moves_is_scored_by_what_is_committed(
    db: Db, kept: str, pair: tuple[Db, Db], statement: str, how: str
) -> None:
    writer, mover = pair
    mover.execute("begin")
    mover.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:2"])
    writing = Aside(db, writer, statement).blocked()
    if how == "terminated":
        db.execute("select pg_terminate_backend(%s)", [mover.info.backend_pid])
        mover.close()
    else:
        mover.execute(how)  # type: ignore[arg-type]
    writing.wait()
    assert writing.error is None and wrong(db) == 0
    assert db.execute("select distinct model_version from scored").fetchall() == [(2 if how == "commit" else 1,)]


def test_a_writer_that_is_cut_off_leaves_nothing(db: Db, kept: str, pair: tuple[Db, Db]) -> None:
    before = db.execute("select * from scored order by id").fetchall()
    pair[0].execute(
        "begin; insert into given values (80, 1, 1); update given set id = -id where id < 5; delete from given where id = 9"
    )
    db.execute("select pg_terminate_backend(%s)", [pair[0].info.backend_pid])
    pair[0].close()
    moving = Aside(db, pair[1], "select dbml.set_model_alias(%s, 'now')", f"{kept}:1")
    moving.wait()
    assert moving.error is None and db.execute("select * from scored order by id").fetchall() == before


def test_a_table_may_be_renamed_and_whoever_renames_a_column_or_drops_it_is_told(db: Db, kept: str) -> None:
    db.execute("alter table given rename to taken; insert into taken values (90, 1, 1); update taken set a = 9 where id = 1")
    db.execute("alter table taken rename to given")
    assert wrong(db) == 0
    with db.transaction(force_rollback=True):
        db.execute("alter table given rename column b to c")
        for statement in ("insert into given values (91, 1, 1)", "update given set a = 1", "delete from given where id = 5"):
            with pytest.raises(errors.InvalidArgument, match="no longer has the columns"), db.transaction():
                db.execute(statement)  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.UndefinedColumn), db.transaction():
            db.execute("select dbml.refresh_predictions('scored')")
    db.execute("insert into given values (92, 1, 1)")
    assert wrong(db) == 0
    db.execute("drop table given")
    with pytest.raises(psycopg.errors.UndefinedTable, match="is gone"):
        db.execute("select dbml.refresh_predictions('scored')")
    db.execute("select dbml.set_model_alias(%s, 'now')", [f"{kept}:2"])  # of what is kept
    assert db.execute("select model_version, count(*) from scored group by 1").fetchall() == [(2, 32)]
    db.execute("select dbml.delete_maintained_predictions('scored')")
    assert db.execute("select to_regclass('scored')").fetchone() == (None,)
