"""The entry points for tracking and for the registry of models: in a script of the worker its own run, else the database."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from dbml import current_run

if TYPE_CHECKING:
    from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
    from mlflow.store.tracking.abstract_store import AbstractStore

    from dbml.mlflow.script_store import ScriptStore


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> AbstractStore:
    """Return the tracking store of an address."""
    if current_run.current() is not None:
        return script_store()
    from dbml.mlflow.database_store import DatabaseStore

    return DatabaseStore(store_uri, artifact_uri)


@functools.cache
def script_store() -> ScriptStore:
    """Return the store of the script that this process is, the same each time."""
    from dbml.mlflow.script_store import ScriptStore

    return ScriptStore()


def registry_store(store_uri: str, tracking_uri: str | None = None) -> AbstractRegistry:
    """Return the registry of an address."""
    from dbml.mlflow.registry import Registry, ScriptRegistry

    kind = Registry if current_run.current() is None else ScriptRegistry
    return kind(store_uri, tracking_uri)
