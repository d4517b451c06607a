"""Models by the SDK: from a pickle, a file, a folder, a run; scored in SQL, described, downloaded, deleted."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import uuid
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psycopg
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from dbml import errors
from dbml.core import Dataset, Experiment, Model, Run, Workspace
from dbml.core.resource_configuration import ResourceConfiguration
from dbml.data.text_files import HeaderWarning
from dbml.exceptions import ModelNotFoundException, ModelPathNotFoundException, UserErrorException, WebserviceException

ROW = [1, 2, 3, 4, 5, 4, 3, 2, 9, 187]


@pytest.fixture
def pickled(place: Path) -> Path:
    """Ridge() fitted on the diabetes data, as notebooks leave it behind."""
    X, y = load_diabetes(return_X_y=True)  # noqa: N806
    path = place / "sklearn_regression_model.pkl"
    path.write_bytes(pickle.dumps(Ridge().fit(X, y)))
    return path


def _predict(db: psycopg.Connection[Any], ws: Workspace, model: str, row: list[float]) -> float:
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (ws.name,))
    return db.execute("SELECT dbml.predict(%s, %s::float8[])", (model, row)).fetchone()[0]  # type: ignore[index]


def test_the_walk_through(place: Path, pickled: Path, db: psycopg.Connection[Any]) -> None:
    """What the documentation of the former service walks through, with its imports renamed, up to the deployment."""
    X, y = load_diabetes(return_X_y=True)  # noqa: N806
    np.savetxt("features.csv", X, delimiter=",")
    np.savetxt("labels.csv", y, delimiter=",")
    ws = Workspace.create(
        name="my-workspace-" + uuid.uuid4().hex[:8], subscription_id="<azure-subscription-id>", resource_group="group",
        create_resource_group=True, location="eastus2",
    )  # fmt: skip
    datastore = ws.get_default_datastore()
    datastore.upload_files(files=["./features.csv", "./labels.csv"], target_path="sklearn_regression/", overwrite=True)
    with pytest.warns(HeaderWarning):
        input_dataset = Dataset.Tabular.from_delimited_files(path=[(datastore, "sklearn_regression/features.csv")])
    with pytest.warns(HeaderWarning):
        output_dataset = Dataset.Tabular.from_delimited_files(path=[(datastore, "sklearn_regression/labels.csv")])
    assert input_dataset.to_pandas_dataframe().shape == (441, 10), "the first row has become the names of the columns"
    with pytest.warns(UserWarning, match=r"as of scikit-learn 0\.19\.1"):
        model = Model.register(
            workspace=ws, model_name="my-sklearn-model", model_path="./sklearn_regression_model.pkl",
            model_framework=Model.Framework.SCIKITLEARN, model_framework_version="0.19.1",
            sample_input_dataset=input_dataset, sample_output_dataset=output_dataset,
            resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
            description="Ridge regression model to predict diabetes progression.",
            tags={"area": "diabetes", "type": "regression"},
        )  # fmt: skip
    assert (model.name, model.version, model.id) == ("my-sklearn-model", 1, "my-sklearn-model:1")
    assert (model.model_framework, model.model_framework_version) == ("ScikitLearn", "0.19.1")
    assert model.resource_configuration is not None and model.resource_configuration.memory_in_gb == 0.5
    assert model.sample_input_dataset is not None and model.tags == {"area": "diabetes", "type": "regression"}
    assert round(_predict(db, ws, "my-sklearn-model", ROW), 6) == 24718.7122
    experiment = Experiment(workspace=ws, name="my-experiment")
    run = experiment.start_logging()
    run.log("trial", 1)
    run.complete()
    assert run.get_metrics() == {"trial": 1}
    ws.delete()


def test_a_skops_file_is_scored(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    skops = pytest.importorskip("skops.io")
    skops.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), "model.skops")
    Model.register(ws, "model.skops", "safe")
    assert db.execute("SELECT format FROM dbml.models WHERE workspace = %s", (ws.name,)).fetchone() == ("safe",)
    assert round(_predict(db, ws, "safe", [2.0]), 9) == 5


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3)])
def test_what_joblib_dumped_is_scored(ws: Workspace, db: psycopg.Connection[Any], compress: Any) -> None:
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), "model.joblib", compress=compress)
    Model.register(ws, "model.joblib", "dumped")
    assert round(_predict(db, ws, "dumped", [2.0]), 9) == 5


def test_versions_are_found_by_all_that_they_have(ws: Workspace, pickled: Path, run: Run) -> None:
    first = Model.register(ws, pickled, "m", tags={"stage": "old", "n": 1}, properties={"author": "me"})
    second = Model.register(ws, pickled, "m", tags={"stage": "new"}, model_framework="Custom")
    Model.register(ws, pickled, "other", tags={"stage": "old"})
    assert (first.version, second.version) == (1, 2)
    assert Model(ws, "m").version == 2 and Model(ws, "m", version=1).tags == {"stage": "old", "n": "1"}
    assert Model(ws, id="m:1").id == Model(ws, "m:1").id == Model(ws, "m", tags=[["stage", "old"]]).id == "m:1"
    assert Model(ws, "m", tags=["n"]).version == 1 and Model(ws, "m", properties={"author": "me"}).version == 1
    assert Model(ws, model_framework="Custom").id == "m:2"
    assert [model.id for model in Model.list(ws)] == ["other:1", "m:2", "m:1"]
    assert [model.id for model in Model.list(ws, name="m", latest=True)] == ["m:2"]
    assert [model.id for model in Model.list(ws, tags=["stage", "old"])] == ["other:1", "m:1"]
    assert {name: model.version for name, model in ws.models.items()} == {"m": 2, "other": 1}
    for asked in ({"name": "nope"}, {"name": "m", "version": 9}, {"id": "m:7"}, {"tags": {"stage": "never"}}):
        with pytest.raises(ModelNotFoundException, match="is in workspace"):
            Model(ws, **asked)  # type: ignore[arg-type]
    with pytest.raises(WebserviceException):
        Model(ws, "nope")
    with pytest.raises(errors.InvalidArgument, match="must be a number"):
        Model(ws, "m", version="new")
    first.set_alias("champion")
    assert Model(ws, "m@champion").version == 1 and first.aliases == ["champion"]


def test_it_is_described_and_properties_stay(ws: Workspace, pickled: Path) -> None:
    model = Model.register(ws, pickled, "m", tags={"a": "1"}, datasets=[("training", "diabetes")])
    model.add_tags({"b": 2})
    model.add_tag("c")
    model.remove_tags(["a"])
    assert model.tags == Model(ws, "m").tags == {"b": "2", "c": None}
    model.update(tags={"only": "this"}, description="new", resource_configuration=ResourceConfiguration(2, 1))
    assert (model.tags, model.description) == ({"only": "this"}, "new")
    model.add_properties({"p": 1})
    with pytest.raises(errors.InvalidArgument, match="must stay what it is"):
        model.add_properties({"p": 2})
    model.add_dataset_references([("test", "more")])
    assert model.datasets == {"training": ["diabetes"], "test": ["more"]} and model.properties == {"p": "1"}
    assert json.loads(json.dumps(model.serialize()))["resource_configuration"] == {"cpu": 2, "memoryInGB": 1, "gpu": None}
    assert model.url.startswith("aml://") and "m:1" in repr(model) and model.run is None


def test_a_folder_is_kept_as_files(ws: Workspace, place: Path, db: psycopg.Connection[Any]) -> None:
    folder = place / "bundle"
    for name, content in (
        ("model.pkl", b"\x80\x04."),
        ("deep/er/ünï code.txt", b"x"),
        ("empty", b""),
        ("big", os.urandom(1 << 21)),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    model = Model.register(ws, folder, "bundle")
    part = Model.register(ws, folder, "bundle", child_paths=["deep", "empty"])
    down = model.download(place / "down")
    assert {path.relative_to(down).as_posix(): path.read_bytes() for path in Path(down).rglob("*") if path.is_file()} == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert [path.name for path in Path(part.download(place / "part")).iterdir()] != []
    assert sorted(part._paths()) == ["deep/er/ünï code.txt", "empty"]
    with pytest.raises(UserErrorException, match="exists"):
        model.download(place / "down")
    model.download(place / "down", exist_ok=True)
    rows = db.execute(
        "SELECT path, digest, size_bytes FROM dbml.model_files WHERE workspace = %s AND version = 1", (ws.name,)
    ).fetchall()
    assert ("big", hashlib.sha256((folder / "big").read_bytes()).hexdigest(), 1 << 21) in rows and len(rows) == 4
    with pytest.raises(errors.ModelLoadError, match="is a list of files"):
        _predict(db, ws, "bundle", ROW)
    for wrong in ("not-there", str(place / "nor-this")):
        with pytest.raises(ModelPathNotFoundException):
            Model.register(ws, wrong, "no")
    (place / "hollow").mkdir()
    with pytest.raises(errors.InvalidArgument, match="is empty"):
        Model.register(ws, "hollow", "no")
    with pytest.raises(errors.InvalidArgument, match="a model's name"):
        Model.register(ws, folder, "a/b")


def test_a_runs_files_become_a_model_without_a_copy(ws: Workspace, run: Run, pickled: Path, db: psycopg.Connection[Any]) -> None:
    run.upload_file("outputs/model.pkl", str(pickled))
    run.upload_folder("outputs/whole", pickled.parent)
    run.complete()
    model = run.register_model("trained", "outputs/model.pkl", tags={"a": "b"})
    assert (model.run_id, model.experiment_name) == (run.id, "trials") and Model(ws, run_id=run.id).id == "trained:1"
    assert round(_predict(db, ws, "trained", ROW), 6) == 24718.7122
    files = run.register_model("files", "outputs/whole")
    assert files._paths() == ["sklearn_regression_model.pkl"]
    with pytest.raises(ModelPathNotFoundException, match="must keep a file"):
        run.register_model("nope")


def test_the_path_of_a_model(ws: Workspace, pickled: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model.register(ws, pickled, "m")
    ws.write_config()
    path = Model.get_model_path("m")
    assert path == "azureml-models/m/1/sklearn_regression_model.pkl" and Path(path).read_bytes() == pickled.read_bytes()
    assert Model.get_model_path("m", _workspace=ws) == path
    service = place / "service"
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(service / "m" / "3"))
    (service / "m" / "3").mkdir(parents=True)
    (service / "m" / "3" / "a.pkl").write_text("")
    assert Model.get_model_path("m") == str(service / "m" / "3" / "a.pkl")
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(service))
    assert Model.get_model_path("m", version=3) == str(service / "m" / "3" / "a.pkl")
    with pytest.raises(ModelNotFoundException):
        Model.get_model_path("never")


def test_models_of_scripts_are_downloaded_too_and_deleted(ws: Workspace, place: Path, db: psycopg.Connection[Any]) -> None:
    content = pickle.dumps(LinearRegression().fit([[0.0]], [1.0]))
    db.execute("SELECT dbml.register_model('plain', %s, workspace => %s)", (content, ws.name))
    model = Model(ws, "plain")
    assert Path(model.download("x")).read_bytes() == content
    digest = hashlib.sha256(content).digest()
    model.delete()
    assert Model.list(ws) == [] and db.execute("SELECT count(*) FROM dbml._blobs WHERE digest = %s", (digest,)).fetchone() == (0,)
    with pytest.raises(errors.ModelNotFound):
        model.delete()


def test_bytes_of_a_folder_go_with_its_last_version(ws: Workspace, place: Path, db: psycopg.Connection[Any]) -> None:
    folder = place / "f"
    folder.mkdir()
    digests = []
    for name in ("a", "b"):
        (folder / name).write_bytes(os.urandom(100))
        digests.append(hashlib.sha256((folder / name).read_bytes()).digest())
    with warnings.catch_warnings():
        models = [Model.register(ws, folder, "f") for _ in range(2)]
    kept = "SELECT count(*) FROM dbml._chunks WHERE digest = any(%s)"
    models[0].delete()
    assert db.execute(kept, (digests,)).fetchone() == (2,)
    models[1].delete()
    assert db.execute(kept, (digests,)).fetchone() == (0,)
