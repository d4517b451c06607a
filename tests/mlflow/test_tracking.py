"""MLflow's own client logs to dbml's runs: what it says is what SQL, the SDK and MLflow itself read back."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from dbml.core import Experiment, Model, Run, Workspace
from dbml.dsn import make_uri, parse

pytestmark = pytest.mark.once

Program = Callable[..., str]


@pytest.fixture
def client(ws: Workspace) -> MlflowClient:
    """MLflow's client on the workspace."""
    return MlflowClient(ws.get_mlflow_tracking_uri(), ws.get_mlflow_tracking_uri())


def test_the_walk_of_a_notebook(ws: Workspace, program: Program, db: psycopg.Connection[Any]) -> None:
    run_id = program("""
mlflow.set_tracking_uri(uri)
mlflow.set_experiment("diabetes")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_param("alpha", 0.5)
    mlflow.log_params({"solver": "svd", "features": 10})
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"auc": 0.75, "rows": 442})
    mlflow.set_tag("stage", "try")
    open("notes.txt", "w").write("hello")
    mlflow.log_artifact("notes.txt", "texts")
    mlflow.log_text("more", "texts/more.txt")
    mlflow.log_dict({"a": 1}, "a.json")
print(run.info.run_id)
""")
    run = Run.get(ws, run_id)
    assert run.experiment.name == "diabetes" and run.name == "first" and run.get_status() == "Completed"
    assert run.params == {"alpha": "0.5", "solver": "svd", "features": "10"}
    assert run.get_metrics() == {"loss": [1.0, 0.5, pytest.approx(1 / 3)], "auc": 0.75, "rows": 442.0}
    assert run.tags["stage"] == "try" and run.get_file_names() == ["a.json", "texts/more.txt", "texts/notes.txt"]
    run.download_file("texts/notes.txt", "got.txt")
    assert Path("got.txt").read_text() == "hello"
    row = db.execute(
        "SELECT status, username = current_user, logged_params ->> 'alpha' FROM dbml.runs WHERE run_id = %s", (run_id,)
    ).fetchone()
    assert row == ("completed", True, "0.5")
    steps = db.execute(
        "SELECT step, value FROM dbml.metrics WHERE run_id = %s AND name = 'loss' ORDER BY step", (run_id,)
    ).fetchall()
    assert steps == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    frame = Experiment(ws, "diabetes").compare().frame
    assert frame.alpha.iloc[0] == "0.5" and frame.auc.iloc[0] == 0.75


def test_autolog_of_scikit_learn_and_its_model(ws: Workspace, program: Program, db: psycopg.Connection[Any]) -> None:
    run_id, _, answer, same = (
        program("""
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

mlflow.set_tracking_uri(uri)
mlflow.set_experiment("auto")
mlflow.sklearn.autolog()
X, y = load_diabetes(return_X_y=True)
with mlflow.start_run() as run:
    Ridge(alpha=0.5).fit(X, y)
(model,) = mlflow.search_logged_models(output_format="list")
one = mlflow.sklearn.load_model(model.model_uri).predict(X[:1])[0]
other = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model").predict(X[:1])[0]
print(run.info.run_id, model.model_id, one, one == other)
""")
        .splitlines()[-1]
        .split()
    )
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    features, target = load_diabetes(return_X_y=True)
    fitted = Ridge(alpha=0.5).fit(features, target)
    assert float(answer) == pytest.approx(fitted.predict(features[:1])[0]) and same == "True"
    run = Run.get(ws, run_id)
    assert run.params["alpha"] == "0.5" and run.get_metrics()["training_r2_score"] == pytest.approx(
        fitted.score(features, target)
    )
    assert "model/MLmodel" in run.get_file_names() and run.get_status() == "Completed"
    # A model of MLflow's is one that the run keeps: it is registered with its origin, and no bytes are copied.
    registered = run.register_model("auto", "model")
    assert registered.run_id == run_id and Path(registered.download("m"), "MLmodel").is_file()
    # Its estimator alone is scored in SQL.
    (file,) = (name for name in run.get_file_names() if name.startswith("model/model."))
    assert run.register_model("scored", file).run_id == run_id
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (ws.name,))
    scored = db.execute("SELECT dbml.predict('scored', %s::float8[])", (features[0].tolist(),)).fetchone()
    assert scored == (pytest.approx(float(answer)),)
    assert db.execute(
        "SELECT count(*) FROM dbml.metrics WHERE run_id = %s AND name = 'training_r2_score'", (run_id,)
    ).fetchone() == (1,)


