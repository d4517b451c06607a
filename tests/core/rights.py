"""Every function of the SDK that speaks with the database, how it is called for what is in a workspace, and the right it needs.

The workspace is that of tests/security/cast.py, with one of everything in it, named by its mark.
"""

from __future__ import annotations

import io
import tempfile
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LinearRegression

from dbml.client import Client
from dbml.core import (
    ComputeTarget,
    Dataset,
    Datastore,
    Environment,
    Experiment,
    Image,
    Model,
    Run,
    ScriptRunConfig,
    Webservice,
    Workspace,
)
from dbml.core.comparison import Comparison
from dbml.core.compute import AmlCompute
from dbml.core.dataset import FileDatasetFactory, TabularDatasetFactory
from dbml.core.profile import ModelProfile
from dbml.data.database_datastore import DatabaseDatastore
from dbml.data.file_dataset import FileDataset
from dbml.data.tabular_dataset import TabularDataset

from ..security.cast import MODEL, Cast

ANY, READ, WRITE, OWN = "stranger", "reader", "contributor", "owner"  # who is the least to be let in
CLASSES: tuple[type, ...] = (
    Workspace, Experiment, Run, Comparison, Model, Dataset, TabularDatasetFactory, FileDatasetFactory, TabularDataset, FileDataset,
    Datastore, DatabaseDatastore, Environment, Image, ComputeTarget, Webservice, Client, ModelProfile,
)  # fmt: skip


class Called:
    """What an operation is given: the workspace as a role opens it, the cast, a folder, and the role's DSN."""

    def __init__(self, ws: Workspace, cast: Cast, dsn: str) -> None:
        self.ws, self.cast, self.dsn, self.mark = ws, cast, dsn, cast.mark
        self.folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        (self.folder / "code").mkdir()
        (self.folder / "code/a.py").write_text("print(1)")
        self.file = self.folder / "m.pkl"
        self.file.write_bytes(MODEL)

    run = property(lambda self: Run.get(self.ws, self.cast.run_id))
    client_run = property(lambda self: Run.get(self.ws, self.cast.client))
    model = property(lambda self: Model(self.ws, self.mark))
    rows = property(lambda self: Dataset.get_by_name(self.ws, self.mark))
    files = property(lambda self: Dataset.get_by_name(self.ws, f"files-{self.mark}"))
    store = property(lambda self: Datastore.get(self.ws, "workspaceblobstore"))
    other_store = property(lambda self: Datastore.get(self.ws, self.mark))
    experiment = property(lambda self: Experiment.list(self.ws, self.mark)[0])
    target = property(lambda self: ComputeTarget(self.ws, self.mark))
    service = property(lambda self: Webservice(self.ws, self.mark))
    image = property(lambda self: Image(self.ws, self.mark))
    client = property(lambda self: self.opened_client())

    def opened_client(self) -> Client:
        """Return a client on the same session, so that what it does is rolled back with the rest."""
        client = Client.__new__(Client)
        client._connection, client._workspace = self.ws._connection, self.ws
        return client

    def new(self) -> str:
        """Return a name that nothing has."""
        return "n" + uuid.uuid4().hex[:8]


def _empty_experiment(c: Called) -> str:
    return Experiment(c.ws, "gone").id


