"""What the SDK shows: names, help, types, and how little an import costs."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

import dbml
import dbml.core
from dbml.core import Experiment, Run, Workspace
from dbml.core.absent import instead_of
from dbml.widgets import RunDetails

SAMPLE = Path(__file__).with_name("sample_program.py")
MODULES = [
    "dbml.client", "dbml.core.authentication", "dbml.core.comparison", "dbml.core.compute", "dbml.core.compute_target",
    "dbml.core.conda_dependencies", "dbml.core.environment", "dbml.core.experiment", "dbml.core.image", "dbml.core.inference_config",
    "dbml.core.model", "dbml.core.model_package", "dbml.core.offline_run", "dbml.core.profile",
    "dbml.core.resource_configuration", "dbml.core.lineage", "dbml.core.replay", "dbml.core.run",
    "dbml.core.run_context", "dbml.core.runconfig", "dbml.core.script_child", "dbml.core.script_submission", "dbml.core.script_run_config",
    "dbml.core.dataset", "dbml.core.datastore", "dbml.core.webservice", "dbml.core.workspace", "dbml.data.data_reference",
    "dbml.data.data_type", "dbml.data.database_datastore", "dbml.data.datapath", "dbml.data.dataset_consumption_config",
    "dbml.data.dataset_factory", "dbml.data.file_dataset", "dbml.data.output_dataset_config",
    "dbml.data.tabular_dataset", "dbml.exceptions", "dbml.train.hyperdrive", "dbml.widgets",
]  # fmt: skip


def _classes() -> list[type]:
    found: dict[str, type] = {}
    for module in map(importlib.import_module, MODULES):
        for name, member in vars(module).items():
            if (
                inspect.isclass(member)
                and not name.startswith("_")
                and member.__module__.startswith("dbml")
                and not instead_of(member)
            ):
                found[name] = member
    return list(found.values())


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_help_reads_well(cls: type) -> None:
    said = (inspect.getdoc(cls) or "").splitlines()
    assert said and said[0].endswith((".", ":")) and len(said[0]) <= 130, cls
    assert cls.__name__ in pydoc.render_doc(cls, renderer=pydoc.plaintext)
    for name, member in vars(cls).items():
        if name.startswith("_") or inspect.isclass(member):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            first = (inspect.getdoc(function) or "").partition("\n")[0]
            assert first.endswith((".", ":")), f"{cls.__name__}.{name} must say what it does"
            word = first.split()[0]
            assert word[0].isupper() and not word.endswith("ing"), f"{cls.__name__}.{name}: {first}"


def test_every_public_name_is_there() -> None:
    for name in dbml.core.__all__:
        assert getattr(dbml.core, name) is not None and name in dir(dbml.core)
    assert dbml.__version__ == dbml.core.VERSION
    for name, nearest in dbml.core._NOT_YET.items():
        with pytest.raises(NotImplementedError, match="not there yet; what is: "):
            getattr(dbml.core, name)
        assert nearest


def test_the_sample_is_typed_and_runs(place: Path, dsn: str) -> None:
    files = tomllib.loads((SAMPLE.parents[2] / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert "tests/core/sample_program.py" in files, "mypy checks it, strictly, with everything else"
    name = "sample-" + uuid.uuid4().hex[:12]
    ran = subprocess.run([sys.executable, "-W", "error", str(SAMPLE), name], capture_output=True, text=True, cwd=place)
    assert ran.returncode == 0, ran.stderr
    for line in (
        "1 ['folds', 'rmse', 'row', 'table'] Completed", "sample:1 ScikitLearn", "sample True True AksCompute",
        "1 ['folds', 'rmse']", "['sample'] (1, 1)", "1 ['rows.csv'] mount 1 data", "Attempted to log scalar metric rmse:",
    ):  # fmt: skip
        assert line in ran.stdout, ran.stdout


def test_the_sample_program_uses_every_public_class() -> None:
    words = set(re.findall(r"\w+", SAMPLE.read_text()))
    bases = {
        "Connection",
        "DbmlError",
        "Definition",
        "Inputs",
        "Listing",
        "RunFiles",
        "RunLogging",
        "Source",
    }  # nobody makes or names these
    assert {cls.__name__ for cls in _classes()} - words - bases == set()


def test_an_import_brings_no_more_than_it_needs() -> None:
    script = (
        "import sys, dbml; first = set(sys.modules); import dbml.core; from dbml.core import Workspace, Experiment, Run, Model;"
        "import dbml.widgets; print(sorted(name for name in ('psycopg', 'rich') if name in first),"
        " [name for name in ('pandas', 'numpy', 'pyarrow', 'sklearn', 'yaml', 'rich', 'sqlalchemy', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[] []\n"


def test_a_run_is_shown_in_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log("loss", 0.5)
    run.log("loss", 0.25)
    RunDetails(run).show()
    shown = capsys.readouterr().out
    assert run.id in shown and "Running" in shown and "0.25 (2 values)" in shown
    assert "0.25 (2 values)" in RunDetails(run)._repr_html_() and RunDetails(run).get_widget_data()["status"] == "Running"


def test_a_run_is_shown_in_a_notebook_until_it_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import dbml.widgets as module

    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(shown._repr_html_())

    def display(shown: Any, display_id: bool) -> Handle:
        drawn.append(shown._repr_html_())
        return Handle()

    monkeypatch.setattr(module, "_notebook_display", lambda: display)
    monkeypatch.setattr(module, "REFRESH_S", 0.05)
    details = RunDetails(run)
    details.show()
    run.tag("<b>", "x")
    run.log("<script>", 1)
    run.complete()
    assert details._watcher is not None
    details._watcher.join(10)
    assert "Running" in drawn[0] and "Completed" in drawn[-1] and "<script>" not in drawn[-1]


def test_what_sql_says_is_what_the_sdk_does(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (ws.name,))
    (run_id,) = db.execute("SELECT dbml.start_run('sql', name => 'by hand', params => '{\"a\": 1}')").fetchone()  # type: ignore[misc]
    db.execute("SELECT dbml.log_metric(%s, 'nan', 'NaN')", (run_id,))
    db.execute('SELECT dbml.log_metrics(%s, \'{"rmse": 0.5, "ok": true, "word": "x"}\')', (run_id,))
    db.execute("SELECT dbml.add_artifact(%s, 'a.txt', dbml.upload_bytes('hello'))", (run_id,))
    (run,) = Experiment(ws, "sql").get_runs()
    metrics = run.get_metrics()
    assert str(metrics.pop("nan")) == "nan" and metrics == {"rmse": 0.5, "ok": True, "word": "x"}
    assert (run.name, run.params, run.get_file_names()) == ("by hand", {"a": 1}, ["a.txt"])
    assert db.execute("SELECT dbml.finish_run(%s)", (run_id,)).fetchone() == ("completed",)
    assert run.get_status() == "Completed"
    for bad in (
        "'[1]'",
        '\'[{"name": "x"}]\'',
        "'{\"x\": null}'",
        "'3'",
        "NULL",
        "'[{\"value\": 1}]'",
        '\'[{"name": "x", "value": 1, "step": "y"}]\'',
    ):
        with pytest.raises(dbml.errors.InvalidArgument):
            db.execute(f"SELECT dbml.log_metrics(%s, {bad})", (run_id,))  # type: ignore[arg-type]


def test_a_lasting_run_outlives_its_session(ws: Workspace, dsn: str, db: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn, autocommit=True) as first:
        start = "SELECT dbml.start_run('lasting', lasting => %s, workspace => %s)"
        made = [first.execute(start, (lasting, ws.name)).fetchone()[0] for lasting in (True, False)]  # type: ignore[index]
    for _ in range(100):
        statuses = [db.execute("SELECT status FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone()[0] for run_id in made]  # type: ignore[index]
        if statuses == ["running", "interrupted"]:
            break
    assert statuses == ["running", "interrupted"]
    db.execute("SELECT dbml.finish_run(%s, 'failed', 'too long')", (made[0],))
    assert Run.get(ws, str(made[0])).get_details()["error"]["error"]["message"] == "too long"


def test_a_worker_that_starts_leaves_clients_runs_alone(ws: Workspace, run: Run, shared: Any) -> None:
    import asyncio

    from dbml.store import runs

    async def interrupt() -> None:
        async with await psycopg.AsyncConnection.connect(shared.dsn) as connection:
            await runs.interrupt(connection, "gone", [])
            await connection.rollback()
            assert await (
                await connection.execute("SELECT count(*) FROM dbml._runs WHERE run_id = %s AND finished_at IS NULL", (run.id,))
            ).fetchone() == (1,)

    asyncio.run(interrupt())
