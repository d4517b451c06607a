"""Datasets: of files, tables and queries; versions that stay what they were; splits that are the same everywhere."""

from __future__ import annotations

import datetime
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbml import errors
from dbml.core import Dataset, Datastore, Experiment, Workspace
from dbml.core.dataset import link
from dbml.data import DataType, FileDataset, TabularDataset, rows, table_rows
from dbml.data.dataset_type_definitions import PromoteHeadersBehavior
from dbml.data.text_files import HeaderWarning, partitions
from dbml.exceptions import UserErrorException


@pytest.fixture
def ws(shared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create("d-" + uuid.uuid4().hex[:12], show_output=False)
    yield workspace
    for experiment in workspace.experiments.values():
        for run in experiment.get_runs(status="Running", include_children=True):
            run.complete()
    workspace.delete()
    workspace._connection.close()


@pytest.fixture
def table(db: psycopg.Connection[Any]) -> Iterator[str]:
    """A name for a table, which is dropped in the end."""
    name = "t_" + uuid.uuid4().hex[:12]
    yield name
    db.execute(f"DROP TABLE IF EXISTS {name}")  # type: ignore[arg-type]


def put(ws: Workspace, **files: str) -> Any:
    """Write files, with _ for the dot of their names, into the default datastore's folder data; returns the datastore."""
    store = ws.get_default_datastore()
    for name, content in files.items():
        Path(name.replace("_", ".")).write_text(content)
    store.upload_files([name.replace("_", ".") for name in files], target_path="data", overwrite=True, show_progress=False)
    return store


def delimited(ws: Workspace, content: str, **options: Any) -> TabularDataset:
    return Dataset.Tabular.from_delimited_files((put(ws, a_csv=content), "data/a.csv"), **options)


def test_the_first_line_is_the_header_also_of_bare_numbers(ws: Workspace, tmp_path: Path) -> None:
    np.savetxt("features.csv", np.arange(12.0).reshape(3, 4), delimiter=",")
    store = ws.get_default_datastore()
    store.upload_files(["./features.csv"], target_path="sklearn_regression/", overwrite=True)
    with pytest.warns(HeaderWarning, match="looks like a row of numbers: 0.0000"):
        data = Dataset.Tabular.from_delimited_files(path=[(store, "sklearn_regression/features.csv")])
    frame = data.to_pandas_dataframe()
    assert frame.shape == (2, 4) and frame.columns[1] == "1.000000000000000000e+00"
    whole = Dataset.Tabular.from_delimited_files((store, "sklearn_regression/*.csv"), header=False).to_pandas_dataframe()
    assert whole.shape == (3, 4) and list(whole.columns) == ["Column1", "Column2", "Column3", "Column4"]


def test_a_header_alone_and_lines_as_they_are(ws: Workspace) -> None:
    alone = delimited(ws, "x,y").to_pandas_dataframe()
    assert list(alone.columns) == ["x", "y"] and len(alone) == 0
    lines = delimited(ws, '{"a": [1, 2]}\n"b",c\n', separator="\n", header=False).to_pandas_dataframe()
    assert lines.iloc[:, 0].tolist() == ['{"a": [1, 2]}', '"b",c']


def test_types_are_inferred_and_only_an_empty_field_is_missing(ws: Workspace) -> None:
    data = delimited(ws, "n,x,word,flag,day,at\n1,1.5,NA,true,2020-02-01,2020-02-01T10:00:00\n,nan,,false,,\n")
    assert [str(t) for t in data.to_arrow().schema.types] == ["int64", "double", "string", "bool", "date32[day]", "timestamp[s]"]
    assert data.to_arrow().to_pylist()[1] == {
        "n": None,
        "x": pytest.approx(float("nan"), nan_ok=True),
        "word": None,
        "flag": False,
        "day": None,
        "at": None,
    }
    assert data.to_pandas_dataframe().word[0] == "NA"
    assert delimited(ws, "a,b\n,x\n1,\n", empty_as_string=True).to_pandas_dataframe().b.tolist() == ["x", ""]
    assert delimited(ws, "a,b\n01,x\n", infer_column_types=False).to_pandas_dataframe().a.tolist() == ["01"]
    typed = delimited(
        ws,
        "a;b\n1;01.02.2020\n",
        separator=";",
        set_column_types={"a": DataType.to_string(), "b": DataType.to_datetime("%d.%m.%Y")},
    )
    assert typed.to_arrow().to_pylist() == [{"a": "1", "b": datetime.datetime(2020, 2, 1)}]
    large = delimited(ws, f"n\n{2**60 + 1}\n\n2\n").to_pandas_dataframe()
    assert large.n.tolist()[0] == 2**60 + 1


def test_several_files_headers_and_columns_of_their_paths(ws: Workspace) -> None:
    store = put(ws, a_csv="a,b\n1,x\n", b_csv="a,b\n2.5,\n")
    data = Dataset.Tabular.from_delimited_files((store, "data/*.csv"), include_path=True, partition_format="{folder}/{name}.csv")
    assert data.to_arrow().to_pylist() == [
        {"Path": "/data/a.csv", "folder": "data", "name": "a", "a": 1.0, "b": "x"},
        {"Path": "/data/b.csv", "folder": "data", "name": "b", "a": 2.5, "b": None},
    ]
    put(ws, b_csv="b,c\n7,8\n")
    both = [(store, "data/a.csv"), (store, "data/b.csv")]
    with pytest.raises(errors.InvalidArgument, match="must have the same column names"):
        Dataset.Tabular.from_delimited_files(both)
    combined = Dataset.Tabular.from_delimited_files(both, header=PromoteHeadersBehavior.COMBINE_ALL_FILES_HEADERS)
    assert combined.to_arrow().to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": None, "b": "7", "c": 8}]
    first = Dataset.Tabular.from_delimited_files(both, header=PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS)
    assert first.to_arrow().to_pylist() == [{"a": "1", "b": "x"}, {"a": "b", "b": "c"}, {"a": "7", "b": "8"}]
    assert partitions("x/2020/05/f.csv", "{at:yyyy/MM}/{name}.csv")["at"].as_py() == datetime.datetime(2020, 5, 1)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", {}, "must have a line, got none"),
        ("a,b\n1,2,3\n", {}, "data/a.csv: CSV parse error: Expected 2 columns, got 3"),
        ("a\nx\n", {"set_column_types": {"a": DataType.to_long()}}, "invalid value 'x'"),
        ("a\nx\n", {"set_column_types": {"q": DataType.to_long()}}, "must be one of the dataset's, got 'q'"),
        ("a\nx\n", {"separator": "::"}, "separator must be one letter"),
        ("a\nx\n", {"encoding": "klingon"}, "encoding must be one of"),
        ("a\nx\n", {"partition_format": "{y:yyyy}.csv"}, "partition_format must fit"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_at_once(ws: Workspace, content: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=said):
        delimited(ws, content, **options)


def test_places_that_are_none(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    for path, said in (
        ((store, "nope/*.csv"), "there is none at 'nope/"), ("nope.csv", "a path of the machine"), ([], "got none"),
        ("https://example.com/a.csv", "got the address"), ((1, 2), "must be a text or"),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=said):
            Dataset.Tabular.from_delimited_files(path)


def test_parquet_and_json_lines(ws: Workspace) -> None:
    store = put(ws, a_jsonl='{"a": 1, "b": [1, 2]}\n{"a": null, "c": {"d": "x"}}\n')
    data = Dataset.Tabular.from_json_lines_files((store, "data/a.jsonl"))
    assert data.to_arrow().to_pylist() == [{"a": 1, "b": [1, 2], "c": None}, {"a": None, "b": None, "c": {"d": "x"}}]
    put(ws, a_jsonl='{"a": 1}\nno json\n')
    with pytest.raises(errors.InvalidArgument, match=r"data/a\.jsonl"):
        Dataset.Tabular.from_json_lines_files((store, "data/a.jsonl"))
    assert Dataset.Tabular.from_json_lines_files((store, "data/a.jsonl"), invalid_lines="drop").to_arrow().num_rows == 1
    frame = pd.DataFrame({"n": [1, 2], "at": pd.to_datetime(["2020-01-01", None]), "word": ["ä", None]})
    kept = Dataset.Tabular.register_pandas_dataframe(frame, (store, "frames"), "frame", show_progress=False)
    pd.testing.assert_frame_equal(kept.to_pandas_dataframe(), frame)
    pa.parquet.write_table(pa.table({"n": pa.array([3], pa.int32()), "more": [True]}), "b.parquet")
    pa.parquet.write_table(pa.table({"n": [4.5]}), "c.parquet")
    store.upload_files(["b.parquet", "c.parquet"], target_path="pq")
    assert Dataset.Tabular.from_parquet_files((store, "pq/**")).to_arrow().to_pylist() == [
        {"n": 3.0, "more": True},
        {"n": 4.5, "more": None},
    ]
    with pytest.raises(errors.InvalidArgument, match="must be a Parquet file"):
        Dataset.Tabular.from_parquet_files((store, "data/a.jsonl"))


# Steps


@given(
    n=st.integers(0, 400),
    seed=st.integers(-(2**70), 2**70),
    share=st.floats(0, 1),
    cuts=st.lists(st.integers(1, 50), max_size=20),
)
def test_a_split_depends_on_row_and_seed_alone(n: int, seed: int, share: float, cuts: list[int]) -> None:
    whole = pa.table({"x": np.arange(n)})

    def split(part: str, sizes: list[int]) -> list[int]:
        batches, start = [], 0
        for size in [*sizes, n + 1]:
            batches += whole.slice(start, size).to_batches()
            start += size
        step = {"step": "split", "percentage": share, "seed": seed, "part": part}
        return rows.apply(rows.Rows(whole.schema, batches), [step]).table().column("x").to_pylist()

    first, rest = split("first", []), split("rest", [])
    assert sorted(first + rest) == list(range(n)) and first == sorted(first) and rest == sorted(rest)
    assert (split("first", cuts), split("rest", cuts)) == (first, rest)


def test_the_split_is_splitmix64() -> None:
    # The first numbers of the reference implementation for the seed 1234567.
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert (rows.fractions(0, 5, 1234567) * 2**53).astype(np.uint64).tolist() == [n >> 11 for n in reference]
    assert abs(rows.fractions(0, 100_000, 7).mean() - 0.5) < 0.005


def test_steps_one_after_the_other(ws: Workspace) -> None:
    data = delimited(ws, "day,n,word\n" + "".join(f"2020-01-{d:02},{d},{'ab'[d % 2]}\n" for d in range(1, 31)))
    numbers = lambda d: d.to_pandas_dataframe().n.tolist()  # noqa: E731
    assert numbers(data.skip(2).take(3)) == [3, 4, 5] and numbers(data.take(0)) == []
    assert list(data.keep_columns(["n", "day"]).to_arrow().column_names) == ["n", "day"]
    with pytest.warns(UserWarning, match="no column: 'none'"):
        assert data.drop_columns(["n", "none"]).to_arrow().column_names == ["day", "word"]
    assert list(data.drop_columns("n").to_arrow().column_names) == ["day", "word"] and data[["n"]].to_arrow().num_columns == 1
    assert numbers(data.filter((data["n"] > 27) & ~(data["word"] == "a") | (data["n"] == 1))) == [1, 29]
    timed = data.with_timestamp_columns("day", validate=True)
    assert numbers(timed.time_between(datetime.datetime(2020, 1, 3), datetime.date(2020, 1, 5))) == [3, 4, 5]
    assert numbers(timed.time_before(datetime.datetime(2020, 1, 3), include_boundary=False)) == [1, 2]
    assert numbers(timed.time_after(datetime.datetime(2020, 1, 29, tzinfo=datetime.UTC))) == [29, 30]
    assert numbers(timed.time_recent(datetime.timedelta(days=1))) == []
    first, rest = data.random_split(0.4, seed=3)
    assert sorted(numbers(first) + numbers(rest)) == list(range(1, 31)) and numbers(first) == numbers(
        data.random_split(0.4, 3)[0]
    )
    assert numbers(data.take_sample(0.5, seed=1)) == numbers(data.sample(0.5, seed=1)) != list(range(1, 31))
    for call, said in (
        (lambda: data.keep_columns("q", validate=True), "got 'q'"), (lambda: data.random_split(1.5), "percentage must be 0 to 1"),
        (lambda: data.take(-1), "count must be 0 or more"), (lambda: data.random_split(0.5, seed="x"), "seed must be a whole number"),
        (lambda: data.filter(True), "takes a condition"), (lambda: data.with_timestamp_columns("n", validate=True), "must hold dates"),
    ):  # fmt: skip
        with pytest.raises(errors.DbmlError, match=said):
            call()
    with pytest.raises(UserErrorException, match="must have a timestamp column"):
        data.time_before(datetime.datetime(2020, 1, 1))
    timed = data.with_timestamp_columns("n")
    assert timed.keep_columns(["n"]).timestamp_columns == ("n", None)
    assert timed.drop_columns("n").timestamp_columns == timed.keep_columns([]).timestamp_columns == (None, None)
    with pytest.raises(TypeError, match="combine conditions"):
        bool(data["n"] > 1)


# Versions


def test_a_version_stays_what_it_was(ws: Workspace) -> None:
    data = delimited(ws, "n\n1\n2\n")
    one = data.register(ws, "numbers", description="two", tags={"a": "b"})
    assert (one.name, one.version, one.tags, one.schema) == ("numbers", 1, {"a": "b"}, [{"name": "n", "type": "bigint"}])
    assert data.register(ws, "numbers").version == 1, "the same again"
    put(ws, a_csv="n\n7\n")
    with pytest.raises(errors.DatasetExists, match="with another definition"):
        data.register(ws, "numbers")
    assert data.register(ws, "numbers", create_new_version=True).version == 2
    read = lambda version: Dataset.get_by_name(ws, "numbers", version).to_pandas_dataframe().n.tolist()  # noqa: E731
    assert (read(1), read("1"), read(2), read("latest")) == ([1, 2], [1, 2], [7], [7])
    assert one.take(1).register(ws, "first").to_pandas_dataframe().n.tolist() == [1]
    ws.get_default_datastore().delete_files("data")
    assert read(1) == [1, 2] and Dataset.get_by_id(ws, str(one.id)).version == 1
    assert {name: d.version for name, d in ws.datasets.items()} == {"numbers": 2, "first": 1}
    assert one.add_tags({"c": "d"}).remove_tags(["a"]).update(description="x").tags == {"c": "d"}
    assert Dataset.get_by_name(ws, "numbers", 1).description == "x"
    for name, version in (("numbers", 3), ("nope", "latest")):
        with pytest.raises(errors.DatasetNotFound):
            Dataset.get_by_name(ws, name, version)
    Dataset.get_by_name(ws, "numbers").unregister_all_versions()
    assert list(ws.datasets) == ["first"]


def test_queries_and_tables_are_read_as_the_reader(ws: Workspace, db: psycopg.Connection[Any], table: str) -> None:
    store = ws.get_default_datastore()
    db.execute(
        f"CREATE TABLE {table} (k int PRIMARY KEY, n numeric, s text); INSERT INTO {table} VALUES (3, 1.50, NULL), (1, 2, ''), (2, NULL, E'a\\n\"b,')"
    )  # type: ignore[arg-type]
    data = Dataset.Tabular.from_sql_query((store, table)).register(ws, "tab")
    assert data.to_arrow().to_pylist() == [
        {"k": 1, "n": 2, "s": ""}, {"k": 2, "n": None, "s": 'a\n"b,'}, {"k": 3, "n": pa.scalar("1.50").cast(pa.decimal128(3, 2)).as_py(), "s": None},
    ]  # fmt: skip
    query = Dataset.Tabular.from_sql_query(f"SELECT k FROM {table} ORDER BY k DESC", workspace=ws)
    assert query.to_pandas_dataframe().k.tolist() == [3, 2, 1] and query.register(ws, "q").schema == [
        {"name": "k", "type": "integer"}
    ]
    with pytest.raises(psycopg.errors.UndefinedTable):
        Dataset.Tabular.from_sql_query("SELECT * FROM nowhere_at_all", workspace=ws)
    with pytest.raises(errors.UnsupportedType, match="column 'x' of type timestamp without time zone has the value infinity"):
        Dataset.Tabular.from_sql_query("SELECT 'infinity'::timestamp AS x", workspace=ws).to_arrow()
    db.execute("SELECT dbml.register_dataset('x', 'table', '{\"table\": \"a; drop b\"}', workspace => %s)", (ws.name,))
    with pytest.raises(errors.InvalidArgument, match="must be named as in SQL"):
        db.execute("SELECT dbml.dataset_query('x', %s)", (ws.name,))


cells = st.one_of(
    st.tuples(st.just(pa.int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8)),
    st.tuples(st.just(pa.float64()), st.lists(st.none() | st.floats(), min_size=1, max_size=8)),
    st.tuples(
        st.just(pa.string()),
        st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=8),
    ),
    st.tuples(st.just(pa.bool_()), st.lists(st.none() | st.booleans(), min_size=1, max_size=8)),
    st.tuples(st.just(pa.binary()), st.lists(st.none() | st.binary(), min_size=1, max_size=8)),
    st.tuples(
        st.just(pa.timestamp("us")), st.lists(st.none() | st.datetimes(datetime.datetime(1000, 1, 1)), min_size=1, max_size=8)
    ),
    st.tuples(st.just(pa.date32()), st.lists(st.none() | st.dates(datetime.date(1000, 1, 1)), min_size=1, max_size=8)),
    st.tuples(
        st.just(pa.decimal128(20, 4)), st.lists(st.none() | st.decimals(-(10**15), 10**15, places=4), min_size=1, max_size=8)
    ),
)


@settings(max_examples=40)
@given(column=cells, name=st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=15))
def test_into_a_table_and_back(column: tuple[Any, list[Any]], name: str) -> None:
    db = test_into_a_table_and_back.db  # type: ignore[attr-defined]
    there = pa.table({name: pa.array(column[1], column[0])})
    target = table_rows.table_name('pg_temp."There And Back"')
    with db.transaction(force_rollback=True):
        table_rows.create(db, rows.of_table(there), target)
        assert table_rows.write(db, rows.of_table(there), target) == there.num_rows
        back = table_rows.read(db, 'SELECT * FROM pg_temp."There And Back"').table()
    assert back.column_names == [name] and back.schema.field(0).type == there.schema.field(0).type
    assert repr(back.to_pydict()) == repr(there.to_pydict())


@pytest.fixture(autouse=True)
def _lend(db: psycopg.Connection[Any]) -> None:
    test_into_a_table_and_back.db = db  # type: ignore[attr-defined]


def test_what_no_table_holds_is_refused() -> None:
    for array, said in (
        (pa.array(["a\0"]), r"U\+0000"), (pa.array([1], pa.timestamp("ns")), "cannot hold"),
        (pa.array([None], pa.month_day_nano_interval()), "no PostgreSQL type"),
    ):  # fmt: skip
        with pytest.raises(errors.UnsupportedType, match=said):
            table_rows._as_text(array, "x", table_rows.postgres_type("x", array.type))
    for names in (["a", "a"], [""], ["ä" * 32]):
        with pytest.raises(errors.InvalidArgument, match="a table's column"):
            table_rows.require_names(names)


def test_to_table_and_into_a_script(ws: Workspace, db: psycopg.Connection[Any], table: str) -> None:
    data = delimited(ws, "n,x\n1,0.5\n2,\n")
    assert data.to_table(table) == 2
    with pytest.raises(psycopg.errors.DuplicateTable):
        data.to_table(table)
    assert data.take(1).to_table(f"public.{table}", mode="append") == 1
    assert db.execute(f"SELECT count(*), sum(n), pg_typeof(max(x)) FROM {table}").fetchone() == (3, 4, "double precision")  # type: ignore[arg-type]
    kept = Dataset.Tabular.from_table(table, workspace=ws)
    assert kept.filter(kept["n"] == 1).to_table(table, mode="replace") == 2, "out of itself"
    Dataset.Tabular.from_sql_query(f"TABLE {table}", workspace=ws).register(ws, "train")
    row = db.execute(
        'SELECT * FROM dbml.run_script(\'OutputDataSet = {"s": [int(train.n.sum())], "id": [run.id]}\','
        ' inputs => \'{"train": {"dataset": "train:1"}}\', workspace => %s) AS t(s int, id uuid)',
        (ws.name,),
    ).fetchone()
    assert row is not None and row[0] == 2
    assert db.execute("SELECT dataset, name_in_run FROM dbml.run_datasets WHERE run_id = %s", (row[1],)).fetchall() == [
        ("train:1", "train")
    ]
    data.register(ws, "files")
    for reference, said in (("files", "is made of files"), ("nope", "is not in workspace")):
        with pytest.raises(errors.DbmlError, match=said):
            db.execute("SELECT * FROM dbml.run_script('', inputs => jsonb_build_object('x', jsonb_build_object('dataset', %s::text)), workspace => %s) AS t(x int)",
                       (reference, ws.name))  # fmt: skip
    kept.take(1).register(ws, "step")
    with pytest.raises(errors.NotSupportedYet, match="has steps that Python takes: take"):
        db.execute("SELECT dbml.dataset_query('step', %s)", (ws.name,))


def test_a_run_knows_its_datasets(ws: Workspace) -> None:
    run = Experiment(ws, "e").start_logging()
    data = delimited(ws, "n\n1\n")
    with pytest.raises(UserErrorException, match="must be registered"):
        link(ws, uuid.UUID(run.id), "train", data)
    link(ws, uuid.UUID(run.id), "train", data.register(ws, "n"))
    assert {name: (d.name, d.version) for name, d in run.input_datasets.items()} == {"train": ("n", 1)}
    with pytest.raises(errors.RunNotFound):
        link(ws, uuid.uuid4(), "train", Dataset.get_by_name(ws, "n"))
    run.complete()


def test_profile_and_comparison_with_an_earlier_version(ws: Workspace) -> None:
    data = delimited(ws, "n,word,gone\n1,a,\n2,b,\n3,,\n").register(ws, "c")
    found = data.profile().set_index("column_name")
    assert (found["count"].tolist(), found.missing.tolist(), found["mean"]["n"]) == ([3, 3, 3], [0, 1, 3], 2)
    assert data.take(2).profile([0.5]).quantiles[0] == {"0.5": 1.5}
    newer = delimited(ws, "n,word\n11,a\n12.5,c\n").register(ws, "c", create_new_version=True)
    drift = newer.compare(1).set_index("column_name")
    assert drift.change.to_dict() == {"n": "type changed", "word": "same", "gone": "dropped"}
    assert drift.ks["n"] == 1 and (drift.appeared["word"], drift.vanished["word"]) == (["c"], ["b"])
    assert newer.compare(newer).psi.sum() == 0


def test_files(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = put(ws, a_txt="a", b_txt="b", c_csv="c")
    data = Dataset.File.from_files([(store, "data/*.txt")])
    assert data.to_path() == ["/a.txt", "/b.txt"]
    kept = data.register(ws, "texts")
    put(ws, a_txt="changed")
    assert isinstance(Dataset.get_by_name(ws, "texts"), FileDataset)
    down = kept.download(tmp_path / "down")
    assert [Path(p).read_text() for p in down] == ["a", "b"] and sorted(p.name for p in (tmp_path / "down").iterdir()) == [
        "a.txt",
        "b.txt",
    ]
    with pytest.raises(UserErrorException, match="is there"):
        kept.download(tmp_path / "down")
    assert [Path(p).read_text() for p in data.download(tmp_path / "down", overwrite=True)] == ["changed", "b"]
    with kept.mount() as context:
        place = Path(context.mount_point)
        assert (place / "a.txt").read_text() == "a"
    assert not place.exists()
    one, other = kept.random_split(0.5, seed=1)
    assert sorted(one.to_path() + other.to_path()) in (["/a.txt", "/b.txt"],) and kept.take(1).to_path() == ["/a.txt"]
    named = kept.as_named_input("texts").as_mount("/in")
    assert (named.name, named.dataset, named.mode, named.path_on_compute) == ("texts", kept, "mount", "/in")
    assert kept.as_download().mode == "download"
    local = Dataset.File.from_files(str(tmp_path / "*.csv"))
    assert local.to_path() == ["/c.csv"] and Path(local.download()[0]).read_text() == "c"
    folder = Datastore.register_local_folder(ws, "nas", str(tmp_path / "nas"))
    up = Dataset.File.upload_directory(str(tmp_path / "down"), (folder, "x"), pattern="a*")
    assert up.to_path() == ["/a.txt"] and up.register(ws, "elsewhere").version == 1
    with pytest.raises(UserErrorException, match="got the address"):
        Dataset.File.from_files("https://example.com/x")
