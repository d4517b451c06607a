"""Searches: what is tried, how many at a time, what stops early, and which is best."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from dbml.core import Experiment, Run, ScriptRunConfig, Workspace
from dbml.exceptions import ActivityFailedException, HyperDriveConfigException
from dbml.train import hyperdrive
from dbml.train.hyperdrive import (
    BanditPolicy,
    GridParameterSampling,
    HyperDriveConfig,
    HyperDriveRun,
    MedianStoppingPolicy,
    PrimaryMetricGoal,
    RandomParameterSampling,
    choice,
    loguniform,
    quniform,
    randint,
    uniform,
)

from .test_submission import project, ws

__all__ = ["ws"]

pytestmark = pytest.mark.once

TRY = """
import argparse
from dbml.core import Run
parser = argparse.ArgumentParser()
parser.add_argument("--fixed")
parser.add_argument("--x", type=float)
parser.add_argument("--fails", type=int)
args = parser.parse_args()
assert args.fixed == "yes"
if args.fails:
    raise ValueError("as told")
run = Run.get_context()
run.log("loss", (args.x - 2) ** 2)
with open("outputs/x.txt", "w") as out:
    out.write(str(args.x))
"""


def config(**changes: Any) -> HyperDriveConfig:
    script = ScriptRunConfig(project({"try.py": TRY}), "try.py", arguments=["--fixed", "yes"])
    given: dict[str, Any] = {
        "run_config": script, "hyperparameter_sampling": GridParameterSampling({"--x": choice(1, 2.5, 4), "fails": choice(0, 1)}),
        "primary_metric_name": "loss", "primary_metric_goal": PrimaryMetricGoal.MINIMIZE, "max_total_runs": 10,
        "max_concurrent_runs": 3,
    }  # fmt: skip
    return HyperDriveConfig(**given | changes)


def test_a_grid_is_tried_and_the_best_is_known(ws: Workspace) -> None:
    experiment = Experiment(ws, "search")
    run = experiment.submit(config(), tags={"a": "b"})
    assert isinstance(run, HyperDriveRun)
    assert run.wait_for_completion()["status"] == "Completed" and run.get_tags()["a"] == "b"
    ranked = run.get_children_sorted_by_primary_metric()
    assert [one["best_primary_metric"] for one in ranked] == [0.25, 1, 4, None, None, None]
    assert json.loads(ranked[0]["hyperparameters"]) == {"--x": 2.5, "fails": 0}
    assert {one["status"] for one in ranked[3:]} == {"Failed"}
    assert len(run.get_children_sorted_by_primary_metric(top=2, reverse=True, discard_no_metric=True)) == 2
    best = run.get_best_run_by_primary_metric()
    assert best is not None and best.id == ranked[0]["run_id"] and run.get_metrics()[best.id] == {"loss": 0.25}
    assert best.get_details()["runDefinition"]["arguments"] == ["--fixed", "yes", "--x", 2.5, "--fails", 0]
    model = best.register_model("best", "outputs/x.txt")
    assert model.run_id == best.id and set(run.get_hyperparameters()) == {one["run_id"] for one in ranked}
    again = HyperDriveRun(experiment, run.id)
    found = again.get_best_run_by_primary_metric(include_failed=False)
    assert found is not None and found.id == best.id


def test_no_more_than_asked_for_run_at_a_time(ws: Workspace) -> None:
    run = Experiment(ws, "search").submit(
        config(
            hyperparameter_sampling=RandomParameterSampling({"x": uniform(0, 4)}, seed=1), max_total_runs=3, max_concurrent_runs=1
        )
    )
    run.wait_for_completion()
    times = sorted((row["started_at"], row["finished_at"]) for row in (child._row for child in run.get_children()))
    assert len(times) == 3 and all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_a_search_is_cancelled_with_what_goes_on(ws: Workspace) -> None:
    folder = project({"wait.py": "import time\ntime.sleep(100)"})
    script = ScriptRunConfig(folder, "wait.py")
    space = RandomParameterSampling({"x": randint(5)})
    run = Experiment(ws, "search").submit(config(run_config=script, hyperparameter_sampling=space, max_concurrent_runs=2))
    while not list(run.get_children()):
        run._driver.join(0.1)  # type: ignore[union-attr]
    run.cancel()
    assert run.get_status() == "Canceled"
    for child in run.get_children():
        child.wait_for_completion(raise_on_error=False)
        assert child.get_status() == "Canceled"
    with pytest.raises(ActivityFailedException):
        run.wait_for_completion()


def test_a_search_that_cannot_submit_fails_and_says_why(ws: Workspace) -> None:
    given = config()
    given.run_config.source_directory = str(Path("gone"))
    run = Experiment(ws, "search").submit(given)
    with pytest.raises(ActivityFailedException, match="gone"):
        run.wait_for_completion()


def test_what_is_drawn() -> None:
    space = {"a": loguniform(-3, 0), "b": quniform(0, 10, 2.5), "c": choice(range(3)), "d": randint(2)}
    drawn = list(itertools.islice(RandomParameterSampling(space, seed=5).tries(), 200))
    assert drawn == list(itertools.islice(RandomParameterSampling(space, seed=5).tries(), 200))
    assert all(0.049 < one["a"] <= 1 and one["b"] % 2.5 == 0 for one in drawn)
    assert {one["c"] for one in drawn} == {0, 1, 2} and {one["d"] for one in drawn} == {0, 1}


@pytest.mark.parametrize(
    ("policy", "own", "others", "maximize", "stops"),
    [
        (BanditPolicy(slack_factor=0.2), [0.8], [[1.0], [0.5]], True, True),
        (BanditPolicy(slack_factor=0.2), [0.84], [[1.0], [0.5]], True, False),
        (BanditPolicy(slack_factor=0.2), [1.3], [[1.0]], False, True),
        (BanditPolicy(slack_factor=0.2), [1.1], [[1.0]], False, False),
        (BanditPolicy(slack_amount=0.1), [0.5, 0.89], [[0.2, 1.0]], True, True),
        (BanditPolicy(slack_amount=0.1), [0.5, 0.89], [[0.2, 0.9, 5.0]], True, False),  # the others at the same time
        (BanditPolicy(slack_amount=0.1, delay_evaluation=2), [0.0, 0.0], [[1.0, 1.0]], True, False),
        (BanditPolicy(evaluation_interval=2, slack_amount=0.1), [0.0, 0.0, 0.0], [[1.0, 1.0, 1.0]], True, False),
        (BanditPolicy(slack_amount=0.1), [0.0], [], True, False),
        (MedianStoppingPolicy(), [0.3, 0.4], [[0.5, 0.5], [0.6, 0.4], [0.0, 0.0]], True, True),
        (MedianStoppingPolicy(), [0.3, 0.6], [[0.5, 0.5], [0.6, 0.4], [0.0, 0.0]], True, False),
    ],
)
def test_what_stops_early(
    policy: hyperdrive.NoTerminationPolicy, own: list[float], others: list[list[float]], maximize: bool, stops: bool
) -> None:
    assert policy.stops(own, others, maximize=maximize) is stops


def test_a_search_that_cannot_be(ws: Workspace) -> None:
    for changes, message in (
        ({"run_config": None}, "must be a ScriptRunConfig"), ({"hyperparameter_sampling": None}, "RandomParameterSampling or"),
        ({"primary_metric_name": ""}, "must name the metric"), ({"max_total_runs": 0}, "1 to 1000"),
        ({"max_concurrent_runs": 0}, "1 or more"),
    ):  # fmt: skip
        with pytest.raises(HyperDriveConfigException, match=message):
            config(**changes)
    with pytest.raises(HyperDriveConfigException, match="must be choices"):
        GridParameterSampling({"x": uniform(0, 1)})
    with pytest.raises(HyperDriveConfigException, match="one of slack_factor"):
        BanditPolicy()
    with pytest.raises(NotImplementedError, match="BayesianParameterSampling is not there; what is: RandomParameterSampling"):
        hyperdrive.BayesianParameterSampling({})  # type: ignore[attr-defined]
    with Experiment(ws, "search").start_logging() as plain, pytest.raises(Exception, match="is no search of HyperDrive"):
        HyperDriveRun(plain.experiment, plain.id)


def test_names_that_are_not_there_say_what_is() -> None:
    from importlib import import_module

    for module, name, instead in (
        ("dbml.train.automl", "AutoMLConfig", "child runs"), ("dbml.pipeline.core", "Pipeline", "Experiment.submit"),
        ("dbml.pipeline.steps", "PythonScriptStep", "ScriptRunConfig"), ("dbml.train.estimator", "Estimator", "ScriptRunConfig"),
        ("dbml.train.dnn", "PyTorch", "ScriptRunConfig"), ("dbml.train.sklearn", "SKLearn", "ScriptRunConfig"),
    ):  # fmt: skip
        cls = getattr(import_module(module), name)
        assert not isinstance(Run, cls)
        for use in (lambda cls=cls: cls(1, a=2), lambda cls=cls: cls.load("x")):  # type: ignore[misc]
            with pytest.raises(NotImplementedError, match=f"{name}.* is not there; what is: .*{instead}"):
                use()
