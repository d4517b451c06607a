"""A program that uses every public class of the SDK, checked by mypy --strict and run by test_surface.py."""

from __future__ import annotations

import sys
from pathlib import Path

import dbml
from dbml.client import Catalog, Client
from dbml.core import (
    VERSION,
    ComputeTarget,
    Dataset,
    Datastore,
    Environment,
    Experiment,
    Image,
    Model,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    Webservice,
    Workspace,
)
from dbml.core.authentication import (
    AbstractAuthentication,
    ArmTokenAuthentication,
    AzureCliAuthentication,
    InteractiveLoginAuthentication,
    MsiAuthentication,
    ServicePrincipalAuthentication,
    TokenAuthentication,
)
from dbml.core.comparison import Comparison
from dbml.core.compute import AksCompute, AmlCompute, ComputeInstance, RemoteCompute
from dbml.core.compute_target import ComputeStatus, ComputeTargetProvisioningConfiguration
from dbml.core.conda_dependencies import CondaDependencies
from dbml.core.environment import DockerSection, PythonSection
from dbml.core.image import ContainerImage, ContainerImageConfig
from dbml.core.inference_config import InferenceConfig
from dbml.core.lineage import Lineage, Step
from dbml.core.model_package import ModelPackage
from dbml.core.offline_run import OfflineRun
from dbml.core.profile import ModelProfile
from dbml.core.replay import Difference, Replay
from dbml.core.resource_configuration import ResourceConfiguration
from dbml.core.run_context import RegisteredModel, ScriptExperiment, ScriptFiles, ScriptInput, ScriptRun, ScriptWorkspace
from dbml.core.runconfig import DockerConfiguration, HistoryConfiguration, MpiConfiguration
from dbml.core.script_child import ScriptChild
from dbml.core.script_submission import SubmittedChild
from dbml.core.webservice import AciWebservice, AksWebservice, IotWebservice, LocalWebservice
from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.data.abstract_dataset import AbstractDataset
from dbml.data.abstract_datastore import AbstractDatastore
from dbml.data.azure_storage_datastore import AzureBlobDatastore
from dbml.data.data_reference import DataReference
from dbml.data.data_type import DataType
from dbml.data.database_datastore import DatabaseDatastore
from dbml.data.datapath import DataPath, DataPathComputeBinding
from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
from dbml.data.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from dbml.data.dataset_type_definitions import FileEncoding, PromoteHeadersBehavior
from dbml.data.expressions import Column, Condition
from dbml.data.file_dataset import FileDataset, MountContext
from dbml.data.file_system_datastore import FileSystemDatastore
from dbml.data.output_dataset_config import OutputDatasetConfig, OutputFileDatasetConfig, OutputTabularDatasetConfig
from dbml.data.tabular_dataset import TabularDataset
from dbml.exceptions import (
    ActivityFailedException,
    AuthenticationException,
    AzureMLException,
    ComputeTargetException,
    DatasetTimestampMissingError,
    DatastoreNotFoundException,
    ExperimentExecutionException,
    HyperDriveConfigException,
    ModelNotFoundException,
    ModelPathNotFoundException,
    ProjectSystemException,
    RunConfigurationException,
    RunEnvironmentException,
    ServiceException,
    SnapshotException,
    TrainingException,
    UserErrorException,
    WebserviceException,
    WorkspaceException,
)
from dbml.train.hyperdrive import (
    BanditPolicy,
    GridParameterSampling,
    HyperDriveConfig,
    HyperDriveRun,
    HyperParameterSampling,
    MedianStoppingPolicy,
    NoTerminationPolicy,
    Parameter,
    PrimaryMetricGoal,
    RandomParameterSampling,
    choice,
    uniform,
)
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


def keep(workspace: Workspace) -> TabularDataset:
    """Keep a file, and read what is in it."""
    store: AbstractDatastore = Datastore.get_default(workspace)
    Path("rows.csv").write_text("x,y\n1,a\n2,b\n")
    place: DataReference = store.upload_files(["rows.csv"], target_path="data", show_progress=False)
    rows: TabularDataset = Dataset.Tabular.from_delimited_files(
        DataPath(store, "data/rows.csv"), header=PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS,
        encoding=FileEncoding.UTF8, set_column_types={"x": DataType.to_long()},
    )  # fmt: skip
    column: Column = rows["x"]
    condition: Condition = column > 1
    files: FileDataset = Dataset.File.from_files((store, "data"))
    mounted: MountContext = files.mount()
    with mounted:
        there = sorted(path.name for path in Path(mounted.mount_point).iterdir())
    given: DatasetConsumptionConfig = files.as_named_input("files").as_mount()
    kept: AbstractDataset = rows.register(workspace, "rows")
    print(len(rows.filter(condition).to_pandas_dataframe()), there, given.mode, kept.version, place.path_on_datastore)
    return rows


