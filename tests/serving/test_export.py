"""The folder of a service: whole, the same each time, serving as it is; its manifests fit their published schemas."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import jsonschema
import kubernetes_validate
import numpy as np
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from dbml.serving.export import folder, manifests, score
from dbml.serving.export.plan import File, Plan, PlannedModel, own_script, packages
from tests.serving import kserve
from tests.serving.services import start_ours, wait

LOCK = """numpy==2.4.6 \\
    --hash=sha256:{a}
scikit-learn==1.9.1 \\
    --hash=sha256:{b} \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


@pytest.fixture(scope="module")
def model() -> PlannedModel:
    data = load_diabetes(as_frame=True)
    content = pickle.dumps(Ridge().fit(data.data, data.target))
    signature = {
        "features": [{"name": name, "type": "double precision"} for name in data.data],
        "prediction": {"type": "double precision"},
    }
    return PlannedModel(
        "diabetes 'x'", 3, {"model.pkl": File.of(content)}, framework="scikit-learn", framework_version="1.9.1",
        digest=hashlib.sha256(content).hexdigest(), signature=signature, workspace="default", run_id="r1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan(model: PlannedModel) -> Plan:
    source = {"score.py": File.of(score.generate(model, "model.pkl").encode())}
    return Plan("Diabetes_Service", "1", (model,), source, "score.py", LOCK, "3.11", tags={"team": 'a "b"'})


def test_the_folder_serves_as_it_is(plan: Plan, tmp_path: Path) -> None:
    written = folder.write(plan, tmp_path / "out")
    assert {path.name for path in written.iterdir()} == {
        "Dockerfile", ".dockerignore", "app", "azureml-models", "requirements.lock", "sbom.cdx.json", "service.json", "source",
    }  # fmt: skip
    data = load_diabetes(as_frame=True)
    expected = Ridge().fit(data.data, data.target).predict(data.data.head(2))
    served = wait(start_ours(written))
    try:
        for rows in (data.data.head(2).to_numpy().tolist(), data.data.head(2).to_dict(orient="records")):
            assert httpx.post(served.url + "/score", json={"data": rows}).json() == pytest.approx(expected)
    finally:
        assert served.stop() == 0


def test_nothing_of_the_databases_code_is_inside(plan: Plan, tmp_path: Path) -> None:
    app = folder.write(plan, tmp_path / "out") / "app"
    text = "\n".join(path.read_text() for path in app.rglob("*.py"))
    assert "psycopg" not in text and "sqlalchemy" not in text
    assert {path.name for path in (app / "dbml").iterdir()} == {"__init__.py", "kernel", "serving"}


def test_the_same_plan_gives_the_same_bytes(plan: Plan, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        written = folder.write(plan, tmp_path / name)
        digests.append({str(p.relative_to(written)): p.read_bytes() for p in sorted(written.rglob("*")) if p.is_file()})
    assert digests[0] == digests[1]


def test_what_is_in_the_way_stays_and_a_former_export_is_replaced(plan: Plan, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds thesis\.txt"):
        folder.write(plan, mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    written = folder.write(plan, tmp_path / "out")
    (written / "source" / "left.txt").write_text("")
    folder.write(plan, tmp_path / "out")
    assert not (written / "source" / "left.txt").exists()


def test_bytes_that_changed_on_the_way_are_refused_and_nothing_is_left(model: PlannedModel, plan: Plan, tmp_path: Path) -> None:
    wrong = File("0" * 64, 3, lambda: (b"abc",))
    bad = Plan("s", "1", (model,), {"score.py": wrong}, "score.py", LOCK, "3.11")
    with pytest.raises(folder.ContentWrong, match="must have the digest 0000"):
        folder.write(bad, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_paths_stay_inside(model: PlannedModel, path: str) -> None:
    with pytest.raises(ValueError, match="must stay in the export's folder"):
        Plan("s", "1", (model,), {path: File.of(b"")}, path, LOCK, "3.11")


def test_the_bill_of_materials_is_cyclonedx_with_models_and_packages(plan: Plan, tmp_path: Path) -> None:
    text = (folder.write(plan, tmp_path / "out") / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {component["name"]: component for component in json.loads(text)["components"]}
    assert found["scikit-learn"]["purl"] == "pkg:pypi/scikit-learn@1.9.1"
    assert found["diabetes 'x'"]["type"] == "machine-learning-model"
    assert found["diabetes 'x'"]["hashes"][0]["content"] == plan.models[0].digest
    assert [name for name, _, _ in packages(LOCK)] == ["numpy", "scikit-learn"]


def test_the_dockerfile_is_of_two_stages_without_root(plan: Plan, tmp_path: Path) -> None:
    text = (folder.write(plan, tmp_path / "out") / "Dockerfile").read_text()
    assert text.count("\nFROM ") == 2 and "USER 10001:10001" in text and "HEALTHCHECK" in text
    for label in (
        "dbml.model=\"diabetes 'x'\"",
        'dbml.model.version="3"',
        'dbml.tag.team="a \\"b\\""',
        f'dbml.plan="{plan.digest}"',
    ):
        assert label in text
    assert "--no-index" not in text
    assert "--no-index --find-links" in (folder.write(plan, tmp_path / "w", wheels=True) / "Dockerfile").read_text()


def test_kubernetes_takes_the_manifests(plan: Plan) -> None:
    made = manifests.kubernetes(plan, "registry.local/diabetes:1", manifests.Resources(cpu=0.5, memory_mb=512, replicas=2))
    assert [document["kind"] for document in made] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    for document in made:
        kubernetes_validate.validate(yaml.safe_load(yaml.safe_dump(document)), "1.33", strict=True)
    container = made[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}
    assert container["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert made[1]["spec"]["selector"] == made[0]["spec"]["selector"]["matchLabels"]


def test_iot_edge_and_compose(plan: Plan) -> None:
    module = manifests.iot_edge(plan, "i:1")["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["diabetes-service"]
    assert json.loads(module["settings"]["createOptions"])["HostConfig"]["ReadonlyRootfs"] is True
    service = manifests.compose(plan, "i:1")["services"]["diabetes-service"]
    assert service["read_only"] and service["user"] == "10001:10001"


def test_a_score_script_of_a_model_without_names_and_of_one_with_text(tmp_path: Path) -> None:
    data = load_diabetes()
    content = pickle.dumps(Ridge().fit(data.data, data.target))
    model = PlannedModel("plain", 1, {"model.pkl": File.of(content)})
    namespace: dict[str, object] = {}
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
        exec(score.generate(model, "model.pkl"), namespace)
        namespace["init"]()  # type: ignore[operator]
        answer = namespace["run"](json.dumps({"data": data.data[:2].tolist()}))  # type: ignore[operator]
    assert answer == pytest.approx(np.asarray(Ridge().fit(data.data, data.target).predict(data.data[:2])))


@pytest.fixture(scope="session")
def kserve_models(tmp_path_factory: pytest.TempPathFactory) -> kserve.Models:
    """What KServe publishes of its resources: from DBML_TEST_WHEELS, else by pip."""
    name = f"kserve-{kserve.VERSION}-py3-none-any.whl"
    given = Path(os.environ.get("DBML_TEST_WHEELS") or ".") / name
    if given.is_file():
        return kserve.Models(given)
    folder = tmp_path_factory.mktemp("kserve")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--ignore-requires-python", "-d", str(folder)]
    fetched = subprocess.run([*command, f"kserve=={kserve.VERSION}"], capture_output=True, text=True, timeout=100)
    if fetched.returncode != 0:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {name}, in DBML_TEST_WHEELS or by pip download")
    return kserve.Models(folder / name)


@pytest.mark.parametrize("namespace", [None, "models"])
def test_kserve_takes_the_manifest(plan: Plan, kserve_models: kserve.Models, namespace: str | None) -> None:
    """As its own types have it; what they leave to Kubernetes, a predictor being a pod's spec and more, by the schema of a pod."""
    made = manifests.kserve(plan, "registry.example/d:1", manifests.Resources(cpu=0.5, replicas=2), namespace=namespace)
    told = yaml.safe_load(yaml.safe_dump(made))
    assert (told["apiVersion"], told["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    schema = kserve_models.schema("V1beta1InferenceService")
    jsonschema.validate(told, schema)
    of_pod = {name: value for name, value in told["spec"]["predictor"].items() if name not in ("minReplicas", "maxReplicas")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": told["metadata"], "spec": of_pod}
    kubernetes_validate.validate(pod, "1.33", strict=True)
    (container,) = of_pod["containers"]
    assert container["name"] == "kserve-container"  # which KServe looks for
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready" and container["securityContext"]["runAsNonRoot"]
    # What KServe's types do not know, or know otherwise, is seen.
    for path, value in ((("predictor", "minReplicas"), "2"), (("predictor", "maxReplica"), 3), (("predictors",), {})):
        wrong = json.loads(json.dumps(told))
        place = wrong["spec"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    with pytest.raises(jsonschema.ValidationError, match="'predictor' is a required property"):
        jsonschema.validate({**told, "spec": {}}, schema)


def test_several_models_of_a_service_answer_by_name(model: PlannedModel, tmp_path: Path) -> None:
    """Each has its own score.py, signature and name; the first one is the service's."""
    dummy = pickle.dumps(Ridge().fit([[0.0], [1.0]], [7.0, 7.0]))
    signature = {"features": [{"name": "x", "type": "double precision"}]}
    other = PlannedModel("other", 1, {"model.pkl": File.of(dummy)}, framework="scikit-learn", signature=signature)
    source = {own_script(one): File.of(score.generate(one, "model.pkl").encode()) for one in (other, model)}
    both = Plan("both", "1", (other, model), source, own_script(other), LOCK, "3.11")
    served = wait(start_ours(folder.write(both, tmp_path / "out")))
    try:
        name = quote(model.name)
        row = load_diabetes().data[0].tolist()
        assert httpx.post(served.url + "/score", json={"data": [[1]]}).json() == pytest.approx([7.0])
        assert httpx.post(f"{served.url}/models/other/invocations", json={"instances": [[1]]}).json()["predictions"] == [7.0]
        assert len(httpx.post(f"{served.url}/models/{name}/score", json={"data": [row]}).json()) == 1
        assert httpx.post(f"{served.url}/models/{name}/versions/9/score", json={"data": [row]}).status_code == 404
        wrong = httpx.post(f"{served.url}/models/{name}/score", json={"data": [[1]]})
        assert wrong.status_code == 400 and "takes 10 features" in wrong.json()["message"]
        tensor = {"inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP64", "data": row}]}
        assert httpx.post(f"{served.url}/v2/models/{name}/infer", json=tensor).json()["model_version"] == "3"
        assert httpx.get(f"{served.url}/v2/models/other").json()["inputs"][0]["shape"] == [-1, 1]
    finally:
        assert served.stop() == 0
