"""What is answered only nearly, and what is there in the place of what is not: said once, shown by the report and the docs."""

from __future__ import annotations

# By the name that the report counts: a class with its function, without the module.
DIFFERENCES = {
    "Workspace.create": "makes a workspace in the database; subscription, resource group and location are kept as text",
    "Workspace.get": "finds a workspace in the database by its name alone",
    "Workspace.delete": "deletes what is in the database; nothing is deleted in a cloud",
    "ComputeTarget.create": "a name for the worker; no machine is made",
    "AmlCompute.provisioning_configuration": "is remembered; the worker's resource pools are the limits",
    "ComputeTarget.wait_for_completion": "returns at once: the worker is there",
    "Run.get_portal_url": "names the run in the database; there is no portal",
    "RunDetails.show": "prints, or displays HTML; there is no widget to click",
    "Datastore.register_azure_blob_container": "the account's key is named by variable or file, and never stored",
    "Model.deploy": "on this machine, as a process that is kept up",
    "Model.profile": "on this machine, one request after the other",
    "AciWebservice.deploy_configuration": "a process on this machine",
    "AksWebservice.deploy_configuration": "a process on this machine; dbml export --kubernetes writes manifests for a cluster",
    "InteractiveLoginAuthentication": "nobody logs in: the database knows who connects",
    "ServicePrincipalAuthentication": "nobody logs in: the database knows who connects",
    "MsiAuthentication": "nobody logs in: the database knows who connects",
    "AzureCliAuthentication": "nobody logs in: the database knows who connects",
    "OutputFileDatasetConfig": "uploaded when the script has completed, to the workspace's own datastore",
    "HyperDriveConfig": "a thread of this program submits the tries; where it ends, no more are submitted",
    "Environment.build": "the worker builds it when it is first used",
}

# By the beginning of a name under azureml.
INSTEAD = {
    "azureml.train.automl": "choose an estimator in a script; several at once by partition_by or parallel",
    "azureml.automl": "choose an estimator in a script; several at once by partition_by or parallel",
    "azureml.train.dnn": "ScriptRunConfig with an Environment",
    "azureml.train.estimator": "ScriptRunConfig with an Environment",
    "azureml.train.sklearn": "ScriptRunConfig with an Environment",
    "azureml.pipeline": "runs one after the other: Experiment.submit and wait_for_completion",
    "azureml.opendatasets": "Dataset.Tabular over files of your own; nothing is fetched from elsewhere",
    "azureml.interpret": "the packages shap or interpret in a script",
    "azureml.explain": "the packages shap or interpret in a script",
    "azureml.contrib.fairness": "the package fairlearn in a script",
    "azureml.data.HDFSOutputDatasetConfig": "what a script leaves in outputs/ is kept with its run: Run.download_files",
    "azureml.datadrift": "SELECT * FROM dbml.data_drift(…), or dataset.compare",
    "azureml.mlflow": "MLflow's own client: mlflow.set_tracking_uri(workspace.get_mlflow_tracking_uri())",
    "azureml.tensorboard": "Run.log, and Experiment.compare()",
    "azureml.core.keyvault": 'variables of the environment, and secret parameters of scripts: {"$secret": "…"}',
    "azureml.core.Keyvault": 'variables of the environment, and secret parameters of scripts: {"$secret": "…"}',
}  # fmt: skip


def instead_of(name: str) -> str:
    """Return what is there in the place of a name of azureml, nothing where nothing is known."""
    while name:
        if name in INSTEAD:
            return INSTEAD[name]
        name = name.rpartition(".")[0]
    return ""
