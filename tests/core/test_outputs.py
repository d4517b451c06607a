"""What submitted scripts write for a datastore, and what they submit themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbml import errors
from dbml.core import Dataset, Experiment, Run, ScriptRunConfig, Workspace
from dbml.data import OutputFileDatasetConfig
from dbml.data.output_dataset_config import OutputTabularDatasetConfig
from dbml.exceptions import ActivityFailedException, UserErrorException

from ..conftest import Database
from .test_submission import project, ws

__all__ = ["ws"]

pytestmark = pytest.mark.once

CLEAN = """
import os, sys
from dbml.core import Run
given, folder = sys.argv[1:3]
run = Run.get_context()
assert os.path.abspath(folder) == run.output_datasets["clean"], run.output_datasets
text = open(given).read()
for part in sys.argv[3:]:
    os.makedirs(os.path.join(folder, part), exist_ok=True)
    with open(os.path.join(folder, part, "rows.csv"), "w") as out:
        out.write(text.replace("x", part))
"""


def submitted(ws: Workspace, script: str, arguments: list[Any], **kwargs: Any) -> Run:
    folder = project({"main.py": script})
    config = ScriptRunConfig(folder, "main.py", arguments=arguments)
    run = Experiment(ws, "outputs").submit(config, **kwargs)
    assert isinstance(run, Run)
    return run


def raw(ws: Workspace) -> Any:
    Path("raw.csv").write_text("name,n\nx,1\nx,2\n")
    store = ws.get_default_datastore()
    store.upload_files(["raw.csv"], target_path="in", overwrite=True, show_progress=False)
    return Dataset.File.from_files((store, "in/raw.csv")).as_named_input("raw").as_mount()


def test_what_a_script_writes_is_in_the_datastore_and_a_dataset(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    store = ws.get_default_datastore()
    output = OutputFileDatasetConfig("clean", destination=(store, "clean/{run-id}/"))
    rows = (
        output.as_upload()
        .read_delimited_files(path_glob="**/*.csv")
        .drop_columns("n")
        .register_on_complete("tidy", tags={"a": "b"})
    )
    assert isinstance(rows, OutputTabularDatasetConfig)
    run = submitted(ws, CLEAN, [raw(ws), rows, "a", "b"])
    run.wait_for_completion(show_output=True)
    assert f"output clean: 2 files in clean/{run.id}, dataset tidy:1" in capsys.readouterr().out
    made = Dataset.get_by_name(ws, "tidy")
    assert made.version == 1 and made.tags == {"a": "b"} and run.output_datasets["clean"].id == made.id
    assert made.to_pandas_dataframe().to_dict("list") == {"name": ["a", "a", "b", "b"]}
    assert run.input_datasets == {}
    store.download("here", f"clean/{run.id}", show_progress=False)
    assert (Path("here") / "clean" / run.id / "a" / "rows.csv").read_text() == "name,n\na,1\na,2\n"
    assert not [name for name in run.get_file_names() if "clean" in name]

    # The next run reads it, and so lineage goes through.
    after = submitted(ws, "import sys; print(sys.argv[1])", [made.as_named_input("tidy")])
    after.wait_for_completion()
    steps = {(s.source[1], s.relation, s.target[1]) for s in after.lineage().steps}
    assert {(run.id, "wrote", "tidy:1"), ("tidy:1", "read by", after.id)} <= steps

    replay = run.replay()
    assert replay.same, replay.differences
    assert [d.version for d in (Dataset.get_by_name(ws, "tidy"),)] == [1]


def test_files_are_overwritten_where_that_is_asked_for_alone(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    output = OutputFileDatasetConfig("clean", (store, "same"))
    given = raw(ws)
    submitted(ws, CLEAN, [given, output.as_upload(), "a"]).wait_for_completion()
    submitted(ws, CLEAN, [given, output.as_upload(), "a"]).wait_for_completion()  # the same bytes are no harm
    other = CLEAN.replace("replace(", "upper().replace(")
    with pytest.raises(ActivityFailedException, match=r'must not take the place of the file "same/a/rows\.csv"'):
        submitted(ws, other, [given, output.as_upload(), "a"]).wait_for_completion()
    submitted(ws, other, [given, output.as_mount().register_on_complete("over"), "a"]).wait_for_completion()
    assert Path(Dataset.get_by_name(ws, "over").download("there")[0]).read_text() == "NAME,N\nX,1\nX,2\n"


def test_a_script_that_fails_writes_nothing(ws: Workspace) -> None:
    output = OutputFileDatasetConfig("clean").register_on_complete("never")
    run = submitted(ws, CLEAN + "\nraise ValueError('half')", [raw(ws), output, "a"])
    with pytest.raises(ActivityFailedException, match="half"):
        run.wait_for_completion()
    assert "never" not in ws.datasets and run.output_datasets == {}
    with ws._connection.session() as session:
        found = session.execute("SELECT path FROM dbml.files WHERE workspace = %s", (ws.name,)).fetchall()
    assert found == [("in/raw.csv",)]


def test_a_data_reference_to_upload_and_a_folder_of_ones_own(ws: Workspace) -> None:
    store = ws.get_default_datastore()
    script = "import sys; open(sys.argv[1] + '/a.txt', 'w').write('1'); open('mine/b.txt', 'w').write('2')"
    own = OutputFileDatasetConfig(destination=(store, "own/{output-name}"), source="mine")
    run = submitted(ws, script, [store.path("kept", "kept").as_upload(), own])
    run.wait_for_completion()
    with ws._connection.session() as session:
        query = "SELECT path FROM dbml.files WHERE workspace = %s ORDER BY path"
        assert session.execute(query, (ws.name,)).fetchall() == [("kept/a.txt",), ("own/output_0/b.txt",)]


def test_outputs_that_cannot_be(ws: Workspace, shared: Database) -> None:
    output = OutputFileDatasetConfig("out", (ws.get_default_datastore(), "a"))
    with pytest.raises(UserErrorException, match="'out' is there twice"):
        submitted(ws, "", [output, output])
    with pytest.raises(UserErrorException, match="below the script's working directory"):
        submitted(ws, "", [OutputFileDatasetConfig("out", source="/tmp/x")])
    with pytest.raises(NotImplementedError, match="register_on_complete"):
        output.as_input()
    with pytest.raises(errors.InvalidArgument, match="dataset's name"):
        submitted(ws, "", [output.register_on_complete("a/b")])
    for given, message in (
        ("[]", "JSON object of outputs"), ('{"a b": {"path": "x"}}', "output's name"), ('{"a": {}}', "must have a path"),
        ('{"a": {"path": "../x"}}', "path in a datastore"), ('{"a": {"path": "x", "folder": "/../y"}}', "path in a datastore"),
        ('{"a": {"path": "x", "dataset": {"name": "d", "kind": "table"}}}', "kind file or tabular"),
    ):  # fmt: skip
        with shared.connect() as connection, pytest.raises(errors.InvalidArgument, match=message):
            connection.execute(
                "SELECT dbml.submit_run('e', dbml.create_snapshot('{\"a.py\": \"\"}', workspace => %(w)s), 'a.py',"
                " outputs => %(given)s, workspace => %(w)s)", {"w": ws.name, "given": given},
            )  # fmt: skip


SEARCH = """
import sys
from dbml.core import Environment, Run, ScriptRunConfig
run = Run.get_context()
if len(sys.argv) > 1:
    run.log("loss", float(sys.argv[1]) ** 2)
    assert sys.argv[2] == "hidden"
    run.tag("tried", sys.argv[1])
