"""Profiles of models: each row of a dataset asked of the scoring app, and what that took, as a run that SQL shows."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sklearn.dummy import DummyRegressor

from dbml.core import Dataset, Model, Workspace
from dbml.core.model import InferenceConfig
from dbml.core.profile import LATENCY, ModelProfile
from dbml.core.resource_configuration import ResourceConfiguration
from dbml.data.dataset_type_definitions import PromoteHeadersBehavior
from dbml.data.tabular_dataset import TabularDataset
from dbml.errors import InvalidArgument
from dbml.exceptions import UserErrorException, WebserviceException

pytestmark = pytest.mark.once

SCORE = """
import json, pickle, os

def init():
    global model
    with open(Model(), "rb") as file:
        model = pickle.load(file)

def Model():
    return os.path.join(os.environ["AZUREML_MODEL_DIR"], "m.pkl")

def run(raw):
    rows = json.loads(raw)["data"]
    ballast = bytearray(96 << 20)  # written to, so that it is resident
    return model.predict(rows).tolist() if rows else 1 / 0
"""


@pytest.fixture
def model(ws: Workspace) -> Model:
    """A model that says one number."""
    Path("m.pkl").write_bytes(pickle.dumps(DummyRegressor(strategy="constant", constant=4.0).fit([[0.0]], [4.0])))
    return Model.register(ws, "m.pkl", "m")


def requests(ws: Workspace, *bodies: Any) -> TabularDataset:
    """Return a dataset of one column, as profiles want it: a line a request."""
    Path("requests.txt").write_text("\n".join(json.dumps(body) for body in bodies))
    store = ws.get_default_datastore()
    store.upload_files(["./requests.txt"], target_path="requests", overwrite=True, show_progress=False)
    made = Dataset.Tabular.from_delimited_files(
        (store, "requests/requests.txt"), separator="\n", infer_column_types=True, header=PromoteHeadersBehavior.NO_HEADERS
    )
    return made.register(ws, "requests", create_new_version=True)


def test_a_profile_measures_every_request(ws: Workspace, model: Model, db: psycopg.Connection[Any], capsys: Any) -> None:
    Path("score.py").write_text(SCORE)
    given = requests(ws, *({"data": [[float(number)]]} for number in range(20)))
    profile = Model.profile(ws, "first", [model], InferenceConfig("score.py"), given, cpu=1, memory_in_gb=2)
    profile.wait_for_completion(show_output=True)
    found = profile.get_details()
    assert found["name"] == "first" and found["state"] == "Succeeded" and "error" not in found
    assert found["totalQueries"] == found["successQueries"] == 20 and found["successRate"] == 100
    percentiles = [found[f"latencyPercentile{part}InMs"] for part in (50, 90, 95, 99, 999)]
    assert percentiles[0] > 0 and percentiles == sorted(percentiles)
    # The process holds its libraries and, in each request, 96 MiB of ballast.
    assert 96 / 1024 < found["maxUtilizedMemoryInGB"] < 2 and found["recommendedMemoryInGB"] > found["maxUtilizedMemoryInGB"]
    assert found["recommendedCpu"] > 0 and found["maxUtilizedCpu"] <= found["recommendedCpu"]
    assert (found["requestedCpu"], found["requestedMemoryInGB"]) == (1, 2)
    assert "recommendedCpu" in capsys.readouterr().out
    ResourceConfiguration(cpu=found["recommendedCpu"], memory_in_gb=found["recommendedMemoryInGB"])
    # The same in SQL: each request's milliseconds, the summary, and which data it was.
    run_id = profile.run.id
    logged = db.execute(
        "SELECT step, value FROM dbml.metrics WHERE run_id = %s AND name = %s ORDER BY step", (run_id, LATENCY)
    ).fetchall()
    assert [step for step, _ in logged] == list(range(20))
    assert sum(value for _, value in logged) / 20 == pytest.approx(found["averageLatencyInMs"])
    row = db.execute(
        "SELECT display_name, status, experiment, params ->> 'queries' FROM dbml.runs WHERE run_id = %s", (run_id,)
    ).fetchone()
    assert row == ("first", "completed", "model-profiles", "20")
    (used,) = db.execute("SELECT dataset FROM dbml.run_datasets WHERE run_id = %s", (run_id,)).fetchall()
    assert used == ("requests:1",)
    assert ModelProfile(ws, "first").get_details() == found and ModelProfile(ws, "first").serialize()["models"] == ["m:1"]


def test_what_fails_is_counted_and_told(ws: Workspace, model: Model) -> None:
    Path("score.py").write_text(SCORE)
    some = Model.profile(
        ws, "some", [model], InferenceConfig("score.py"), requests(ws, {"data": [[1.0]]}, {"data": []}, {"data": [[2.0]]})
    )
    some.wait_for_completion()
    found = some.get_details()
    assert (found["totalQueries"], found["successQueries"]) == (3, 2) and found["successRate"] == pytest.approx(200 / 3)
    assert found["error"].startswith("1 of 3 requests failed, the first, row 1, with 500")
    none = Model.profile(ws, "none", [model], InferenceConfig("score.py"), requests(ws, {"data": []}))
    with pytest.raises(WebserviceException, match="profile 'none' is Failed: 1 of 1 requests failed"):
        none.wait_for_completion()
    assert "ZeroDivisionError" in none.run.get_details_with_logs()["logFiles"]["logs/service.log"]


def test_a_score_py_that_does_not_start_is_told(ws: Workspace, model: Model) -> None:
    Path("score.py").write_text("def init():\n    raise RuntimeError('no such thing')\n\ndef run(raw):\n    return 1\n")
    profile = Model.profile(ws, "broken", [model], InferenceConfig("score.py"), requests(ws, {"data": [[1.0]]}))
    with pytest.raises(WebserviceException, match="does not come up"):
        profile.wait_for_completion()
    assert (
        profile.get_details()["state"] == "Failed"
        and "no such thing" in profile.run.get_details_with_logs()["logFiles"]["logs/service.log"]
    )


def test_without_an_inference_config_score_py_is_made(ws: Workspace, model: Model) -> None:
    profile = Model.profile(ws, "made", [model], None, requests(ws, {"data": [[1.0]], "method": "predict"}))
    profile.wait_for_completion()
    assert profile.get_details()["successRate"] == 100


def test_what_cannot_be_profiled_is_refused(ws: Workspace, model: Model) -> None:
    with pytest.raises(UserErrorException, match="input_dataset must be given"):
        Model.profile(ws, "p", [model], None)
    two = Dataset.Tabular.from_sql_query("select 1 as a, 2 as b", workspace=ws)
    with pytest.raises(UserErrorException, match="rows of one column, each the body of a request, got 1 rows of 2 columns"):
        Model.profile(ws, "p", [model], None, two)
    with pytest.raises(InvalidArgument, match="cpu must be above 0"):
        Model.profile(ws, "p", [model], None, requests(ws, {"data": [[1.0]]}), cpu=0)
    with pytest.raises(WebserviceException, match="no profile 'p' is in workspace"):
        ModelProfile(ws, "p")
