"""Submitting a folder: what is kept of it, how its script runs in the worker, and what comes back."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbml import errors
from dbml.core import Dataset, Environment, Experiment, Model, Run, ScriptRunConfig, Workspace
from dbml.core.lineage import lineage
from dbml.core.run_context import context
from dbml.core.runconfig import MpiConfiguration, RunConfiguration
from dbml.core.snapshot import IgnoreRules, files_of, pack, unpack
from dbml.exceptions import (
    ActivityFailedException,
    RunConfigurationException,
    RunEnvironmentException,
    SnapshotException,
    UserErrorException,
)

from ..conftest import Database

pytestmark = pytest.mark.once

# As a notebook of the SDK's users has it, but for the module's name.
TRAIN = """
import argparse
import os

import joblib
import numpy as np
from sklearn.linear_model import Ridge

from dbml.core import Run
from helpers.paths import output

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=1.0)
parser.add_argument("--name")
args = parser.parse_args()

run = Run.get_context()
assert run is Run.get_context()
X = np.random.rand(30, 3)
model = Ridge(alpha=args.alpha).fit(X, X.sum(axis=1))
run.log("alpha", args.alpha)
run.log_list("coefficients", model.coef_)
run.log_row("shape", rows=len(X), columns=3)
run.log_row("shape", rows=1, columns=2)
run.log_table("table", {"a": [1, 2], "b": [3, float("nan")]})
run.log("text", "words")
for step in range(3):
    run.log("loss", 1 / (step + 1), step=step)
run.tag("stage", "trial")
run.add_properties({"author": "me"})
joblib.dump(model, output("model.pkl"))
made = run.register_model(args.name, "outputs/model.pkl", tags={"a": "b"}, model_framework="ScikitLearn")
folder = run.register_model(args.name + "-folder", "helpers")
print("registered", made.version, folder.id == args.name + "-folder:1", run.experiment.workspace.name == os.environ["WS"])
try:
    run.experiment.workspace.get_default_datastore()
except NotImplementedError as error:
    print(str(error)[:48])
if "train" in run.input_datasets:
    print(run.input_datasets["train"].to_pandas_dataframe().x.tolist())
