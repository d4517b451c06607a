"""The walk-through of azureml-core's documentation, with the import names changed and nothing else, to its prediction."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from dbml.core import Dataset, Experiment, Model, Webservice, Workspace
from dbml.core.resource_configuration import ResourceConfiguration

PAYLOAD = json.dumps({"data": [[1, 2, 3, 4, 5, 4, 3, 2, 9, 187]], "method": "predict"})
PREDICTION = "[24718.712200131304]\n"  # of scikit-learn 1.9.1


def walk(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[Workspace, Model, Webservice]:
    """Walk it in the current folder; returns what was made.  The service is called my-sklearn-service."""
    features, labels = load_diabetes(return_X_y=True)
    np.savetxt("features.csv", features, delimiter=",")
    np.savetxt("labels.csv", labels, delimiter=",")
    Path("sklearn_regression_model.pkl").write_bytes(pickle.dumps(Ridge().fit(features, labels)))

    ws = Workspace.create(
        name=name, subscription_id="<azure-subscription-id>", resource_group="myresourcegroup", create_resource_group=True,
        location="eastus2",
    )  # fmt: skip
    datastore: Any = ws.get_default_datastore()
    datastore.upload_files(files=["./features.csv", "./labels.csv"], target_path="sklearn_regression/", overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # bare numbers: the first line becomes the header
        input_dataset = Dataset.Tabular.from_delimited_files(path=[(datastore, "sklearn_regression/features.csv")])
        output_dataset = Dataset.Tabular.from_delimited_files(path=[(datastore, "sklearn_regression/labels.csv")])
    with pytest.warns(UserWarning, match=r"0\.19\.1"):
        model = Model.register(
            workspace=ws, model_name="my-sklearn-model", model_path="./sklearn_regression_model.pkl",
            model_framework=Model.Framework.SCIKITLEARN, model_framework_version="0.19.1",
            sample_input_dataset=input_dataset, sample_output_dataset=output_dataset,
            resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
            description="Ridge regression model to predict diabetes progression.",
            tags={"area": "diabetes", "type": "regression"},
        )  # fmt: skip
    service = Model.deploy(ws, "my-sklearn-service", [model])
    service.wait_for_deployment(show_output=True)
    capsys.readouterr()
    output = service.run(PAYLOAD)
    print(output)
    assert capsys.readouterr().out == PREDICTION
    experiment = Experiment(workspace=ws, name="diabetes-experiment")
    run = experiment.start_logging()
    run.log("trial", 1)
    run.complete()
    return ws, model, service