def test_log_model_and_the_registry(ws: Workspace, program: Program) -> None:
    said = program("""
from sklearn.dummy import DummyRegressor

mlflow.set_tracking_uri(uri)
mlflow.set_experiment("registry")
with mlflow.start_run() as run:
    for value in (1.0, 2.0):
        made = DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value])
        mlflow.log_metric("value", value)
        info = mlflow.sklearn.log_model(made, name="model", registered_model_name="flow",
                                        serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
client = mlflow.MlflowClient()
client.set_registered_model_alias("flow", "champion", 2)
client.set_model_version_tag("flow", "1", "old", "yes")
third = mlflow.register_model(f"runs:/{run.info.run_id}/model", "flow")
versions = {v.version: v for v in client.search_model_versions("name = 'flow'")}
print(run.info.run_id, sorted(map(int, versions)), client.get_registered_model("flow").aliases)
print(mlflow.pyfunc.load_model("models:/flow/1").predict([[0.0]]), mlflow.pyfunc.load_model("models:/flow@champion").predict([[0.0]]))
print(mlflow.pyfunc.load_model(info.model_uri).predict([[0.0]]), versions['1'].tags, versions['1'].run_id == run.info.run_id)
""").splitlines()
    run_id = said[0].split()[0]
    assert said[0] == f"{run_id} [1, 2, 3] {{'champion': '2'}}"
    assert said[1] == "[1.] [2.]" and said[2] == "[2.] {'old': 'yes'} True"
    model = Model(ws, "flow", version=2)
    assert model.run_id == run_id and model.aliases == ["champion"] and model.properties["mlflow.modelId"].startswith("m-")
    assert {"MLmodel", "model.pkl"} <= set(model._paths())
    assert {name.partition("/")[0] for name in Run.get(ws, run_id).get_file_names()} == {"model", "model-2"}


def test_experiments(ws: Workspace, client: MlflowClient) -> None:
    assert client.get_experiment_by_name("none") is None
    made = client.create_experiment("e", tags={"team": "crm"})
    assert client.get_experiment(made).name == "e" and client.get_experiment_by_name("e").experiment_id == made
    with pytest.raises(MlflowException, match="exists in workspace") as caught:
        client.create_experiment("e")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    with pytest.raises(MlflowException, match="none of : @ /") as caught:
        client.create_experiment("/Users/me/e")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="artifact_location must be None"):
        client.create_experiment("elsewhere", artifact_location="s3://bucket")
    client.set_experiment_tag(made, "stage", "try")
    assert client.get_experiment(made).tags == {"team": "crm", "stage": "try"} == Experiment(ws, "e").tags
    client.delete_experiment_tag(made, "stage")
    assert [found.name for found in client.search_experiments(filter_string="tags.team = 'crm'")] == ["e"]
    assert client.search_experiments(view_type=ViewType.DELETED_ONLY) == []
    with pytest.raises(MlflowException, match="keeps its name"):
        client.rename_experiment(made, "f")
    run = client.create_run(made)
    with pytest.raises(MlflowException, match="must have no runs to be deleted"):
        client.delete_experiment(made)
    client.set_terminated(run.info.run_id)
    client.delete_run(run.info.run_id)
    client.delete_experiment(made)
    with pytest.raises(MlflowException, match="has the id") as caught:
        client.get_experiment(made)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    for restore in (lambda: client.restore_experiment(made), lambda: client.restore_run(run.info.run_id)):
        with pytest.raises(MlflowException, match="nothing to restore"):
            restore()


def test_a_run_without_an_experiment_is_of_the_default_one(ws: Workspace, client: MlflowClient) -> None:
    assert client.get_experiment("0").name == "Default" and "Default" not in ws.experiments
    run = client.create_run("0")
    named = client.get_experiment_by_name("Default")
    assert named.experiment_id == run.info.experiment_id == client.get_experiment("0").experiment_id
    assert Run.get(ws, run.info.run_id).experiment.name == "Default"


