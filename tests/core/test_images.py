"""Images by the SDK and by SQL: kept digest by digest, made again, packaged, exported, and refused where they break a rule."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import joblib
import psycopg
import pytest
import yaml
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

from dbml import errors
from dbml.core import Image, Model, Workspace
from dbml.core.image import ContainerImage
from dbml.core.model import InferenceConfig
from dbml.core.webservice import AksWebservice
from dbml.exceptions import UserErrorException, WebserviceException
from dbml.serving.export.folder import ContentWrong
from dbml.serving.plans import making, packages
from dbml.serving.plans.models import find, look, planned

from ..serving.services import start_ours, wait

pytestmark = pytest.mark.once

ROW = [1, 2, 3, 4, 5, 4, 3, 2, 9, 187]
SCORE = """
import json, os, pickle
from beside.word import WORD

def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "ridge.pkl"), "rb") as file:
        model = pickle.load(file)

def run(data):
    return [WORD, *model.predict(json.loads(data)["data"]).tolist()]
"""


@pytest.fixture
def ridge(ws: Workspace, place: Path) -> Model:
    data = load_diabetes()
    (place / "ridge.pkl").write_bytes(pickle.dumps(Ridge().fit(data.data, data.target)))
    with pytest.warns(UserWarning, match=r"0\.19\.1"):
        return Model.register(
            ws, "ridge.pkl", "ridge", model_framework=Model.Framework.SCIKITLEARN, model_framework_version="0.19.1"
        )


def _answer(folder: Path | str, *body: Any) -> Any:
    served = wait(start_ours(Path(folder)))
    try:
        return httpx.post(served.url + "/score", json={"data": [ROW]}).json()
    finally:
        assert served.stop() == 0


def test_a_package_of_a_framework_alone(ws: Workspace, ridge: Model, house: Path, place: Path) -> None:
    package = Model.package(ws, [ridge], generate_dockerfile=True)
    folder = Path(package.save("out"))
    assert _answer(folder) == pytest.approx([24718.712200131304])
    lock = (folder / "requirements.lock").read_text()
    import sklearn

    # The version that the pickle bears, not the one that was said; and no database's client.
    assert f"scikit-learn=={sklearn.__version__} " in lock and "uvicorn" in lock and "psycopg" not in lock
    (image,) = Image.list(ws)
    assert (image.id, image.creation_state, [model.id for model in image.models]) == ("ridge:1", "Succeeded", ["ridge:1"])
    assert package.location == image.image_location == "ridge:1"
    # The same again is the same version; what is kept gives the same folder.
    again = Model.package(ws, [ridge], generate_dockerfile=True)
    assert [one.version for one in Image.list(ws)] == [1]
    assert {p.name: p.read_bytes() for p in Path(again.save("again")).rglob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc" and p.name != "log"
    }
    with pytest.raises(UserErrorException, match="generate_dockerfile"):
        Model.package(ws, [ridge]).save("other")
    with pytest.raises(errors.InvalidArgument, match="must be in no image"):
        ridge.delete()
    image.delete()
    ridge.delete()


def test_an_image_of_a_script_its_folder_and_a_conda_file(ws: Workspace, ridge: Model, house: Path, place: Path) -> None:
    (place / "src" / "beside").mkdir(parents=True)
    (place / "src" / "score.py").write_text(SCORE)
    (place / "src" / "beside" / "word.py").write_text("WORD = 'grüße'\n")
    (place / "env.yml").write_text("dependencies: [{pip: [azureml-defaults, scikit-learn]}]\n")
    config = InferenceConfig("score.py", source_directory="src", conda_file=place / "env.yml")
    package = Model.package(ws, [ridge], config, generate_dockerfile=True, image_name="scored", image_label="new")
    assert package.location == "scored:new"
    assert _answer(package.save("out")) == ["grüße", pytest.approx(24718.712200131304)]
    config = ContainerImage.image_configuration(
        execution_script="src/score.py",
        runtime="python",
        conda_file="env.yml",
        dependencies=["src/beside"],
        tags={"a": 1},
        description="d",
    )
    image = Image.create(name="boxed", models=[ridge], image_config=config, workspace=ws)
    image.wait_for_creation(show_output=True)
    assert (image.tags, image.description, ws.images["boxed"].version) == ({"a": "1"}, "d", 1)
    assert [one.id for one in Image.list(ws, model_name="ridge")] == ["boxed:1", "scored:1"]
    assert Image.list(ws, tags={"a": 1})[0].id == Image(ws, id="boxed:1").id == "boxed:1"
    assert json.loads(json.dumps(image.serialize()))["models"] == ["ridge:1"]
    with pytest.raises(WebserviceException, match="no image"):
        Image(ws, "boxed", version=7)
    with pytest.raises(UserErrorException, match="must be a file"):
        InferenceConfig("nope.py")


def test_what_is_kept_must_be_what_was_made(ws: Workspace, ridge: Model, house: Path, db: psycopg.Connection[Any]) -> None:
    Model.package(ws, [ridge])
    db.execute("update dbml._images set lock = lock || '# more' where name = 'ridge' and workspace_id ="
               " (select workspace_id from dbml._workspaces where name = %s)", [ws.name])  # fmt: skip
    with pytest.raises(ContentWrong, match="must have the digest"):
        making.of_image(ws._connection.do_again, ws.name, "ridge")


def test_by_sql(ws: Workspace, ridge: Model, house: Path, db: psycopg.Connection[Any]) -> None:
    db.execute("select set_config('dbml.workspace', %s, false)", [ws.name])
    db.execute("select dbml.create_environment('e', 'joblib')")
    create = "select dbml.create_image(%s, %s, %s::jsonb, environment => %s, lock => %s, entry_script => %s)"
    good: list[Any] = ["i", ["ridge"], '[{"path": "score.py", "text": "x"}]', "e", None, "score.py"]
    assert db.execute(create, good).fetchone() == (1,) and db.execute(create, good).fetchone() == (2,)
    for position, wrong in (
        (0, None), (0, "a/b"), (1, None), (1, []), (1, ["ridge", "ridge:1"]), (2, None), (2, "[]"), (2, "{}"), (2, '[{"path": "../x", "text": ""}]'),
        (2, '[{"path": "score.py"}]'), (2, '[{"path": "a", "text": ""}, {"path": "a", "text": ""}]'), (3, None), (4, "left-pad==1.0"), (5, None), (5, "other.py"),
    ):  # fmt: skip
        with pytest.raises(errors.InvalidArgument):
            db.execute(create, [wrong if number == position else value for number, value in enumerate(good)])
    for position, wrong, error in ((1, ["nope"], errors.ModelNotFound), (1, [None], errors.ModelNotFound), (3, "nope", errors.EnvironmentNotFound),
                                   (2, json.dumps([{"path": "score.py", "digest": "0" * 64}]), errors.UploadNotFound)):  # fmt: skip
        with pytest.raises(error):
            db.execute(create, [wrong if number == position else value for number, value in enumerate(good)])
    with pytest.raises(errors.InvalidArgument, match="must have no images"):
        db.execute("select dbml.delete_environment('e')")
    rows = db.execute("select version, models, entry_script, environment from dbml.images order by version").fetchall()
    assert rows == [(1, ["ridge:1"], "score.py", "e:1"), (2, ["ridge:1"], "score.py", "e:1")]
    assert db.execute("select dbml.image_part('i:1', 'score.py', 0), dbml.image_part('i', 'score.py', 1)").fetchone() == (
        b"x",
        None,
    )
    assert db.execute("select dbml.delete_image('i'), dbml.delete_image('i:1')").fetchone() == (2, 1)
    for call in ("dbml.delete_image('i')", "dbml.delete_image(null)", "dbml.image_part('i:2', 'score.py', 0)"):
        with pytest.raises(errors.ImageNotFound):
            db.execute(f"select {call}")
    assert db.execute("select count(*) from dbml._image_files where digest = sha256('x')").fetchone() == (0,)


def test_formats(ws: Workspace, house: Path, place: Path, db: psycopg.Connection[Any]) -> None:
    data = load_diabetes()
    forest = RandomForestRegressor(3, random_state=0, max_depth=3).fit(data.data, data.target)
    expected = pytest.approx(forest.predict([ROW]))
    ask = ws._connection.do_again
    # joblib's own form; and a safe file, whose types alone are trusted.
    joblib.dump(forest, "forest.joblib", compress=3)
    Model.register(ws, "forest.joblib", "dumped")
    import skops.io

    db.execute("select dbml.register_model('safe', %s, workspace => %s)", [skops.io.dumps(forest), ws.name])
    for name in ("dumped", "safe"):
        plan = making.make(ask, ws.name, making.Wish([name]), locked=False).plan
        from dbml.serving.export import folder

        assert _answer(folder.write(plan, place / name)) == expected, name
    db.execute("select dbml.register_model('r', %s, workspace => %s)", [pickle.dumps(forest), ws.name])
    db.execute("update dbml._models set format = 'rds' where name = 'r'")  # as what a script of R registers
    (place / "two").mkdir()
    for file in ("a", "b"):
        (place / "two" / file).write_text(file)
    Model.register(ws, place / "two", "two")
    for names in (["r"], ["two"]):
        with pytest.raises(errors.InvalidArgument, match=r"needs? a score\.py"):
            making.make(ask, ws.name, making.Wish(names), locked=False)
    with pytest.raises(errors.ModelNotFound):
        making.make(ask, ws.name, making.Wish(["nope@best"]), locked=False)


def test_what_a_pickle_shows(ws: Workspace, ridge: Model) -> None:
    import sklearn

    ask = ws._connection.do_again
    model = planned(ask, ws.name, find(ask, ws.name, "ridge"))
    seen = look(model)
    assert seen.sklearn == sklearn.__version__ and "sklearn" in seen.packages and not seen.compressed
    assert packages.requirements(model, seen) == ([f"scikit-learn=={sklearn.__version__}"], None)
    assert packages.requirements(model, type(seen)()) == (["scikit-learn==0.19.1"], "scikit-learn")


def test_a_version_that_cannot_be_had(ws: Workspace, house: Path, place: Path) -> None:
    (place / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))  # bears no version of its own
    with pytest.warns(UserWarning, match=r"0\.19\.1"):
        Model.register(ws, "plain.pkl", "plain", model_framework="ScikitLearn", model_framework_version="0.19.1")
    told: list[str] = []
    made = making.make(ws._connection.do_again, ws.name, making.Wish(["plain"]), say=told.append)
    assert any(line.startswith("scikit-learn==0.19.1 cannot be had, scikit-learn==") for line in told), told
    assert f"scikit-learn=={version('scikit-learn')} " in made.plan.lock and made.environment == "image-plain:1"
    with pytest.raises(errors.EnvironmentNotFound):
        making.make(ws._connection.do_again, ws.name, making.Wish(["plain"], environment="nope"))


def test_a_lock_without_what_the_worker_adds() -> None:
    lock = """# Python 3.11
