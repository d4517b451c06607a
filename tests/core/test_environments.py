"""Environments and computes by the SDK: what a notebook says of packages and machines, and what is kept of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from dbml import errors
from dbml.core import ComputeTarget, Environment, RunConfiguration, ScriptRunConfig, Workspace
from dbml.core.compute import AksCompute, AmlCompute, ComputeInstance
from dbml.core.conda_dependencies import CondaDependencies
from dbml.exceptions import ComputeTargetException, RunConfigurationException, UserErrorException

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_conda_dependencies_are_text_and_back(place: Path) -> None:
    made = CondaDependencies.create(
        pip_packages=["azureml-defaults", "joblib"],
        conda_packages=["numpy=2.1", "scipy"],
        python_version="3.11",
        pin_sdk_version=False,
    )
    made.add_pip_package("joblib==1.5")
    made.add_conda_package("numpy=2.2")
    made.remove_conda_package("scipy")
    made.add_channel("mine")
    made.set_pip_option("--pre")
    text = made.serialize_to_string()
    assert yaml.safe_load(text) == {
        "channels": ["conda-forge", "mine"],
        "dependencies": ["python=3.11", "numpy=2.2", {"pip": ["azureml-defaults", "joblib==1.5", "--pre"]}],
    }
    made.save_to_file(place, "env.yml")
    again = CondaDependencies("env.yml")
    assert again == made and again.serialize_to_string() == text and again.get_python_version() == "3.11"
    assert list(again.pip_packages) == ["azureml-defaults", "joblib==1.5"] and list(again.conda_packages) == [
        "python=3.11",
        "numpy=2.2",
    ]
    assert "azureml" not in again._to_lock() and "--pre" not in again._to_lock() and "joblib==1.5" in again._to_lock()
    assert CondaDependencies().get_python_version() == HERE
    for content in ("- a\n- b", "dependencies: 1", ":\n:"):
        (place / "bad.yml").write_text(content)
        with pytest.raises(UserErrorException, match="a conda file must"):
            CondaDependencies("bad.yml")


def test_an_environment_is_locked_and_found_again(ws: Workspace, wheelhouse: Path, db: psycopg.Connection[Any]) -> None:
    environment = Environment("with-joblib")
    environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["azureml-defaults", "joblib"], python_version=HERE
    )
    environment.environment_variables["LEVEL"] = "3"
    environment.docker.base_image = "an/image"
    registered = environment.register(ws)
    assert (registered.version, environment.version) == ("1", "1") and "joblib==" in (registered.lock or "")
    assert environment.register(ws).version == "1"
    found = Environment.get(ws, "with-joblib", 1)
    assert found.environment_variables == {"LEVEL": "3"} and found.docker.base_image == "an/image"
    assert list(found.python.conda_dependencies.pip_packages) == ["azureml-defaults", "joblib"]
    assert list(Environment.list(ws)) == list(ws.environments) == ["with-joblib"]
    with pytest.raises(UserErrorException, match="'with-joblib:9' is not in"):
        Environment.get(ws, "with-joblib", version="9")
    environment.python.conda_dependencies.add_pip_package("no-such-package-anywhere")
    with pytest.raises(errors.EnvironmentUnresolvable):
        environment.register(ws)
    row = db.execute(
        "SELECT definition -> 'environmentVariables' FROM dbml.environments WHERE workspace = %s", (ws.name,)
    ).fetchone()
    assert row == ({"LEVEL": "3"},)


def test_environments_from_files(place: Path) -> None:
    (place / "r.txt").write_text("# a comment\njoblib==1.5  # pinned\n\n--index-url x\nnumpy\n")
    made = Environment.from_pip_requirements("r", "r.txt")
    assert list(made.python.conda_dependencies.pip_packages) == ["joblib==1.5", "numpy"]
    made.environment_variables["A"] = "b"
    made.save_to_directory("saved")
    assert Environment.load_from_directory("saved").environment_variables == {"A": "b"}
    with pytest.raises(UserErrorException, match="exists"):
        made.save_to_directory("saved")
    copied = made.clone("copy")
    copied.python.conda_dependencies.add_pip_package("scipy")
    assert copied.name == "copy" and len(list(made.python.conda_dependencies.pip_packages)) == 2
    (place / "c.yml").write_text("name: x\ndependencies:\n- python=3.11\n- pip:\n  - joblib\n")
    assert list(Environment.from_conda_specification("c", "c.yml").python.conda_dependencies.pip_packages) == ["joblib"]
    for refused in (lambda: Environment.from_existing_conda_environment("a", "b"), lambda: Environment.from_dockerfile("a", "b")):
        with pytest.raises(NotImplementedError, match="from_conda_specification"):
            refused()
    with pytest.raises(UserErrorException):
        Environment.from_pip_requirements("r", "not-there.txt")


def test_the_pattern_of_76_notebooks(ws: Workspace, db: psycopg.Connection[Any], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        target = ComputeTarget(workspace=ws, name="cpu-cluster")
    except ComputeTargetException:
        asked = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
        target = ComputeTarget.create(ws, "cpu-cluster", asked)
        target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert isinstance(target, AmlCompute) and target.get_status().serialize()["vmSize"] == "STANDARD_D2_V2"
    assert "Succeeded" in capsys.readouterr().out
    assert AmlCompute(ws, "cpu-cluster").vm_size == "STANDARD_D2_V2" and ws.get_default_compute_target() is not None
    assert {name: found.type for name, found in ws.compute_targets.items()} == {"cpu-cluster": "AmlCompute"}
    with pytest.raises(ComputeTargetException):
        ComputeInstance(ws, "cpu-cluster")
    with pytest.raises(ComputeTargetException, match="of type AmlCompute"):
        ComputeTarget.create(ws, "cpu-cluster", AksCompute.provisioning_configuration(agent_count=2))
    row = db.execute("SELECT kind, settings ->> 'max_nodes' FROM dbml.computes WHERE workspace = %s", (ws.name,)).fetchone()
    assert row == ("AmlCompute", "4")
    target.delete()
    with pytest.raises(ComputeTargetException, match="is not in workspace"):
        ComputeTarget(ws, "cpu-cluster")


def test_a_script_run_config_describes_a_script(place: Path) -> None:
    (place / "src").mkdir()
    (place / "src" / "train.py").write_text("print(1)")
    environment = Environment("e")
    config = ScriptRunConfig("src", script="train.py", arguments=["--alpha", 0.5], compute_target="cpu", environment=environment)
    assert (config.run_config.target, config.run_config.environment, config.run_config.arguments) == (
        "cpu",
        environment,
        ["--alpha", 0.5],
    )
    for bad, said in (({"script": "no.py"}, "must be a file"), ({"script": "train.py", "command": "x"}, "not both")):
        with pytest.raises(UserErrorException, match=said):
            ScriptRunConfig("src", **bad)  # type: ignore[arg-type]
    with pytest.raises(UserErrorException, match="must be a folder"):
        ScriptRunConfig("nowhere", script="train.py")
    saved = RunConfiguration("train.py", arguments=["a"])
    saved.target = "cpu"
    saved.environment_variables["A"] = "b"
    saved.save("src", "mine")
    loaded = RunConfiguration.load("src", "mine")
    assert (loaded.script, loaded.arguments, loaded.target, loaded.environment_variables) == (
        "train.py",
        ["a"],
        "cpu",
        {"A": "b"},
    )
    with pytest.raises(RunConfigurationException):
        RunConfiguration.load("src", "other")
    assert ScriptRunConfig("src", run_config=loaded).arguments == ["a"]