run.complete()
"""


@pytest.fixture
def ws(shared: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create("s-" + uuid.uuid4().hex[:12], show_output=False)
    yield workspace
    with shared.connect() as connection:
        live = "SELECT run_id FROM dbml.runs WHERE workspace = %s AND status IN ('queued', 'running')"
        for (run_id,) in connection.execute(live, (workspace.name,)).fetchall():
            connection.execute("SELECT dbml.cancel_script(%s), dbml.wait_for_run(%s, '10 s')", (run_id, run_id))
    workspace.delete()
    workspace._connection.close()


def project(files: dict[str, str]) -> Path:
    folder = Path("project")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_training_script_runs_as_it_is(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project({
        "train.py": TRAIN, "helpers/paths.py": "def output(name):\n    return 'outputs/' + name\n",
        "helpers/größe.txt": "ä", "data.csv": "left out", ".amlignore": "*.csv\n", "__pycache__/x.pyc": "",
    })  # fmt: skip
    name = "m" + uuid.uuid4().hex[:12]
    config = ScriptRunConfig(str(folder), script="train.py", arguments=["--alpha", 0.5, "--name", name])
    config.run_config.environment_variables["WS"] = ws.name
    query = "SELECT g AS x FROM generate_series(1, 3) g"
    run = Experiment(ws, "submitted").submit(config, tags={"given": "yes"}, inputs={"train": query}, seed=5)
    details = run.wait_for_completion(show_output=True)
    printed = capsys.readouterr().out
    assert "registered 1 True True\nWorkspace.get_default_datastore needs the databa\n[1, 2, 3]\n" in printed
    assert "Status: Completed" in printed
    metrics = run.get_metrics()
    assert metrics["alpha"] == 0.5 and metrics["loss"] == [1.0, 0.5, 1 / 3] and metrics["text"] == "words"
    assert metrics["shape"] == {"rows": [30, 1], "columns": [3, 2]} and len(metrics["coefficients"]) == 3
    assert metrics["table"]["a"] == [1, 2] and metrics["table"]["b"][1] != metrics["table"]["b"][1]
    assert run.get_tags() == {"given": "yes", "stage": "trial"} and run.get_properties() == {"author": "me"}
    assert "outputs/model.pkl" in run.get_file_names() and run.type == "script"
    assert details["snapshotId"] == run.get_snapshot_id() and details["target"] == "worker"
    assert details["runDefinition"]["arguments"] == ["--alpha", 0.5, "--name", name]

    model = Model(ws, name)
    assert (model.version, model.tags, model.run_id, model.model_framework) == (1, {"a": "b"}, run.id, "ScikitLearn")
    with ws._connection.session() as session:
        session.execute("SELECT set_config('dbml.workspace', %s, false)", (ws.name,))
        row = session.execute("SELECT dbml.predict(%s, array[1.0, 1, 1]::float8[])", (name,)).fetchone()
        session.execute("RESET dbml.workspace")
        assert row is not None and 2 < row[0] < 3.5
    steps = model.lineage()
    assert steps.upstream("script") and steps.upstream("run") == [run.id]
    assert steps.mermaid().startswith("flowchart LR\n") and f'[["{name}:1"]]' in steps.mermaid()
    assert len(steps.plot().texts) >= len(steps.nodes)

    restored = run.restore_snapshot(path="then")
    there = sorted(path.relative_to(restored).as_posix() for path in Path(restored).rglob("*") if path.is_file())
    assert there == [".amlignore", "helpers/größe.txt", "helpers/paths.py", "train.py"]
    assert (Path(restored) / "train.py").read_text() == TRAIN

    replay = run.replay()
    assert replay.same and replay.unknown == [], replay.differences
    assert {row.what for row in replay} >= {"metric coefficients", "artifact outputs/model.pkl", "seed"}
    again = Experiment(ws, "submitted").submit(config, inputs={"train": query})
    assert again.get_snapshot_id() == run.get_snapshot_id()
    again.cancel()


def test_a_dataset_is_an_input_and_known_to_lineage(ws: Workspace) -> None:
    with ws._connection.session() as session:
        define = "SELECT dbml.register_dataset('numbers', 'query', %s, workspace => %s)"
        session.execute(define, ('{"query": "SELECT g AS x FROM generate_series(1, 4) g"}', ws.name))
    dataset = Dataset.get_by_name(ws, "numbers")
    script = "import sys\nfrom dbml.core import Run\nrun = Run.get_context()\n"
    script += "print(sys.argv[1:], run.input_datasets['train'].to_pandas_dataframe().x.sum())"
    folder = project({"a.py": script, "b.csv": "x\n1\n"})
    config = ScriptRunConfig(folder, "a.py", arguments=[dataset.as_named_input("train")])
    run = Experiment(ws, "submitted").submit(config)
    run.wait_for_completion()
    assert run.get_details_with_logs()["logFiles"]["logs/script.log"] == "['numbers:1'] 10\n"
    assert run.input_datasets["train"].name == "numbers"
    assert ("dataset", "numbers:1") in run.lineage().nodes
    assert lineage(ws, "dataset:numbers").downstream("run") == [run.id]
    replay = run.replay()
    assert replay.same and {row.what: row.replayed for row in replay}["input train"] == "dataset numbers:1"


READ = """
import os, sys
from pathlib import Path
from dbml.core import Dataset, Run