def test_runs_and_what_they_log(ws: Workspace, client: MlflowClient) -> None:
    experiment = client.create_experiment("runs")
    parent = client.create_run(experiment, run_name="parent", tags={"a": "b"}).info.run_id
    child = client.create_run(experiment, tags={"mlflow.parentRunId": parent, "a": "c"}).info.run_id
    assert Run.get(ws, child).parent.id == parent and client.get_run(child).data.tags["mlflow.parentRunId"] == parent  # type: ignore[union-attr]
    now = int(time.time() * 1000)
    for value, step in ((0.5, 0), (math.nan, 1), (math.inf, 2), (0.25, 3)):
        client.log_metric(child, "loss", value, timestamp=now + step, step=step)
    client.log_batch(child, [Metric("loss", 9.0, now, 2), Metric("m", 1.0, now, 0)], [Param("p", "1")], [RunTag("t", "1")])
    found = client.get_run(child)
    assert found.data.metrics == {"loss": 0.25, "m": 1.0} and found.data.params == {"p": "1"} and found.data.tags["t"] == "1"
    history = [(each.value, each.step, each.timestamp) for each in client.get_metric_history(child, "loss")]
    assert history[0] == (0.5, 0, now) and math.isnan(history[1][0]) and history[2:] == [
        (math.inf, 2, now + 2), (0.25, 3, now + 3), (9.0, 2, now),
    ]  # fmt: skip
    client.log_param(child, "p", "1")
    with pytest.raises(MlflowException, match='a parameter of a run must stay what it is, "p" is "1" and cannot become "2"'):
        client.log_param(child, "p", "2")
    client.delete_tag(child, "t")
    client.update_run(child, name="renamed")
    assert "t" not in client.get_run(child).data.tags and client.get_run(child).info.run_name == "renamed"
    client.log_metric(parent, "loss", 0.75)
    by_loss = client.search_runs([experiment], "metrics.loss > 0.5", order_by=["metrics.loss DESC"])
    assert [run.info.run_id for run in by_loss] == [parent]
    assert [run.info.run_id for run in client.search_runs([experiment], "tags.a = 'c' and params.p = '1'")] == [child]
    first = client.search_runs([experiment], max_results=1)
    rest = client.search_runs([experiment], max_results=1, page_token=first.token)
    assert {first[0].info.run_id, rest[0].info.run_id} == {parent, child} and rest.token is None
    client.set_terminated(child, "KILLED")
    client.set_terminated(parent, "FAILED")
    assert (Run.get(ws, child).get_status(), Run.get(ws, parent).get_status()) == ("Canceled", "Failed")
    client.set_terminated(parent, "FINISHED")  # it has ended, and stays as it is
    assert client.get_run(parent).info.status == "FAILED"
    with pytest.raises(MlflowException) as caught:
        client.get_run(uuid.uuid4().hex)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException, match="is not there"):
        client.log_metric(str(uuid.uuid4()), "m", 1)
    client.delete_run(parent)  # with its part
    assert client.search_runs([experiment]) == []


def test_what_the_sdk_began_mlflow_goes_on_with(ws: Workspace, program: Program) -> None:
    run = Experiment(ws, "shared").start_logging(display_name="begun", params={"alpha": 0.5})
    run.log("a", 1)
    run.log("word", "text is no number for MLflow")
    run.log_table("table", {"x": [1, 2]})
    run.flush()
    said = program(
        """
mlflow.set_tracking_uri("dbml:")
with mlflow.start_run() as run:
    mlflow.log_metric("b", 2)
    found = mlflow.get_run(run.info.run_id)
print(run.info.run_id, run.info.run_name, found.data.metrics, found.data.params)
""",
        MLFLOW_RUN_ID=run.id, DBML_WORKSPACE=ws.name,
    )  # fmt: skip
    assert said == f"{run.id} begun {{'a': 1.0, 'b': 2.0}} {{'alpha': '0.5'}}"
    assert run.get_metrics()["b"] == 2 and run.get_status() == "Completed"