OPERATIONS: dict[str, tuple[Callable[[Called], Any], str]] = {
    "Workspace.create": (lambda c: _dropped(Workspace.create(c.new(), show_output=False, dsn=c.dsn)), ANY),
    "Workspace.get": (lambda c: Workspace.get(c.mark, dsn=c.dsn), READ),
    "Workspace.list": (lambda c: c.mark in Workspace.list(dsn=c.dsn), READ),
    "Workspace.update": (lambda c: c.ws.update(tags={"a": "b"}), OWN),
    "Workspace.delete": (lambda c: (c.client_run.cancel(), _keep_no_more(c), c.ws.delete()), OWN),
    "Workspace.get_run": (lambda c: c.ws.get_run(c.cast.run_id), READ),
    "Workspace.get_default_datastore": (lambda c: c.ws.get_default_datastore(), READ),
    "Workspace.set_default_datastore": (lambda c: c.ws.set_default_datastore(c.mark), OWN),
    "Workspace.get_default_compute_target": (lambda c: c.ws.get_default_compute_target() is not None, READ),
    "Workspace.compute_targets": (lambda c: list(c.ws.compute_targets), READ),
    "Workspace.datasets": (lambda c: list(c.ws.datasets), READ),
    "Workspace.datastores": (lambda c: list(c.ws.datastores), READ),
    "Workspace.environments": (lambda c: list(c.ws.environments), READ),
    "Workspace.experiments": (lambda c: list(c.ws.experiments), READ),
    "Workspace.images": (lambda c: list(c.ws.images), READ),
    "Workspace.models": (lambda c: list(c.ws.models), READ),
    "Workspace.webservices": (lambda c: list(c.ws.webservices), READ),
    "Experiment": (lambda c: Experiment(c.ws, "new"), WRITE),
    "Experiment.list": (lambda c: Experiment.list(c.ws), READ),
    "Experiment.refresh": (lambda c: c.experiment.refresh(), READ),
    "Experiment.tag": (lambda c: c.experiment.tag("a", "b"), WRITE),
    "Experiment.set_tags": (lambda c: c.experiment.set_tags({"a": "b"}), WRITE),
    "Experiment.remove_tags": (lambda c: c.experiment.remove_tags("a"), WRITE),
    "Experiment.delete": (lambda c: Experiment.delete(c.ws, _empty_experiment(c)), WRITE),
    "Experiment.start_logging": (lambda c: c.experiment.start_logging().complete(), WRITE),
    "Experiment.submit": (lambda c: c.experiment.submit(ScriptRunConfig(c.folder / "code", "a.py")), WRITE),
    "Experiment.get_runs": (lambda c: list(c.experiment.get_runs()), READ),
    "Experiment.compare": (lambda c: len(c.experiment.compare()), READ),
    "Run.get": (lambda c: c.run, READ),
    "Run.list": (lambda c: list(Run.list(Experiment._named(c.ws, c.mark))), READ),
    "Run.number": (lambda c: c.run.number, READ),
    "Run.get_status": (lambda c: c.run.get_status(), READ),
    "Run.get_details": (lambda c: c.run.get_details(), READ),
    "Run.get_details_with_logs": (lambda c: c.run.get_details_with_logs(), READ),
    "Run.get_metrics": (lambda c: c.run.get_metrics(), READ),
    "Run.get_tags": (lambda c: (c.run, c.run.get_tags()), READ),
    "Run.get_properties": (lambda c: (c.run, c.run.get_properties()), READ),
    "Run.get_children": (lambda c: (c.run, list(c.run.get_children())), READ),
    "Run.get_file_names": (lambda c: c.run.get_file_names(), READ),
    "Run.get_all_logs": (lambda c: (c.run, c.run.get_all_logs(c.folder / "logs")), READ),
    "Run.download_file": (lambda c: c.run.download_file("mark.txt", c.folder / "got"), READ),
    "Run.download_files": (lambda c: c.run.download_files(output_directory=c.folder / "all"), READ),
    "Run.input_datasets": (lambda c: c.run.input_datasets, READ),
    "Run.lineage": (lambda c: c.run.lineage().steps, READ),
    "Run.wait_for_completion": (lambda c: c.run.wait_for_completion(), READ),
    "Run.replay": (lambda c: c.run.replay(), WRITE),
    "Run.tag": (lambda c: c.run.tag("a", "b"), WRITE),
    "Run.set_tags": (lambda c: c.run.set_tags({"a": "b"}), WRITE),
    "Run.remove_tags": (lambda c: c.run.remove_tags("a"), WRITE),
    "Run.add_properties": (lambda c: c.run.add_properties({"a": "b"}), WRITE),
    "Run.upload_file": (lambda c: c.run.upload_file("new", io.BytesIO(b"x")), WRITE),
    "Run.upload_files": (lambda c: c.run.upload_files(["new"], [c.file]), WRITE),
    "Run.upload_folder": (lambda c: c.run.upload_folder("new", c.folder / "code"), WRITE),
    "Run.register_model": (lambda c: c.run.register_model("of-the-run", "mark.txt"), WRITE),
    "Run.child_run": (lambda c: c.client_run.child_run(), WRITE),
    "Run.create_children": (lambda c: c.client_run.create_children(1), WRITE),
    "Run.delete": (lambda c: (c.client_run.complete(), c.client_run.delete()), OWN),
    "Run.submit_child": (lambda c: c.client_run.submit_child(ScriptRunConfig(c.folder / "code", "a.py")), WRITE),
    "Run.output_datasets": (lambda c: (c.run, c.run.output_datasets), READ),
    "Run.complete": (lambda c: c.client_run.complete(), WRITE),
    "Run.fail": (lambda c: c.client_run.fail("why"), WRITE),
    "Run.cancel": (lambda c: c.client_run.cancel(), WRITE),
    "Comparison": (lambda c: Comparison(c.ws, [c.run]).records, READ),
    "Model": (lambda c: c.model, READ),
    "Model.register": (lambda c: Model.register(c.ws, c.file, "new"), WRITE),
    "Model.list": (lambda c: Model.list(c.ws), READ),
    "Model.get_model_path": (lambda c: Model.get_model_path(c.mark, _workspace=c.ws), READ),
    "Model.download": (lambda c: c.model.download(c.folder / "model"), READ),
    "Model.lineage": (lambda c: c.model.lineage(), READ),
    "Model.serialize": (lambda c: c.model.serialize(), READ),
    "Model.print_configuration": (lambda c: c.model.print_configuration(), READ),
    "Model.add_tag": (lambda c: c.model.add_tag("a"), WRITE),
    "Model.add_tags": (lambda c: c.model.add_tags({"a": "b"}), WRITE),
    "Model.remove_tags": (lambda c: c.model.remove_tags(["a"]), WRITE),
    "Model.add_properties": (lambda c: c.model.add_properties({"a": "b"}), WRITE),
    "Model.add_dataset_references": (lambda c: c.model.add_dataset_references([("training", c.rows)]), WRITE),
    "Model.set_alias": (lambda c: c.model.set_alias("new"), WRITE),
    "Model.update": (lambda c: c.model.update(description="told"), WRITE),
    "Model.delete": (lambda c: Model.register(c.ws, c.file, "new").delete(), WRITE),
    "Model.deploy": (lambda c: Model.deploy(c.ws, "new", [c.model]), WRITE),
    "Dataset.get": (lambda c: Dataset.get(c.ws, c.mark), READ),
    "Dataset.get_all": (lambda c: Dataset.get_all(c.ws), READ),
    "Dataset.get_by_id": (lambda c: Dataset.get_by_id(c.ws, c.rows.id), READ),
    "Dataset.get_by_name": (lambda c: c.rows, READ),
    "TabularDatasetFactory.from_sql_query": (lambda c: Dataset.Tabular.from_sql_query("select 1 as x", workspace=c.ws), ANY),
    "TabularDatasetFactory.from_table": (lambda c: Dataset.Tabular.from_table("dbml.models", workspace=c.ws), ANY),
    "TabularDatasetFactory.from_delimited_files": (lambda c: Dataset.Tabular.from_delimited_files((c.store, c.mark)), READ),
    "TabularDatasetFactory.from_parquet_files": (
        lambda c: Dataset.Tabular.from_parquet_files((c.store, c.mark), validate=False), READ),
    "TabularDatasetFactory.from_json_lines_files": (
        lambda c: Dataset.Tabular.from_json_lines_files((c.store, c.mark), validate=False), READ),
    "TabularDatasetFactory.from_pandas_dataframe": (
        lambda c: Dataset.Tabular.from_pandas_dataframe(pd.DataFrame({"x": [1]}), c.store, show_progress=False), WRITE),
    "TabularDatasetFactory.register_pandas_dataframe": (
        lambda c: Dataset.Tabular.register_pandas_dataframe(pd.DataFrame({"x": [1]}), c.store, "new", show_progress=False), WRITE),
    "FileDatasetFactory.from_files": (lambda c: Dataset.File.from_files((c.store, c.mark)), READ),
    "FileDatasetFactory.upload_directory": (
        lambda c: Dataset.File.upload_directory(c.folder / "code", (c.store, "new"), show_progress=False), WRITE),
    "TabularDataset.to_pandas_dataframe": (lambda c: len(c.rows.to_pandas_dataframe()), READ),
    "TabularDataset.to_arrow": (lambda c: c.rows.to_arrow(), READ),
    "TabularDataset.to_table": (lambda c: c.rows.to_table("pg_temp.kept"), READ),
    "TabularDataset.profile": (lambda c: len(c.rows.profile()), READ),
    "TabularDataset.get_profile": (lambda c: len(c.rows.get_profile()), READ),
    "TabularDataset.compare": (lambda c: len(c.rows.compare(1)), READ),
    "TabularDataset.register": (lambda c: c.rows.take(1).register(c.ws, "new"), WRITE),
    "TabularDataset.update": (lambda c: c.rows.update("told"), WRITE),
    "TabularDataset.add_tags": (lambda c: c.rows.add_tags({"a": "b"}), WRITE),
    "TabularDataset.remove_tags": (lambda c: c.rows.remove_tags(["a"]), WRITE),
    "TabularDataset.unregister_all_versions": (lambda c: c.rows.unregister_all_versions(), WRITE),
    "Datastore.get": (lambda c: c.store, READ),
    "Datastore.list": (lambda c: Datastore.list(c.ws), READ),
    "Datastore.get_default": (lambda c: Datastore.get_default(c.ws), READ),
    "Datastore.register_local_folder": (lambda c: Datastore.register_local_folder(c.ws, "new", str(c.folder)), WRITE),
    "DatabaseDatastore.upload": (lambda c: c.store.upload(c.folder / "code", show_progress=False), WRITE),
    "DatabaseDatastore.upload_files": (lambda c: c.store.upload_files([c.file], show_progress=False), WRITE),
    "DatabaseDatastore.download": (lambda c: c.store.download(c.folder / "files", show_progress=False), READ),
    "DatabaseDatastore.delete_files": (lambda c: c.store.delete_files(c.mark), WRITE),
    "DatabaseDatastore.set_as_default": (lambda c: c.other_store.set_as_default(), OWN),
    "DatabaseDatastore.unregister": (lambda c: c.other_store.unregister(), WRITE),
    "Environment.get": (lambda c: Environment.get(c.ws, c.mark), READ),
    "Environment.list": (lambda c: Environment.list(c.ws), READ),
    "Image": (lambda c: c.image, READ),
    "Image.list": (lambda c: Image.list(c.ws), READ),
    "Image.delete": (lambda c: c.image.delete(), WRITE),
    "ComputeTarget": (lambda c: c.target, READ),
    "ComputeTarget.list": (lambda c: ComputeTarget.list(c.ws), READ),
    "ComputeTarget.create": (lambda c: ComputeTarget.create(c.ws, "cpu", AmlCompute.provisioning_configuration()), WRITE),
    "ComputeTarget.refresh_state": (lambda c: c.target.refresh_state(), READ),
    "ComputeTarget.delete": (lambda c: c.target.delete(), WRITE),
    "Webservice": (lambda c: c.service, READ),
    "Webservice.list": (lambda c: Webservice.list(c.ws), READ),
    "Webservice.update_deployment_state": (lambda c: c.service.update_deployment_state(), READ),
    "Webservice.get_logs": (lambda c: (c.service, c.service.get_logs()), READ),
    "Webservice.get_keys": (lambda c: c.service.get_keys(), WRITE),
    "Webservice.regen_key": (lambda c: c.service.regen_key("Primary"), WRITE),
    "Webservice.update": (lambda c: c.service.update(tags={"a": "b"}), WRITE),
    "Webservice.set_candidate": (lambda c: c.service.set_candidate([c.model], shadow=True), WRITE),
    "Webservice.comparisons": (lambda c: (c.service, c.service.comparisons()), READ),
    "Webservice.delete": (lambda c: c.service.delete(), WRITE),
    "Webservice.deploy": (lambda c: Webservice.deploy(c.ws, "new", [str(c.file)], None), WRITE),
    "Webservice.deploy_from_model": (lambda c: Webservice.deploy_from_model(c.ws, "new", [c.model], None), WRITE),
    "Client.query": (lambda c: len(c.client.query("select 1 as x")), ANY),
    "Client.metrics": (lambda c: len(c.client.metrics()), READ),
    "Client.models": (lambda c: list(c.client.models), READ),
    "Client.runs": (lambda c: list(c.client.runs), READ),
    "Client.experiments": (lambda c: list(c.client.experiments), READ),
    "Client.workspace": (lambda c: c.client.workspace(c.mark).close() or True, READ),
    "Client.predict": (lambda c: c.client.predict(c.mark, [1.0]), READ),
    "Client.load_model": (lambda c: c.client.load_model(c.mark), READ),
    "Client.run_script": (lambda c: len(c.client.run_script("OutputDataSet = [1]")), WRITE),
    "Client.register_model": (lambda c: c.client.register_model("new", LinearRegression()), WRITE),
    "Client.start_run": (lambda c: c.client.start_run(c.mark), WRITE),
    "Run.flush": (lambda c: _logged(c, lambda run: run.log("m", 1)), WRITE),
    "Run.log": (lambda c: _logged(c, lambda run: run.log("m", 1)), WRITE),
    "Run.log_list": (lambda c: _logged(c, lambda run: run.log_list("m", [1, 2])), WRITE),
    "Run.log_row": (lambda c: _logged(c, lambda run: run.log_row("m", x=1)), WRITE),
    "Run.log_table": (lambda c: _logged(c, lambda run: run.log_table("m", {"x": [1]})), WRITE),
    "Run.log_image": (lambda c: _logged(c, lambda run: run.log_image("m", str(c.file))), WRITE),
}  # fmt: skip