run = Run.get_context()
ws, given = run.experiment.workspace, run.input_datasets
rows, first, files, folder, place = sys.argv[1:]
print(rows, first, folder, place)
print(Dataset.get_by_id(ws, rows).to_pandas_dataframe().x.sum(), Dataset.get_by_name(ws, "rows").name)
print(given[first].to_pandas_dataframe().x.tolist(), given["files"].to_path(), [Path(f).name for f in given["files"].download("copied")])
print(Path(folder, "b/ü.txt").read_text(), given["tree"] == os.path.abspath(folder), os.environ["AZUREML_DATAREFERENCE_tree"] == folder)
print(Path(place).read_text(), os.environ["AZUREML_DATAREFERENCE_workspaceblobstore"] == place)
try:
    Dataset.get_by_name(ws, "other")
except NotImplementedError as error:
    print(str(error)[:11])
"""


def test_datasets_of_files_and_with_steps_go_along_with_the_snapshot(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    folder = project({"a.py": READ})
    for name, text in {"data/x.csv": "x\n1\n2\n3\n", "tree/a.txt": "1", "tree/b/ü.txt": "ä"}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    for name in ("data", "tree"):
        store.upload(name, name, show_progress=False)
    rows = Dataset.Tabular.from_delimited_files((store, "data/x.csv")).register(ws, "rows")
    files = Dataset.File.from_files((store, "tree")).register(ws, "files")
    inputs = [rows.as_named_input("train"), rows.take(1), files.as_named_input("files"), files.as_named_input("tree").as_mount(),
              store.path("tree/a.txt").as_download()]  # fmt: skip
    config = ScriptRunConfig(folder, "a.py", arguments=inputs)
    run = Experiment(ws, "submitted").submit(config)
    run.wait_for_completion()
    said = run.get_details_with_logs()["logFiles"]["logs/script.log"].splitlines()
    assert said == [
        "rows:1 input_0 .dbml-inputs/tree .dbml-inputs/workspaceblobstore/tree/a.txt", "6 train",
        "[1] ['/a.txt', '/b/ü.txt'] ['a.txt', 'ü.txt']", "ä True True", "1 True", "the dataset",
    ]  # fmt: skip
    assert {name: one.name for name, one in run.input_datasets.items()} == {"train": "rows", "files": "files", "tree": "files"}
    assert {("dataset", "rows:1"), ("dataset", "files:1")} <= set(run.lineage().nodes)
    store.upload_files(["data/x.csv"], target_path="tree", overwrite=True, show_progress=False)  # a replay has what there was
    assert run.replay().same
    run.restore_snapshot(path=str(folder))  # what went along then does not go along again
    assert not any(path.startswith(".dbml-inputs") for path, _ in files_of(folder))
    for wrong, message in (
        ([rows.as_named_input("a"), files.as_named_input("a")], "there twice"), ([rows.as_named_input("a").as_mount()], "has rows"),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=message):
            Experiment(ws, "submitted").submit(ScriptRunConfig(folder, "a.py", arguments=wrong))


def test_a_failing_and_a_cancelled_run(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project({"a.py": "print('before')\nfrom dbml.core import Run\nRun.get_context().fail('too few rows')"})
    run = Experiment(ws, "submitted").submit(ScriptRunConfig(folder, "a.py"))
    with pytest.raises(ActivityFailedException, match="too few rows"):
        run.wait_for_completion(show_output=True)
    assert "before\nTraceback (most recent call last):\n" in capsys.readouterr().out
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    (folder / "a.py").write_text("import time\ntime.sleep(600)")
    run = Experiment(ws, "submitted").submit(ScriptRunConfig(folder, "a.py"))
    run.cancel()
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Canceled"


CHILDREN = """
import sys

from dbml.core import Run

run = Run.get_context()
with run.child_run("first") as child:
    child.log("loss", 0.5)
    child.log("loss", 0.25)
    child.log_row("shape", rows=3)
    child.tag("kind", "small")
    child.add_properties({"depth": 2})
    child.upload_file("notes/a.txt", "a.py")
    open("outputs/model.txt", "w").write("model")
    child.register_model(sys.argv[1], "outputs/model.txt")
    with child.child_run("below") as below:
        below.log("deep", 1)
    assert below.parent is child and child.parent is run and run.parent is None
