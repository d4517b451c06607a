"""A program that uses every public class of the SDK, checked by mypy --strict and run by test_surface.py."""

from __future__ import annotations

import sys
from pathlib import Path

import dbml
from dbml.client import Catalog, Client
from dbml.core import (
    VERSION,
    ComputeTarget,
    Environment,
    Experiment,
    Model,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    Workspace,
)
from dbml.core.authentication import (
    AzureCliAuthentication,
    InteractiveLoginAuthentication,
    MsiAuthentication,
    ServicePrincipalAuthentication,
)
from dbml.core.comparison import Comparison
from dbml.core.compute import AksCompute, AmlCompute, ComputeInstance
from dbml.core.conda_dependencies import CondaDependencies
from dbml.core.offline_run import OfflineRun
from dbml.core.resource_configuration import ResourceConfiguration
from dbml.core.run_context import ScriptRun
from dbml.core.runconfig import DockerConfiguration, MpiConfiguration
from dbml.exceptions import ComputeTargetException, ModelNotFoundException, WorkspaceException
from dbml.widgets import RunDetails


def machine(workspace: Workspace) -> ComputeTarget:
    """Return the compute target that notebooks ask for."""
    try:
        return ComputeTarget(workspace, "cpu")
    except ComputeTargetException:
        return ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration(vm_size="any", max_nodes=2))


def track(workspace: Workspace) -> Run:
    """Record a run with all that it can hold."""
    experiment = Experiment(workspace, "sample")
    with experiment.start_logging(display_name="first", params={"alpha": 0.5}) as run:
        run.log("rmse", 0.5, step=1)
        run.log_list("folds", [1, 2.0])
        run.log_row("row", x=1)
        run.log_table("table", {"x": [1, 2]})
        run.tag("stage", "try")
        run.add_properties({"author": "sample"})
        Path("notes.txt").write_text("notes")
        run.upload_file("notes.txt", "notes.txt")
        with run.child_run() as child:
            child.log("part", 1)
    children: list[str] = [child.id for child in run.get_children()]
    metrics: dict[str, object] = run.get_metrics()
    print(len(children), sorted(metrics), run.get_status())
    return run


def main(name: str) -> None:
    """Do it all in a workspace."""
    for login in (
        InteractiveLoginAuthentication(), AzureCliAuthentication(), MsiAuthentication(),
        ServicePrincipalAuthentication("tenant", "id", "password"),
    ):  # fmt: skip
        workspace = Workspace.create(name, auth=login, exist_ok=True, show_output=False)
    try:
        Workspace.get("not there")
    except WorkspaceException as error:
        print(error.message.split()[0], dbml.__version__ == VERSION)
    target = machine(workspace)
    run = track(workspace)
    model: Model = run.register_model(
        "sample", "notes.txt", resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5)
    )  # fmt: skip
    try:
        Model(workspace, "not there")
    except ModelNotFoundException:
        print(model.id, Model.Framework.SCIKITLEARN)
    environment = Environment("sample")
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["joblib"])
    Path("train.py").write_text("print('hello')\n")
    configuration = RunConfiguration()
    configuration.docker = DockerConfiguration(use_docker=False)
    script = ScriptRunConfig(
        ".", script="train.py", arguments=["--alpha", 0.5], compute_target=target, environment=environment, run_config=configuration,
        distributed_job_config=MpiConfiguration(),
    )  # fmt: skip
    print(
        script.run_config.environment.name,
        isinstance(target, AmlCompute),
        issubclass(ComputeInstance, ComputeTarget),
        AksCompute.__name__,
    )
    comparison: Comparison = Experiment(workspace, "sample").compare()
    print(comparison.frame.shape[0], comparison.metrics)
    RunDetails(run).show()
    context: Run | OfflineRun | ScriptRun = Run.get_context()
    context.log("rmse", 0.25)
    with dbml.connect(workspace=name) as db:
        small(db)
    workspace.delete()


def small(db: Client) -> None:
    """Use the small client."""
    models: Catalog[Model] = db.models
    print(list(models), db.run_script("OutputDataSet = [1]").shape, db.metrics("sample").shape[0])


if __name__ == "__main__":
    main(sys.argv[1])
