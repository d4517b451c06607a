"""The SDK: workspaces, experiments, runs, models and environments that are kept in PostgreSQL.

Modules and names are those of azureml-core, version 1, so that its notebooks run with `dbml` in the place of `azureml`.
Everything goes to the database as the user's own role.  The SDK imports neither the worker nor scikit-learn, and nothing
of it is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dbml import __version__ as VERSION  # noqa: N812 - the name that notebooks print

if TYPE_CHECKING:
    from dbml.core.compute_target import ComputeTarget
    from dbml.core.dataset import Dataset
    from dbml.core.datastore import Datastore
    from dbml.core.environment import Environment
    from dbml.core.experiment import Experiment
    from dbml.core.model import Model
    from dbml.core.run import Run
    from dbml.core.runconfig import RunConfiguration
    from dbml.core.script_run_config import ScriptRunConfig
    from dbml.core.workspace import Workspace

# Where each public name lives.
_PLACES = {
    "ComputeTarget": "dbml.core.compute_target",
    "Dataset": "dbml.core.dataset",
    "Datastore": "dbml.core.datastore",
    "Environment": "dbml.core.environment",
    "Experiment": "dbml.core.experiment",
    "Model": "dbml.core.model",
    "Run": "dbml.core.run",
    "RunConfiguration": "dbml.core.runconfig",
    "ScriptRunConfig": "dbml.core.script_run_config",
    "Workspace": "dbml.core.workspace",
}

# What is not there yet, and the nearest thing that is.
_NOT_YET = {
    "Image": "dbml.predict scores registered models in the database",
    "Keyvault": 'variables of the environment, and secret parameters of scripts: {"$secret": "…"}',
    "Webservice": "dbml.predict scores registered models in the database",
}

__all__ = [
    "VERSION", "ComputeTarget", "Dataset", "Datastore", "Environment", "Experiment", "Model", "Run", "RunConfiguration",
    "ScriptRunConfig", "Workspace",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        found = getattr(import_module(_PLACES[name]), name)
        globals()[name] = found
        return found
    if name in _NOT_YET:
        raise NotImplementedError(f"dbml.core.{name} is not there yet; what is: {_NOT_YET[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