try:
    with run.child_run("bad") as bad:
        bad.log("loss", 9)
        1 / 0
except ZeroDivisionError:
    pass
assert (child.status, bad.status) == ("Completed", "Failed")
for value, tagged in enumerate(run.create_children(tag_key="fold", tag_values=["a", "b"])):
    tagged.log("fold", value)
open_ones = run.create_children(count=3)
open_ones[0].complete()
try:
    open_ones[0].fail()
except Exception as error:
    print(error)
try:
    run.submit_child(None)
except NotImplementedError as error:
    print(error)
assert len(list(run.get_children())) == 7 and len(list(run.get_children(recursive=True))) == 8
assert [each.id for each in run.get_children(tags={"fold": "b"})] == [tagged.id] and run.get_metrics() == {}
assert run.get_metrics("deep", recursive=True) == {"deep": 1}
print(child.id, flush=True)
if len(sys.argv) > 2:
    exec(sys.argv[2])
"""


def test_parts_of_a_submitted_run(ws: Workspace) -> None:
    name = "m" + uuid.uuid4().hex[:12]
    folder = project({"a.py": CHILDREN})
    run = Experiment(ws, "submitted").submit(ScriptRunConfig(folder, "a.py", arguments=[name]))
    run.wait_for_completion()
    printed = run.get_details_with_logs()["logFiles"]["logs/script.log"].splitlines()
    assert printed[0].endswith("is completed, and cannot become failed any more") and "ScriptRunConfig can" in printed[1]
    children = {each.name: each for each in run.get_children() if each.name}
    first, bad = children["first"], children["bad"]
    assert first.id == printed[2] and first.parent is not None and first.parent.id == run.id and first.type is None
    assert first.get_metrics() == {"loss": [0.5, 0.25], "shape": {"rows": 3}} and first.experiment.name == "submitted"
    assert first.get_tags() == {"kind": "small"} and first.get_properties() == {"depth": "2"}
    assert first.get_file_names() == ["notes/a.txt", "outputs/model.txt"] and Model(ws, name).run_id == first.id
    assert [each.get_metrics() for each in first.get_children()] == [{"deep": 1}]
    details = bad.get_details()
    assert details["status"] == "Failed" and details["error"]["error"]["message"] == "ZeroDivisionError: division by zero"
    assert {each.get_status() for each in run.get_children(recursive=True)} == {"Completed", "Failed"}
    assert len(list(run.get_children(recursive=True))) == 8 and sorted(run.get_metrics(recursive=True)["fold"]) == [0, 1]
    assert [each.get_metrics() for each in run.get_children(tags={"fold": "b"})] == [{"fold": 1}]
    assert [each.id for each in run.experiment.get_runs()] == [run.id]
    with pytest.raises(errors.InvalidArgument, match="part of a script's run"):
        first.cancel()
    with ws._connection.session() as session:
        found = session.execute(
            "SELECT kind, count(*), bool_and(c.username = p.username AND c.workspace = p.workspace) FROM dbml.runs c,"
            " lateral (SELECT p.username, p.workspace FROM dbml.runs p WHERE p.run_id = %s) p WHERE c.workspace = %s AND c.run_id <> %s"
            " GROUP BY kind", (run.id, ws.name, run.id),
        ).fetchall()  # fmt: skip
        assert found == [("child", 8, True)]
        with pytest.raises(errors.InvalidArgument, match="a part of one"), session.transaction():
            session.execute("SELECT * FROM dbml.replay(%s)", (first.id,))


@pytest.mark.parametrize(("at_the_end", "status"), [
    ("raise ValueError('late')", "Failed"), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Failed"),
    ("import time; time.sleep(600)", "Canceled"),
])  # fmt: skip
def test_parts_end_with_their_script(ws: Workspace, at_the_end: str, status: str) -> None:
    folder = project({"a.py": CHILDREN})
    run = Experiment(ws, "submitted").submit(ScriptRunConfig(folder, "a.py", arguments=["m", at_the_end]))
    if status == "Canceled":
        deadline = time.monotonic() + 60
        while sum(each.get_status() == "Running" for each in run.get_children()) < 4:  # they are seen while it runs
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run.cancel()
    assert run.wait_for_completion(raise_on_error=False)["status"] == status
    ended = [each for each in run.get_children(recursive=True) if each.get_status() == status and each.name != "bad"]
    error = run.get_details()["error"]["error"]["message"]
    assert len(ended) == 4 and {each.get_details()["error"]["error"]["message"] for each in ended} == {error}


def test_what_cannot_be_submitted_is_refused(ws: Workspace) -> None:
    folder = project({"a.py": "", "hidden/b.py": "", ".gitignore": "hidden/"})
    experiment = Experiment(ws, "submitted")
    with pytest.raises(RunConfigurationException, match="left out by"):
        experiment.submit(ScriptRunConfig(folder, "hidden/b.py"))
    with pytest.raises(RunConfigurationException, match="got None"):
        experiment.submit(ScriptRunConfig(folder, "a.py", arguments=[None]))
    with pytest.raises(NotImplementedError, match="command"):
        experiment.submit(ScriptRunConfig(folder, command=["ls"]))
    with pytest.raises(NotImplementedError, match="one process"):
        experiment.submit(ScriptRunConfig(folder, "a.py", distributed_job_config=MpiConfiguration(2)))
    with pytest.raises(NotImplementedError, match="ScriptRunConfig can"):
        experiment.submit(RunConfiguration())
    with pytest.raises(errors.EnvironmentNotFound):
        experiment.submit(ScriptRunConfig(folder, "a.py", environment=Environment("none", version="1")))
    run = experiment.start_logging()
    with pytest.raises(SnapshotException, match="was not submitted"):
        run.get_snapshot_id()
    run.complete()
    with pytest.raises(RunEnvironmentException):
        context()


def test_a_snapshot_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.bin").write_bytes(os.urandom(3000))
    monkeypatch.setattr("dbml.core.snapshot.MOST_BYTES", 2000)
    with pytest.raises(SnapshotException, match="has 1 of 0 MB") as refused:
        pack(tmp_path)
    assert refused.value.hint and "large.bin" in refused.value.hint and ".amlignore" in refused.value.hint
    with pytest.raises(SnapshotException, match="must be a directory"):
        pack(tmp_path / "none")


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    for folder, order in (("one", ("b/ü.py", "a.py")), ("two", ("a.py", "b/ü.py"))):
        for name in order:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(name)
    os.utime(tmp_path / "two" / "a.py", (1, 1))
    (tmp_path / "one" / "link").symlink_to("/")  # folders behind links are left out
    with pack(tmp_path / "one") as first, pack(tmp_path / "two") as second:
        assert first.read() == second.read()
        first.seek(0)
        assert unpack(first, tmp_path / "out") == ["a.py", "b/ü.py"]
    assert (tmp_path / "out/b/ü.py").read_text() == "b/ü.py"


@pytest.mark.parametrize(
    ("rules", "path", "left_out"),
    [
        (["*.csv"], "a/b.csv", True), (["*.csv", "!b.csv"], "a/b.csv", False), (["/a.txt"], "b/a.txt", False),
        (["/a.txt"], "a.txt", True), (["a/*.txt"], "a/b.txt", True), (["a/*.txt"], "a/b/c.txt", False),
        (["a/**"], "a/b/c.txt", True), (["**/c.txt"], "a/b/c.txt", True), (["a/**/c"], "a/c", True),
        (["data/"], "data", False), (["# no", "", "  "], "a", False), (["\\#x"], "#x", True), (["a?c"], "abc", True),
        (["[ab].py"], "b.py", True), (["[!ab].py"], "b.py", False), (["x ", "y\\ "], "x", True), (["a.c"], "abc", False),
        (["[a"], "[a", True), (["!"], "a", False), (["/"], "a", False),
    ],
)  # fmt: skip
def test_ignore_rules_are_those_of_git(rules: list[str], path: str, left_out: bool) -> None:
    assert IgnoreRules(rules).leave_out(path, is_folder=False) is left_out


def test_ignored_folders(tmp_path: Path) -> None:
    rules = IgnoreRules(["data/", "!data/keep.txt"])
    assert rules.leave_out("data", is_folder=True) and rules.leave_out("a/data", is_folder=True)


def test_the_run_of_a_script_in_a_call(shared: Database) -> None:
    script = "from dbml.core import Run\nrun = Run.get_context()\nrun.log('a', 1)\nOutputDataSet = [json.dumps([run.id, run.experiment.name])]"
    with shared.connect() as connection:
        row: Any = connection.execute(
            "SELECT * FROM dbml.run_script(%s, experiment => 'called') AS t(a text)", ("import json\n" + script,)
        ).fetchone()
        run_id, experiment = json.loads(row[0])
        found = connection.execute("SELECT experiment FROM dbml.metrics WHERE run_id = %s AND name = 'a'", (run_id,)).fetchall()
    assert experiment == "called" and found == [("called",)]
    assert not isinstance(Run.get_context(), Run)


def test_parts_of_a_run_in_a_call(shared: Database) -> None:
    script = """
