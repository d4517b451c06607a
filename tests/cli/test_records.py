"""`dbml model|run|dataset|experiment|workspace`: records listed, shown, tagged, registered, downloaded, compared and deleted."""

from __future__ import annotations

import json
import os
import pickle
import pty
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyarrow import parquet
from typer.main import get_command
from typer.testing import CliRunner

from dbml import errors
from dbml.cli.app import app
from dbml.core import Experiment, Workspace
from dbml.exceptions import ModelNotFoundException, WorkspaceException

from ..conftest import Database

pytestmark = pytest.mark.once

Dbml = Callable[..., Any]
GROUPS = ("model", "image", "run", "dataset", "experiment", "workspace")
NAME = "größe \"x\" 'y'"


@pytest.fixture
def place(shared: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder, with DBML_DSN in the environment."""
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ws(place: Path) -> Iterator[Workspace]:
    """A workspace with a name that wants quoting, deleted afterwards."""
    workspace = Workspace.create(f"w é \"{uuid.uuid4().hex[:8]}'", show_output=False)
    yield workspace
    workspace.delete()
    workspace._connection.close()


@pytest.fixture
def dbml(ws: Workspace) -> Dbml:
    """Run a command in the workspace: its JSON document, or with json=False what it printed."""

    def run(*words: str, json_: bool = True) -> Any:
        where = [] if words[0] == "workspace" else ["--workspace", ws.name]
        answer = CliRunner().invoke(app, [*words, *where, *(["--json"] if json_ else [])])
        if answer.exception is not None:
            raise answer.exception
        return json.loads(answer.stdout) if json_ else answer.stdout

    return run


def test_models(dbml: Dbml, ws: Workspace, place: Path) -> None:
    (place / "m.pkl").write_bytes(pickle.dumps({"a": 1}))
    made = dbml("model", "register", NAME, "m.pkl", "--tag", "stage=try", "--tag", "mark", "--alias", "champion")
    assert (made["name"], made["version"], made["tags"]) == (NAME, 1, {"stage": "try", "mark": None})
    assert dbml("model", "register", NAME, "m.pkl", "--description", "a\tb", json_=False) == f"{NAME}:2\n"
    listed = dbml("model", "list")
    assert [(row["name"], row["version"], row["aliases"]) for row in listed] == [(NAME, 2, []), (NAME, 1, ["champion"])]
    assert [row["version"] for row in dbml("model", "list", "--latest")] == [2]
    assert [row["version"] for row in dbml("model", "list", "--tag", "stage=try")] == [1]
    assert dbml("model", "list", "none") == []
    shown = dbml("model", "show", f"{NAME}@champion")
    assert shown["version"] == 1 and shown["files"] == ["m.pkl"] and shown["created_at"][10] == "T"
    assert "description\ta\\tb\n" in dbml("model", "show", NAME, json_=False)
    assert dbml("model", "tag", f"{NAME}:1", "a=b=c", "--remove", "mark", "--alias", "best") == {"stage": "try", "a": "b=c"}
    assert dbml("model", "show", f"{NAME}@best")["version"] == 1
    assert dbml("model", "download", NAME, "--to", "sub/folder") == ["sub/folder/m.pkl"]
    assert (place / "sub/folder/m.pkl").read_bytes() == (place / "m.pkl").read_bytes()
    with pytest.raises(errors.DbmlError, match="exists"):
        dbml("model", "download", NAME, "--to", "sub/folder")
    dbml("model", "download", NAME, "--to", "sub/folder", "--overwrite")
    first, second = dbml("model", "compare", NAME)
    assert first["model"] == f"{NAME}:1" and first["tag.a"] == "b=c" and first["digest"] == second["digest"]
    assert dbml("model", "delete", f"{NAME}:1") == [f"{NAME}:1"]
    assert dbml("model", "delete", NAME, "--all") == [f"{NAME}:2"] and dbml("model", "list") == []
    with pytest.raises(ModelNotFoundException):
        dbml("model", "show", NAME)
    with pytest.raises(errors.InvalidArgument, match="a tag must be given"):
        dbml("model", "tag", NAME)


def test_runs_and_experiments(dbml: Dbml, ws: Workspace, place: Path) -> None:
    made = dbml("experiment", "create", NAME, "--tag", "team=crm", "--description", "who leaves")
    assert (made["name"], made["tags"], made["description"]) == (NAME, {"team": "crm"}, "who leaves")
    experiment = Experiment(ws, NAME)
    ids = []
    for alpha in (0.5, 1.0):
        with experiment.start_logging(display_name=f"a {alpha}", params={"alpha": alpha}) as run:
            run.log("auc", alpha / 2)
            run.log("odd", float("nan"))
            (place / "f.txt").write_text("kept")
            run.upload_file("outputs/ü f.txt", "f.txt")
            with run.child_run():
                pass
            ids.append(run.id)
    assert [row["run_id"] for row in dbml("run", "list", "--experiment", NAME)] == ids[::-1]
    assert len(dbml("run", "list", "--children")) == 4 and len(dbml("run", "list", "--limit", "1")) == 1
    assert dbml("run", "list", "--status", "failed") == [] and "log" not in dbml("run", "list")[0]
    shown = dbml("run", "show", ids[0][:13])
    assert shown["display_name"] == "a 0.5" and shown["metrics"] == {"auc": 0.25, "odd": "NaN"}
    assert shown["files"] == ["outputs/ü f.txt"] and shown["status"] == "completed"
    assert dbml("run", "tag", ids[0], "reviewed=yes") == {"reviewed": "yes"}
    assert [row["run_id"] for row in dbml("run", "list", "--tag", "reviewed")] == [ids[0]]
    assert dbml("run", "tag", ids[0], "--remove", "reviewed") == {}
    assert dbml("run", "log", ids[0])["log"] == ""
    assert dbml("run", "download", ids[0], "--to", "got") == ["got/outputs/ü f.txt"]
    assert (place / "got/outputs/ü f.txt").read_text() == "kept"
    with pytest.raises(errors.InvalidArgument, match="must not be there"):
        dbml("run", "download", ids[0], "outputs/", "--to", "got")
    with pytest.raises(errors.InvalidArgument, match="must go on to be cancelled"):
        dbml("run", "cancel", ids[0])
    going = experiment.start_logging()
    assert dbml("run", "cancel", going.id)["status"] == "canceled"
    assert [(row["alpha"], row["auc"]) for row in dbml("run", "compare", *ids)] == [(0.5, 0.25), (1.0, 0.5)]
    table = dbml("experiment", "compare", NAME, "--plot", "auc.png", "--metric", "auc", "--against", "alpha", json_=False)
    assert table.splitlines()[0].split("\t")[0] == "run_id" and len(table.splitlines()) == 4
    assert (place / "auc.png").read_bytes().startswith(b"\x89PNG")
    assert dbml("model", "register", "of a run", "outputs/ü f.txt", "--run", ids[0])["run_id"] == ids[0]
    assert dbml("model", "compare", "of a run")[0]["metric.auc"] == 0.25
    shown = dbml("experiment", "show", NAME, "--limit", "1")
    assert shown["runs"] == 5 and len(shown["newest"]) == 1
    assert dbml("experiment", "tag", NAME, "a=b", "--remove", "team") == {"a": "b"}
    with pytest.raises(errors.InvalidArgument, match="must have no runs"):
        dbml("experiment", "delete", NAME)
    with pytest.raises(errors.InvalidArgument, match="no model's origin"):
        dbml("run", "delete", ids[1], ids[0])
    with pytest.raises(errors.RunNotFound):
        dbml("run", "show", ids[1])
    assert len(dbml("run", "list", "--children")) == 3  # its part went with it
    dbml("model", "delete", "of a run")
    other = Experiment(ws, "other")
    other.start_logging().complete()
    assert dbml("experiment", "delete", "other", "--runs") == ["other"]
    assert dbml("run", "delete", ids[0]) == [ids[0]] and len(dbml("run", "list", "--experiment", NAME)) == 1
    dbml("experiment", "create", "misspelt")
    assert dbml("experiment", "delete", "misspelt") == ["misspelt"]
    assert [row["name"] for row in dbml("experiment", "list")] == [NAME]
    with pytest.raises(errors.NothingFound, match="misspelt"):
        dbml("experiment", "show", "misspelt")
    with pytest.raises(errors.RunNotFound):
        dbml("run", "show", "ffffffff")


def test_datasets(dbml: Dbml, ws: Workspace, place: Path) -> None:
    (place / "a.csv").write_text("x,größe\n1,a\n2,b\n", "utf-8")
    made = dbml("dataset", "register", NAME, "a.csv", "--tag", "source=crm", "--description", "rows")
    assert (made["version"], made["kind"], made["tags"]) == (1, "tabular", {"source": "crm"})
    (place / "a.csv").write_text("x,größe\n1,a\n200,b\n", "utf-8")
    assert dbml("dataset", "register", NAME, "a.csv", json_=False) == f"{NAME}:2\n"
    assert [row["version"] for row in dbml("dataset", "list", NAME)] == [2, 1]
    assert [row["version"] for row in dbml("dataset", "list", "--latest")] == [2]
    shown = dbml("dataset", "show", f"{NAME}:1", "--profile")
    assert [column["name"] for column in shown["schema"]] == ["x", "größe"] and shown["profile"][0]["max"] == "2"
    assert "schema\tx bigint, größe text\n" in dbml("dataset", "show", NAME, json_=False)
    assert dbml("dataset", "tag", f"{NAME}:1", "checked", "--remove", "source") == {"checked": ""}
    for kind, name in (("csv", f"{NAME}.csv"), ("parquet", f"{NAME}.parquet"), ("json", f"{NAME}.jsonl")):
        assert dbml("dataset", "download", NAME, "--format", kind, "--to", "out") == [f"out/{name}"]
    assert parquet.read_table(place / f"out/{NAME}.parquet").to_pydict() == {"x": [1, 200], "größe": ["a", "b"]}
    assert json.loads((place / f"out/{NAME}.jsonl").read_text("utf-8").splitlines()[1]) == {"x": 200, "größe": "b"}
    drift = {row["column_name"]: row for row in dbml("dataset", "compare", NAME)}
    assert drift["x"]["ks"] == 0.5 and drift["größe"]["psi"] == 0
    assert len(dbml("dataset", "compare", f"{NAME}:1", "2")) == 2
    (place / "f").mkdir()
    (place / "f/one.bin").write_bytes(b"1")
    assert dbml("dataset", "register", "files", "f", "a.csv")["kind"] == "file"
    assert sorted(dbml("dataset", "download", "files", "--to", "back")) == ["back/a.csv", "back/f/one.bin"]
    assert dbml("dataset", "register", "numbers", "--query", "SELECT g AS x FROM generate_series(1, 3) g")["kind"] == "query"
    assert dbml("dataset", "delete", f"{NAME}:1") == [f"{NAME}:1"]
    assert dbml("dataset", "delete", NAME, "--all") == [f"{NAME}:2"]
    for words, message in (
        (("register", "none", "none.csv"), "must be there"), (("register", "none"), "either files or --query"),
        (("show", NAME), "is not in workspace"), (("compare", "files"), "must have columns"),
        (("compare", "numbers"), "is the first"), (("download", "numbers", "--format", "xlsx"), "csv, parquet or json"),
    ):  # fmt: skip
        with pytest.raises(errors.DbmlError, match=message):
            dbml("dataset", *words)


def test_workspaces(dbml: Dbml, ws: Workspace, place: Path) -> None:
    name = f"ü {uuid.uuid4().hex[:8]}"
    made = dbml("workspace", "create", name, "--tag", "team=crm", "--description", "tried")
    assert (made["name"], made["tags"], made["description"]) == (name, {"team": "crm"}, "tried")
    with pytest.raises(WorkspaceException, match="exists"):
        dbml("workspace", "create", name)
    assert dbml("workspace", "create", name, "--exist-ok")["name"] == name
    assert {name, ws.name} <= {row["name"] for row in dbml("workspace", "list")}
    assert dbml("workspace", "show", name)["models"] == 0
    assert dbml("workspace", "tag", name, "a=b", "--remove", "team") == {"a": "b"}
    assert Path(dbml("workspace", "config", name)[0]) == place.resolve() / ".azureml/config.json"
    assert Workspace.from_config().name == name
    assert dbml("workspace", "delete", name) == [name]
    with pytest.raises(WorkspaceException):
        dbml("workspace", "show", name)


def test_the_workspace_of_a_command_that_names_none(ws: Workspace, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Experiment(ws, "here")
    option = f"-c dbml.workspace={ws.name}".replace(" é", "\\ é").replace('é "', 'é\\ "')
    monkeypatch.setenv("PGOPTIONS", option)
    answer = CliRunner().invoke(app, ["experiment", "list", "--json"])
    assert [row["name"] for row in json.loads(answer.stdout)] == ["here"]


def test_a_terminal_gets_a_table_a_pipe_gets_lines(ws: Workspace, dsn: str) -> None:
    Experiment(ws, "[bold]")
    words = [sys.executable, "-m", "dbml.cli", "experiment", "list", "-w", ws.name]
    piped = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert piped.splitlines()[0].split("\t")[:2] == ["name", "runs"] and piped.splitlines()[1].startswith("[bold]\t0\t")
    main, other = pty.openpty()
    with subprocess.Popen(words, stdout=other, stderr=other, stdin=other, env={**os.environ, "COLUMNS": "160"}) as process:
        os.close(other)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:  # the end of a terminal, on Linux
            pass
        assert process.wait(60) == 0
    os.close(main)
    assert "[bold]" in shown.decode() and "─" in shown.decode() and "\t" not in shown.decode()


def test_errors_are_one_line_and_a_hint(ws: Workspace, place: Path) -> None:
    words = [sys.executable, "-m", "dbml.cli", "model", "show", "none", "-w", ws.name, "--json"]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1 and answer.stdout == ""
    error, hint = answer.stderr.splitlines()
    assert error.startswith("error: no model with name='none'") and hint.startswith("hint: ")


@pytest.mark.parametrize("group", GROUPS)
def test_the_help_of_a_group_names_its_commands_and_theirs_teach(group: str) -> None:
    commands = get_command(app).commands[group].commands
    shown = {name: command for name, command in commands.items() if not command.hidden}
    whole = CliRunner().invoke(app, [group, "--help"], env={"COLUMNS": "200"}).output
    for name in shown:
        assert re.search(rf"[│ ] {name} ", whole), name
        said = re.sub(r"[\s│]+", " ", CliRunner().invoke(app, [group, name, "--help"], env={"COLUMNS": "200"}).output)
        assert f"Example: dbml {group} {name}" in said and "--json" in said, name
    assert "list" in shown and "show" in shown


def test_run_takes_a_script_or_a_command(place: Path, db: psycopg.Connection) -> None:
    script = "OutputDataSet = [{'x': 1}]"
    (place / "list.py").write_text(script)
    (place / "show").write_text(script)
    runner = CliRunner()
    assert runner.invoke(app, ["run", "list.py", "-f", "csv"]).stdout == "x\n1\n"
    assert runner.invoke(app, ["run", "--language", "python", "-f", "csv", "./show"]).stdout == "x\n1\n"
    assert runner.invoke(app, ["run", "-", "-f", "json"], input=script).stdout == '{"x": 1}\n'
    assert runner.invoke(app, ["run", "list", "--limit", "1"]).stdout.startswith("run_id\t")
    wrong = runner.invoke(app, ["run", "--limit", "1", "list"]).exception
    assert isinstance(wrong, errors.InvalidArgument) and wrong.hint and "dbml run list --limit 1" not in str(wrong)
    assert "dbml run list" in wrong.hint
    assert "--input" in runner.invoke(app, ["run", "list.py", "--help"], env={"COLUMNS": "200"}).output
    assert "--input" in runner.invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