def test_artifacts_up_and_down(ws: Workspace, client: MlflowClient, tmp_path: Path) -> None:
    run_id = client.create_run(client.create_experiment("files")).info.run_id
    folder = tmp_path / "up"
    (folder / "deep/er").mkdir(parents=True)
    big = bytes(range(256)) * (20 << 12)  # 20 MiB: more than a window
    (folder / "deep/er/big.bin").write_bytes(big)
    (folder / "empty.txt").touch()
    client.log_artifacts(run_id, str(folder), "in")
    client.log_artifacts(run_id, str(folder), "in")  # the same names again take the place of the former
    listed = {found.path: (found.is_dir, found.file_size) for found in client.list_artifacts(run_id, "in")}
    assert listed == {"in/deep": (True, None), "in/empty.txt": (False, 0)} and client.list_artifacts(run_id, "in/empty.txt") == []
    got = Path(client.download_artifacts(run_id, "in", str(tmp_path)))
    assert (got / "deep/er/big.bin").read_bytes() == big and (got / "empty.txt").read_bytes() == b""
    assert sorted(Run.get(ws, run_id).get_file_names()) == ["in/deep/er/big.bin", "in/empty.txt"]
    with pytest.raises(MlflowException, match="Failed to download artifacts from path"):
        client.download_artifacts(run_id, "none.txt", str(tmp_path))
    with pytest.raises((MlflowException, OSError)):
        client.log_artifact(run_id, str(tmp_path / "none"))


def test_ten_thousand_values_are_written_in_batches(ws: Workspace, client: MlflowClient, db: psycopg.Connection[Any]) -> None:
    run_id = client.create_run(client.create_experiment("many")).info.run_id
    for step in range(10_000):
        client.log_metric(run_id, "loss", float(step), step=step)
    assert len(client.get_metric_history(run_id, "loss")) == 10_000
    found = db.execute(
        "SELECT count(*), max(step), count(DISTINCT step) FROM dbml.metrics WHERE run_id = %s", (run_id,)
    ).fetchone()
    writers = db.execute(
        "SELECT count(*), max(sequence) < 1000 FROM dbml._metric_writers WHERE run_id = %s", (run_id,)
    ).fetchone()
    assert found == (10_000, 9_999, 10_000) and writers == (1, True)


def test_the_address_holds_no_password(ws: Workspace, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**parse(ws._connection.dsn), "password": "s3cret-of-mine", "sslpassword": "another"}
    given = Workspace._of(type(ws._connection)(make_uri(known)), ws._row)
    shown = given.get_mlflow_tracking_uri()
    assert (
        shown.startswith("dbml://")
        and shown.endswith(f"workspace={ws.name}")
        and "s3cret" not in shown
        and "another" not in shown
    )
    assert shown == ws.get_mlflow_tracking_uri()
    with pytest.raises(MlflowException, match="a tracking URI must hold no password") as caught:
        MlflowClient(shown + "&password=s3cret-of-mine").search_experiments()
    assert "s3cret" not in str(caught.value)
    # By the connection that this process has open, and not by one that was never opened; and by a variable alone.
    assert program("print(mlflow.MlflowClient('dbml:').get_experiment('0').name)") == "Default"
    monkeypatch.delenv("DBML_DSN")
    assert MlflowClient(shown).get_experiment("0").name == "Default"


@pytest.mark.parametrize("right", ["reader", None])
def test_rights_are_the_databases(
    ws: Workspace, client: MlflowClient, db: psycopg.Connection[Any], right: str | None, program: Program
) -> None:
    experiment = client.create_experiment("rights")
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "m", 1)
    client.get_run(run_id)
    role = "flow_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")  # type: ignore[arg-type]
    try:
        db.execute(f"GRANT dbml_reader TO {role}")  # type: ignore[arg-type]
        if right is not None:
            db.execute("SELECT dbml.grant_workspace(%s, %s, %s)", (ws.name, role, right))
        dsn = make_uri({**parse(ws._connection.dsn), "user": role, "password": "secret"})
        said = program(
            f"""
from mlflow.exceptions import MlflowException
for what in (lambda c: c.get_run({run_id!r}).data.metrics, lambda c: c.log_metric({run_id!r}, "m", 2), lambda c: c.log_param({run_id!r}, "p", 2),
             lambda c: c.set_tag({run_id!r}, "t", "2"), lambda c: c.create_run({experiment!r}), lambda c: c.create_experiment("new")):
    try:
        print(what(mlflow.MlflowClient("dbml:")))
    except MlflowException as error:
        print(error.error_code)
""",
            DBML_DSN=dsn, DBML_WORKSPACE=ws.name,
        ).splitlines()  # fmt: skip
        if right is None:
            assert set(said) == {"INVALID_PARAMETER_VALUE"}  # no such workspace, as far as they may know
        else:
            assert said == ["{'m': 1.0}", *["PERMISSION_DENIED"] * 5]
    finally:
        db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]
    assert client.get_run(run_id).data.metrics == {"m": 1.0} and client.get_run(run_id).data.params == {}