from dbml.core import Run
with Run.get_context().child_run(f"part of {secret}") as child:
    child.tag("secret", secret)
    child.log(secret, len(InputDataSet))
    open("model.txt", "w").write("model")
    child.register_model(name, "model.txt")
child.log("after", 1)
OutputDataSet = [child.id]
"""
    params = {"secret": {"$secret": "correct horse"}, "name": "m" + uuid.uuid4().hex[:12]}
    with shared.connect() as connection:
        ids = connection.execute(
            "SELECT t.a FROM dbml.run_script(%s, 'SELECT g, g %% 2 AS half FROM generate_series(1, 5) g', params => %s,"
            " partition_by => '{half}', parallel => 2) AS t(half integer, a text)", (script, json.dumps(params)),
        ).fetchall()  # fmt: skip
        rows = connection.execute(
            "SELECT run_id::text, display_name, status, tags, (SELECT json_object_agg(m.name, m.value) FROM dbml.metrics m WHERE"
            " m.run_id = r.run_id), (SELECT count(*) FROM dbml.models m WHERE m.run_id = r.run_id) FROM dbml.runs r"
            " WHERE run_id::text = ANY (%s) AND kind = 'child'", ([each for (each,) in ids],),
        ).fetchall()  # fmt: skip
    assert len(ids) == 2 and {row[0] for row in rows} == {each for (each,) in ids}
    assert all(row[1:4] == ("part of ***", "completed", {"secret": "***"}) and row[5] == 1 for row in rows)
    assert sorted(row[4]["***"] for row in rows) == [2, 3] and all(row[4]["after"] == 1 for row in rows)


def test_a_program_says_how_a_scripts_run_ends_only_as_it_is(ws: Workspace) -> None:
    project({"a.py": "print(1)", "wait.py": "import time\ntime.sleep(100)"})
    run = Experiment(ws, "ends").submit(ScriptRunConfig("project", "a.py"))
    run.wait_for_completion()
    run.complete()
    with pytest.raises(errors.InvalidArgument, match="whose worker says how it ends; it is Completed"):
        run.fail()
    going = Experiment(ws, "ends").submit(ScriptRunConfig("project", "wait.py"))
    with pytest.raises(errors.InvalidArgument, match="whose worker says how it ends"):
        going.complete()
    with pytest.warns(UserWarning, match="it is stopped"):
        going.fail()
    going.wait_for_completion(raise_on_error=False)
    assert going.get_status() == "Canceled"