# What functions return that this program does not call, and what it may catch.
Logins = type[AbstractAuthentication | ArmTokenAuthentication | TokenAuthentication]
Stores = DatabaseDatastore | FileSystemDatastore | AzureBlobDatastore
InScripts = RegisteredModel | ScriptExperiment | ScriptFiles | ScriptInput | ScriptWorkspace
FAILURES: tuple[type[Exception], ...] = (
    ActivityFailedException, AuthenticationException, AzureMLException, DatasetTimestampMissingError,
    DatastoreNotFoundException, ExperimentExecutionException,
    ModelPathNotFoundException, ProjectSystemException, RunConfigurationException, RunEnvironmentException, ServiceException,
    SnapshotException, TrainingException, UserErrorException, WebserviceException,
)  # fmt: skip


def further(workspace: Workspace, run: Run, model: Model, environment: Environment) -> None:
    """Say what else there is, for the types alone."""
    steps: list[Step] = model.lineage().steps
    lineage: Lineage = run.lineage()
    replay: Replay = run.replay()
    differences: list[Difference] = replay.differences
    config = InferenceConfig("score.py", environment=environment)
    package: ModelPackage = Model.package(workspace, [model], config, generate_dockerfile=True)
    asked: ContainerImageConfig = ContainerImage.image_configuration("score.py", "python")
    image: Image = Image.create(workspace, "image", [model], asked)
    configurations: list[WebserviceDeploymentConfiguration] = [
        AciWebservice.deploy_configuration(), AksWebservice.deploy_configuration(), LocalWebservice.deploy_configuration(),
        IotWebservice.deploy_configuration(device_id="press-4"),
    ]  # fmt: skip
    profile: ModelProfile = Model.profile(workspace, "p", [model], config, Dataset.get_by_name(workspace, "requests"))
    service: Webservice = Model.deploy(workspace, "service", [model], config, configurations[0])
    status: ComputeStatus = machine(workspace).get_status()
    wanted: ComputeTargetProvisioningConfiguration = AmlCompute.provisioning_configuration()
    python: PythonSection = environment.python
    docker: DockerSection = environment.docker
    factories = (
        TabularDatasetFactory,
        FileDatasetFactory,
        DataPathComputeBinding("mount"),
        HistoryConfiguration(),
        RemoteCompute,
    )
    print(steps, lineage, differences, package, image, profile, service, status, wanted, python, docker, factories)


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
    keep(workspace)
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
    if isinstance(context, ScriptRun):
        part: ScriptChild = context.child_run("part")
        part.complete()
        submitted: SubmittedChild = context.submit_child(script)
        submitted.wait_for_completion()
    search(workspace, script)
    with dbml.connect(workspace=name) as db:
        small(db)
    workspace.delete()


def search(workspace: Workspace, script: ScriptRunConfig) -> None:
    """Configure a search of parameters, and what a script writes."""
    alpha: Parameter = uniform(0, 1)
    policies: list[NoTerminationPolicy] = [BanditPolicy(slack_factor=0.1), MedianStoppingPolicy()]
    samplings: list[HyperParameterSampling] = [
        RandomParameterSampling({"--alpha": alpha}), GridParameterSampling({"--alpha": choice(0.1, 1)}),
    ]  # fmt: skip
    try:
        HyperDriveConfig(script, samplings[0], "", PrimaryMetricGoal.MAXIMIZE, policy=policies[0])
    except HyperDriveConfigException as error:
        print(error.message.split()[0], HyperDriveRun.__name__)
    output = OutputFileDatasetConfig("rows", (workspace.get_default_datastore(), "rows"))
    rows: OutputTabularDatasetConfig = output.as_upload().read_delimited_files()
    listed: list[OutputDatasetConfig] = [output, rows.register_on_complete("rows")]
    print(len(listed))


def small(db: Client) -> None:
    """Use the small client."""
    models: Catalog[Model] = db.models
    print(list(models), db.run_script("OutputDataSet = [1]").shape, db.metrics("sample").shape[0])


if __name__ == "__main__":
    main(sys.argv[1])