def test_a_submitted_script_logs_to_its_very_run(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    from dbml.core import ScriptRunConfig

    Path("code").mkdir()
    Path("code/train.py").write_text("""
import mlflow
from mlflow.tracking import MlflowClient
from sklearn.dummy import DummyRegressor

with mlflow.start_run() as run:
    mlflow.log_param("alpha", 0.5)
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.set_tag("stage", "try")
    mlflow.log_text("hello", "notes/a.txt")
    model = DummyRegressor(strategy="constant", constant=4.0).fit([[0.0]], [4.0])
    mlflow.sklearn.log_model(model, name="model", registered_model_name="by-script", serialization_format="cloudpickle",
                             pip_requirements=["scikit-learn"])
    with mlflow.start_run(run_name="part", nested=True):
        mlflow.log_metric("inner", 1)
        mlflow.log_param("beta", 2)
print("logged to", run.info.run_id, MlflowClient().get_run(run.info.run_id).data.metrics)
try:
    mlflow.log_param("late", 1, run_id="x") if False else MlflowClient().restore_run(run.info.run_id)
except mlflow.exceptions.MlflowException as error:
    print("refused:", error.error_code)
""")
    run = Experiment(ws, "submitted").submit(ScriptRunConfig("code", "train.py"))
    details = run.wait_for_completion(raise_on_error=False)
    log = run.get_details_with_logs()["logFiles"]
    assert details["status"] == "Completed", (details, log)
    assert f"logged to {run.id} {{'loss': 0.333" in str(log) and "refused: NOT_IMPLEMENTED" in str(log)
    assert run.get_metrics() == {"loss": [1.0, 0.5, pytest.approx(1 / 3)]} and run.params["alpha"] == "0.5"
    assert run.tags["stage"] == "try" and {"notes/a.txt", "model/MLmodel"} <= set(run.get_file_names())
    (part,) = run.get_children()
    assert (
        part.name == "part"
        and part.get_metrics() == {"inner": 1}
        and part.params == {"beta": "2"}
        and part.get_status() == "Completed"
    )
    model = Model(ws, "by-script")
    assert model.run_id == run.id and "MLmodel" in model._paths()
    # And from outside, MLflow reads the same.
    client = MlflowClient(ws.get_mlflow_tracking_uri(), ws.get_mlflow_tracking_uri())
    found = client.get_run(run.id)
    assert (
        found.data.metrics["loss"] == pytest.approx(1 / 3)
        and found.data.params["alpha"] == "0.5"
        and found.info.status == "FINISHED"
    )
    (output,) = found.outputs.model_outputs
    assert client.get_logged_model(output.model_id).name == "model"
    other = Experiment(ws, "submitted").submit(ScriptRunConfig("code", "train.py"))
    with pytest.raises(MlflowException, match="is of a script") as caught:
        client.log_param(other.id, "from", "outside")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    other.cancel()
    other.wait_for_completion(raise_on_error=False)


def test_a_tag_that_only_looks_like_a_model_hides_nothing() -> None:
    from dbml.mlflow import held

    given = {f"{held.MODEL}m-1": "{no JSON", f"{held.MODEL}m-2": '{"name": "m"}', "mine": "{"}
    assert held.split(given) == ({f"{held.MODEL}m-1": "{no JSON", "mine": "{"}, {f"{held.MODEL}m-2": {"name": "m"}})