# What does not ask the database by itself, and what is shown elsewhere why.
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys((
        "Workspace.write_config", "Workspace.get_details", "Workspace.get_default_keyvault",
        "Workspace.get_mlflow_tracking_uri", "Experiment.get_portal_url",
        "Run.get_context", "Run.get_portal_url", "DatabaseDatastore.path",
        "DatabaseDatastore.as_mount", "DatabaseDatastore.as_download", "Comparison.series", "Comparison.plot",
        "Datastore.register_azure_file_share", "Datastore.register_azure_data_lake_gen2", "Datastore.register_azure_sql_database",
        "Image.image_configuration", "Image.serialize", "Image.wait_for_creation", "ComputeTarget.attach", "ComputeTarget.get_status",
        "ComputeTarget.serialize", "ComputeTarget.update", "ComputeTarget.wait_for_completion", "Webservice.serialize",
        "Webservice.get_token", "Client.close", "Environment.add_private_pip_wheel", "Environment.clone",
        "Environment.from_conda_specification", "Environment.from_docker_image", "Environment.from_dockerfile",
        "Environment.from_existing_conda_environment", "Environment.from_pip_requirements", "Environment.load_from_directory",
        "Environment.save_to_directory",
    ), "it is done in this process"),
    **{f"{cls}.{name}": "a step, which is read later" for cls in ("TabularDataset", "FileDataset") for name in (
        "as_named_input", "random_split", "sample", "skip", "take", "take_sample", "keep_columns", "drop_columns", "filter",
        "time_after", "time_before", "time_between", "time_recent", "with_timestamp_columns", "to_spark_dataframe", "as_mount",
        "as_download")},
    **{f"FileDataset.{name}": "as of TabularDataset: the same function" for name in (
        "register", "update", "add_tags", "remove_tags", "unregister_all_versions")},
    **{f"FileDataset.{name}": "reads as from_files and download of the datastore" for name in ("download", "mount", "to_path")},
    **{f"Run.{name}": "as log_table" for name in ("log_accuracy_table", "log_confusion_matrix", "log_predictions", "log_residuals")},
    **{f"Datastore.register_{name}": "as register_local_folder, for fsspec's" for name in (
        "s3_bucket", "azure_blob_container", "gcs_bucket")},
    "Workspace.from_config": "opens what its file says",
    "Run.get_environment": "is Environment.get", "Run.get_snapshot_id": "tests/security: snapshot_part",
    "Run.restore_snapshot": "tests/security: snapshot_part", "Model.package": "tests/security: create_image",
    "Image.create": "tests/security: create_image", "Environment.register": "tests/security: create_environment",
    "Model.profile": "reads the dataset and the model, and begins a run: Experiment.start_logging",
    **{f"ModelProfile.{name}": "reads the run that keeps it, as Run.get_details" for name in (
        "get_details", "serialize", "wait_for_completion", "wait_for_profiling")},
    "Webservice.promote": "is dbml.promote_candidate", "Webservice.rollback": "is dbml.rollback_service",
    "Webservice.wait_for_candidate": "looks as update_deployment_state",
    "Client.explain": "is dbml.explain_prediction", "Client.evaluate": "is dbml.evaluate",
    "Environment.build": "is register", "Webservice.run": "asks the service", "Webservice.wait_for_deployment": "looks as update_deployment_state",
    "Webservice.check_for_existing_webservice": "looks as Webservice", "Webservice.deploy_from_image": "as deploy_from_model",
}  # fmt: skip


def _logged(c: Called, log: Callable[[Run], object]) -> None:
    run = c.client_run
    log(run)
    run.flush()


def _keep_no_more(c: Called) -> None:
    with c.ws._connection.session() as session:
        session.execute("select dbml.delete_maintained_predictions(%s || '.kept', %s)", (c.mark, c.mark))


def _dropped(made: Workspace) -> bool:
    made.delete()
    return True


def functions() -> set[str]:
    """Return the public functions of the classes, Class.function; what is read as a property is not among them."""
    found = set()
    for cls in CLASSES:
        for base in cls.__mro__:
            if base.__module__.startswith("dbml."):
                for name, member in vars(base).items():
                    plain = getattr(member, "__func__", member)
                    if not name.startswith("_") and isinstance(plain, types.FunctionType):
                        found.add(f"{cls.__name__}.{name}")
    return found