numpy==2.1 \\
    --hash=sha256:aa
    # via
    #   -r dbml
    #   pandas
pandas==3.0
    # via -r dbml
psycopg[binary]==3.2
    # via -r dbml
psycopg-binary==3.2
    # via psycopg
scikit-learn==1.7
    # via -r specification
scipy==1.15
    # via scikit-learn
"""
    assert [name for name, *_ in packages.locked_packages(packages.asked_for(lock))] == ["scikit-learn", "scipy"]
    kept = packages.asked_for(lock, ["pandas"])
    assert [name for name, *_ in packages.locked_packages(kept)] == ["numpy", "pandas", "scikit-learn", "scipy"]
    assert kept.startswith("# Python 3.11\nnumpy==2.1 \\\n    --hash=sha256:aa\n")
    assert packages.asked_for("joblib==1.5.2\n") == "joblib==1.5.2\n"


def test_the_command_exports_and_serves(ws: Workspace, ridge: Model, house: Path, place: Path, dsn: str) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dbml.cli", *words], cwd=place, capture_output=True, text=True, timeout=100,
            env={**os.environ, "DBML_DSN": dsn, "DBML_WORKSPACE": ws.name, "COLUMNS": "200"},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = run(
        "export", "ridge:1", "--to", "out", "--wheels", "--find-links", str(house), "--no-index", "--compose", "composed",
        "--kubernetes", "k", "--kserve", "k", "--iot-edge", "edge.json", "--name", "Ridge_Service",
    )  # fmt: skip
    assert "image Ridge_Service:1 is in dbml.images" in said and "out: docker build -t ridge-service:1 out" in said
    assert {path.name for path in (place / "k").iterdir()} == {"kubernetes.yaml", "kserve.yaml"}
    names = {path.name.partition("-")[0].lower() for path in (place / "out" / "wheels").iterdir()}
    locked = {name.replace("-", "_") for name, *_ in packages.locked_packages((place / "out" / "requirements.lock").read_text())}
    assert locked == names
    assert "--no-index" in (place / "out" / "Dockerfile").read_text()
    assert "Ridge_Service\t1\tridge:1\t" in run("image", "list", "-w", ws.name)
    shown = run("image", "show", "Ridge_Service:1", "-w", ws.name)
    assert "name\tRidge_Service\n" in shown and re.search(r"^digest\t[0-9a-f]{64}$", shown, re.MULTILINE)
    assert "no image 'Ridge_Service:2'" in run("image", "show", "Ridge_Service:2", "-w", ws.name, code=1)
    assert "a form must be chosen" in run("export", "ridge", code=1)
    assert "cannot be had" in run("export", "ridge", "--to", "empty", "--wheels", "--no-index", code=1)
    server = subprocess.Popen(
        [sys.executable, "-m", "dbml.cli", "serve", "ridge", "--port", "0"], cwd=place, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DBML_DSN": dsn, "DBML_WORKSPACE": ws.name},
    )  # fmt: skip
    assert server.stderr is not None
    try:
        url = next(line for line in server.stderr if "answers at" in line).split("answers at ")[1].split('"')[0]
        assert httpx.post(url + "/score", json={"data": [ROW]}).json() == pytest.approx([24718.712200131304])
    finally:
        server.terminate()
        assert server.wait(30) == 0
        server.stderr.close()
    assert not [path for path in Path("/tmp").glob("dbml-serve-*") if path.is_dir()]


def test_kubernetes_without_a_cluster_says_how_to_apply(
    ws: Workspace, ridge: Model, house: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no engine and no cluster anywhere near: an image is kept, its manifests are written, and the state says what to do."""
    for name, value in (("DOCKER_HOST", "tcp://127.0.0.1:1"), ("KUBECONFIG", "/nowhere")):
        monkeypatch.setenv(name, value)
    config = AksWebservice.deploy_configuration(cpu_cores=2, memory_gb=0.5, num_replicas=2)
    config.config |= {"folder": str(place / "manifests"), "namespace": "scoring"}
    service = Model.deploy(ws, "clustered", [ridge], deployment_config=config)
    try:
        assert type(service) is AksWebservice and service.target == "kubernetes"
        with pytest.raises(WebserviceException, match=r"kubectl apply --filename \S+/manifests/kubernetes\.yaml"):
            service.wait_for_deployment()
        assert service.state == "Unschedulable" and "docker build --tag" in (service.error or "")
        secret, deployment, *_ = yaml.safe_load_all((place / "manifests" / "kubernetes.yaml").read_text())
        assert secret["stringData"]["keys"].split() == list(service.get_keys()) and deployment["spec"]["replicas"] == 2
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
        assert container["env"] == [{"name": "DBML_KEYS", "value": "/run/dbml/keys"}]
        assert (place / "manifests" / "Dockerfile").is_file() and "clustered" in ws.images
    finally:
        service.delete()