else:
    children = [run.submit_child(ScriptRunConfig(".", "main.py", arguments=[x, "hidden"]), tags={"x": str(x)}) for x in (3, -1)]
    losses = []
    for child in children:
        child.wait_for_completion()
        losses.append(child.get_metrics("loss")["loss"])
    print("best", min(losses), [c.get_tags() for c in run.get_children()], children[0].status)
    with run.child_run("group") as group:
        group.submit_child(ScriptRunConfig(".", "main.py", arguments=[5, "hidden"])).wait_for_completion()
    try:
        run.submit_child(ScriptRunConfig(".", "none.py"))
    except Exception as error:
        print(type(error).__name__)
"""


def test_a_script_submits_parts_of_its_run(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project({"main.py": SEARCH})
    config = ScriptRunConfig(folder, "main.py")
    config.run_config.environment_variables["WORD"] = {"$secret": "hidden"}  # type: ignore[assignment]
    run = Experiment(ws, "search").submit(config)
    run.wait_for_completion(show_output=True)
    printed = capsys.readouterr().out
    assert "best 1.0 [{'x': '-1', 'tried': '-1'}, {'x': '3', 'tried': '3'}] Completed\nUserErrorException\n" in printed
    children = list(run.get_children(recursive=True))
    assert sorted(str(child.tags.get("tried")) for child in children) == ["-1", "3", "5", "None"]
    child = next(child for child in children if child.tags.get("tried") == "5")
    assert child.parent is not None and child.parent.name == "group" and child.type == "script"
    assert child.get_details()["runDefinition"]["arguments"] == [5, {"$secret": True}]
    assert {c.id for c in children} == {s.target[1] for s in run.lineage().steps if s.relation == "parent of"}
    assert not [name for name in run.get_file_names() if "dbml" in name]


def test_a_program_submits_parts_of_its_run(ws: Workspace) -> None:
    project({"main.py": "from dbml.core import Run\nRun.get_context().log('n', 1)"})
    with Experiment(ws, "parts").start_logging() as parent:
        child = parent.submit_child(ScriptRunConfig("project", "main.py"), tags={"a": "b"})
        child.wait_for_completion()
    assert child.parent is not None and child.parent.id == parent.id and parent.get_metrics(recursive=True) == {"n": 1}
    assert [c.id for c in parent.get_children()] == [child.id]
    assert parent.delete() == 2
    with pytest.raises(errors.RunNotFound):
        child.get_status()


def test_a_script_that_submits_itself_comes_to_an_end(ws: Workspace) -> None:
    again = "from dbml.core import Run, ScriptRunConfig\nRun.get_context().submit_child(ScriptRunConfig('.', 'main.py'))"
    first = Experiment(ws, "again").submit(ScriptRunConfig(project({"main.py": again}), "main.py"))
    run, completed = first, 0
    while True:
        run.wait_for_completion(raise_on_error=False)
        children = list(run.get_children())
        if not children:
            break
        completed += run.get_status() == "Completed"
        (run,) = children
    assert completed == 16 and run.get_status() == "Failed"
    assert "a run must have 16 runs above it at most" in run.get_details()["error"]["error"]["message"]


def test_what_a_script_cannot_submit(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    script = """
from dbml.core import Environment, Run, ScriptRunConfig
from dbml.core.conda_dependencies import CondaDependencies
run = Run.get_context()
other = Environment("other")
other.python.conda_dependencies = CondaDependencies.create(pip_packages=["six"])
for config in (ScriptRunConfig(".", "main.py", environment=other), "config"):
    try:
        run.submit_child(config)
    except NotImplementedError as error:
        print(str(error)[:42])
"""
    run = submitted(ws, script, [])
    run.wait_for_completion(show_output=True)
    assert "a run that a script submits has the script\nstr cannot be submitted; ScriptRunConfig c\n" in capsys.readouterr().out
