"""MLflow's plug-in: what MLflow's own client logs are dbml's runs, metrics, artifacts and models, under the user's own role.

    mlflow.set_tracking_uri(workspace.get_mlflow_tracking_uri())

The entry points of pyproject.toml name what answers for the scheme dbml: `stores` and `artifacts`.  What MLflow says goes to
the database by the SDK (`dbml.core`, `dbml.store.client`); in a submitted script, by the run that the script is.  MLflow
imports this package by itself; nothing else of dbml does.
"""
