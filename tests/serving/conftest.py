"""Fixtures: services that run for the whole session, one of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.serving.services import GENERATED, Served, make_service, start_ours, wait


@pytest.fixture(scope="session")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Ridge on load_diabetes, ten numbers by name."""
    data = load_diabetes(as_frame=True)
    signature = {
        "features": [{"name": name, "type": "double precision"} for name in data.data.columns], "n_features": 10,
        "prediction": {"type": "double precision"},
    }  # fmt: skip
    model = Ridge().fit(data.data.to_numpy(), data.target)
    folder = make_service(tmp_path_factory.mktemp("ridge") / "s", GENERATED.replace("(rows)", "(np.asarray(rows))"),
                          name="diabetes", version=3, model=model, signature=signature)  # fmt: skip
    served = wait(start_ours(folder))
    yield served
    assert served.stop() == 0


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A classifier of text labels, with a number and a text among its features."""
    iris = load_iris(as_frame=True)
    frame = pd.DataFrame(
        {"length": iris.data["petal length (cm)"], "size": np.where(iris.data["petal width (cm)"] > 1, "big", "small")}
    )
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["size"]), remainder="passthrough"), LogisticRegression()
    ).fit(frame, iris.target_names[iris.target])
    signature = {"features": [{"name": "length", "type": "double precision"}, {"name": "size", "type": "text"}],
                 "prediction": {"type": "text"}}  # fmt: skip
    folder = make_service(tmp_path_factory.mktemp("mixed") / "s", GENERATED, name="iris", model=model, signature=signature)
    served = wait(start_ours(folder))
    yield served
    assert served.stop() == 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve a score.py of the test's own."""
    running: list[Served] = []

    def begin(score: str, *options: str, **about: object) -> Served:
        folder = make_service(tmp_path / f"s{len(running)}", score, **about)  # type: ignore[arg-type]
        running.append(start_ours(folder, *options))
        return wait(running[-1])

    yield begin
    for served in running:
        served.stop()
