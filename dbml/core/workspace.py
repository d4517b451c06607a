"""Workspaces: what keeps the experiments, models and environments of one purpose together.

A workspace is a row in the database (`dbml.workspaces`); who may do what in it, `dbml.grant_workspace` says.  The names
subscription, resource group and location are kept as labels: here a workspace's name alone finds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbml import errors
from dbml.core import config_file
from dbml.core.connection import Connection
from dbml.core.listing import Listing
from dbml.dsn import without_password
from dbml.exceptions import WorkspaceException
from dbml.store.client import workspaces
from dbml.store.client.rows import Row, jsonb, text_of

if TYPE_CHECKING:
    from dbml.core.authentication import AbstractAuthentication
    from dbml.core.compute_target import ComputeTarget
    from dbml.core.environment import Environment
    from dbml.core.experiment import Experiment
    from dbml.core.image import Image
    from dbml.core.model import Model
    from dbml.core.run import Run
    from dbml.core.webservice import Webservice
    from dbml.data.abstract_datastore import AbstractDatastore
    from dbml.data.file_dataset import FileDataset
    from dbml.data.tabular_dataset import TabularDataset


class Workspace:
    """A workspace in a database, which must exist; `Workspace.create` makes one.

    subscription_id, resource_group: labels, compared with nothing.  auth: accepted and not needed, for the database knows
    its users.  dsn: the database; where it is None, DBML_DSN, DBML_DSN_FILE or the running `dbml up` of this folder.
    Objects of it may be used by several threads; pickled they travel with their DSN.
    Raises: WorkspaceException where there is no such workspace, or none that this user may see.
    """

    def __init__(
        self, subscription_id: str | None = None, resource_group: str | None = None, workspace_name: str | None = None,
        auth: AbstractAuthentication | None = None, _location: str | None = None, *, dsn: str | None = None,
    ) -> None:  # fmt: skip
        connection = Connection(dsn)
        self._set(connection, _find(connection, workspace_name or "default"))

    def _set(self, connection: Connection, row: Row, dsn_given: bool = False) -> None:
        self._connection = connection
        self._row = row
        self._dsn_given = dsn_given

    @classmethod
    def _open(cls, connection: Connection, name: str) -> Workspace:
        return cls._of(connection, _find(connection, name))

    @classmethod
    def _of(cls, connection: Connection, row: Row, *, dsn_given: bool = False) -> Workspace:
        workspace = cls.__new__(cls)
        workspace._set(connection, row, dsn_given)
        return workspace

    def __repr__(self) -> str:
        labels = f"subscription_id={self.subscription_id!r}, resource_group={self.resource_group!r}"
        return f"Workspace.create(name={self.name!r}, {labels})"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Workspace) and other.name == self.name
        return same and other._connection.dsn == self._connection.dsn  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.name, self._connection.dsn))

    @staticmethod
    def create(
        name: str, auth: AbstractAuthentication | None = None, subscription_id: str | None = None,
        resource_group: str | None = None, location: str | None = None, create_resource_group: bool = True,
        sku: str = "basic", tags: Mapping[str, str] | None = None, friendly_name: str | None = None,
        storage_account: str | None = None, key_vault: str | None = None, app_insights: str | None = None,
        container_registry: str | None = None, exist_ok: bool = False, show_output: bool = True,
        *, dsn: str | None = None, **ignored: Any,
    ) -> Workspace:  # fmt: skip
        """Create a workspace and return it; its creator owns it.

        exist_ok: one that is there is returned as it is.  friendly_name: kept as its description.
        What names a cloud's resources (sku, storage_account, key_vault, …) is accepted and has no effect.
        Raises: WorkspaceException where it exists; InvalidArgument where the name holds one of : @ /.
        """
        connection = Connection(dsn)
        try:
            connection.do(
                workspaces.create, name, exist_ok=exist_ok, subscription_id=subscription_id, resource_group=resource_group,
                location=location, description=friendly_name, tags=jsonb(dict(tags or {})),
            )  # fmt: skip
        except errors.InvalidArgument as error:
            if "exists" not in error.message:
                raise
            raise WorkspaceException(
                f"workspace {name!r} exists", hint=f"Workspace.get({name!r}), or exist_ok=True"
            ) from None  # fmt: skip
        row = connection.do_again(workspaces.find, name)
        if row is None:  # it exists, of others
            raise WorkspaceException(f"workspace {name!r} exists, and this user may not see it", hint="choose another name")
        if show_output:
            print(f"Workspace {name} is in {connection.place}.")
        return Workspace._of(connection, row, dsn_given=dsn is not None)

    @staticmethod
    def get(
        name: str, auth: AbstractAuthentication | None = None, subscription_id: str | None = None,
        resource_group: str | None = None, location: str | None = None, *, dsn: str | None = None, **ignored: Any,
    ) -> Workspace:  # fmt: skip
        """Return an existing workspace by its name.

        Raises: WorkspaceException where there is none that this user may see.
        """
        return Workspace(subscription_id, resource_group, name, auth, dsn=dsn)

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str] | None = None, auth: AbstractAuthentication | None = None, _logger: Any = None,
        _file_name: str | None = None,
    ) -> Workspace:  # fmt: skip
        """Return the workspace that the nearest config.json names.

        path: a file, or the folder from which to look upwards; the current one where it is None.  A key `dsn` in it says
        where the database is, else DBML_DSN, DBML_DSN_FILE or the running `dbml up` do.
        Raises: UserErrorException where there is no config.json; WorkspaceException where there is no such workspace.
        """
        file = config_file.find(path, _file_name)
        said = config_file.read(file)
        workspace = cls(
            said.get("subscription_id"), said.get("resource_group"), said["workspace_name"], auth, dsn=said.get("dsn")
        )
        workspace._dsn_given = "dsn" in said
        return workspace

    @staticmethod
    def list(
        subscription_id: str | None = None, auth: AbstractAuthentication | None = None, resource_group: str | None = None,
        *, dsn: str | None = None,
    ) -> dict[str, list[Workspace]]:  # fmt: skip
        """Return the workspaces that this user may see, by name; each name has a list of one."""
        connection = Connection(dsn)
        rows = connection.do_again(workspaces.list_all, subscription_id=subscription_id, resource_group=resource_group)
        return {str(row["name"]): [Workspace._of(connection, row, dsn_given=dsn is not None)] for row in rows}

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write .azureml/config.json into a folder (the current one), for `from_config` to find.

        A DSN that was given, rather than found, is written without its password: PGPASSWORD or ~/.pgpass have it.
        """
        content = {
            "subscription_id": self.subscription_id,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
        }
        if self._dsn_given:
            content["dsn"] = without_password(self._connection.dsn)
        file = config_file.write(Path(path) if path is not None else Path.cwd(), file_name, content)
        print(f"Wrote the config file {file.name} to: {file.resolve()}")

    @property
    def name(self) -> str:
        """Return the name, by which the database knows it."""
        return str(self._row["name"])

    @property
    def subscription_id(self) -> str:
        """Return the label that it was created with; empty where there was none, so that programs may print it."""
        return text_of(self._row, "subscription_id") or ""

    @property
    def resource_group(self) -> str:
        """Return the label that it was created with; empty where there was none, so that programs may print it."""
        return text_of(self._row, "resource_group") or ""

    @property
    def location(self) -> str:
        """Return the label that it was created with; empty where there was none, so that programs may print it."""
        return text_of(self._row, "location") or ""

    @property
    def sku(self) -> str:
        """Return `basic`."""
        return str(self._row["sku"])

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    def get_details(self) -> dict[str, Any]:
        """Return what is known of it: id, name, location, labels, tags, when it was made and by whom, and where it is."""
        made: datetime = self._row["created_at"]
        return {
            "id": f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}/workspaces/{self.name}",
            "name": self.name, "type": "dbml/workspaces", "workspaceid": str(self._row["workspace_id"]),
            "location": self.location, "sku": self.sku, "tags": self.tags, "description": self._row["description"],
            "friendlyName": self._row["description"] or self.name, "creationTime": made.isoformat(),
            "createdBy": self._row["created_by"], "provisioningState": "Succeeded",
            "database": without_password(self._connection.dsn),
        }  # fmt: skip

    def update(
        self, friendly_name: str | None = None, description: str | None = None, tags: Mapping[str, str] | None = None,
        **ignored: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Describe it and set tags; returns the details."""
        self._connection.do(workspaces.update, self.name, description=description or friendly_name, tags=tags)
        row = self._connection.do_again(workspaces.find, self.name)
        if row is not None:
            self._row = row
        return self.get_details()

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Delete it with all that is in it: experiments, runs, models, environments.

        Raises: InvalidArgument for the workspace "default", and while runs go on; InsufficientPrivilege for who does not own it.
        """
        self._connection.do(workspaces.delete, self.name)

    def get_run(self, run_id: str) -> Run:
        """Return a run of this workspace by its id.

        Raises: RunNotFound.
        """
        from dbml.core.run import Run

        return Run.get(self, run_id)

    @property
    def experiments(self) -> Listing[Experiment]:
        """Return the experiments by name."""
        from dbml.core.experiment import Experiment

        return Listing("experiments", lambda: {experiment.name: experiment for experiment in Experiment.list(self)})

    @property
    def models(self) -> Listing[Model]:
        """Return the newest version of each model by name."""
        from dbml.core.model import Model

        return Listing("models", lambda: {model.name: model for model in Model.list(self, latest=True)})

    @property
    def environments(self) -> Listing[Environment]:
        """Return the newest version of each environment by name."""
        from dbml.core.environment import Environment

        return Listing("environments", lambda: Environment.list(self))

    @property
    def compute_targets(self) -> Listing[ComputeTarget]:
        """Return the names under which programs find the worker as a compute target."""
        from dbml.core.compute_target import ComputeTarget

        return Listing("compute targets", lambda: {target.name: target for target in ComputeTarget.list(self)})

    @property
    def datasets(self) -> Listing[TabularDataset | FileDataset]:
        """Return the newest version of each registered dataset by name."""
        from dbml.core.dataset import Dataset

        return Listing("datasets", lambda: Dataset.get_all(self))

    @property
    def datastores(self) -> Listing[AbstractDatastore]:
        """Return the datastores by name; `workspaceblobstore` is the database itself."""
        from dbml.core.datastore import Datastore

        return Listing("datastores", lambda: Datastore.list(self))

    def get_default_datastore(self) -> AbstractDatastore:
        """Return the default datastore: the database itself, unless another was set."""
        from dbml.core.datastore import Datastore

        return Datastore.get_default(self)

    def set_default_datastore(self, name: str) -> None:
        """Let a datastore be the default one.

        Raises: DatastoreNotFoundException.
        """
        from dbml.core.datastore import Datastore

        Datastore.get(self, name).set_as_default()

    @property
    def webservices(self) -> Listing[Webservice]:
        """Return the web services by name."""
        from dbml.core.webservice import Webservice

        return Listing("webservices", lambda: {service.name: service for service in Webservice.list(self)})

    @property
    def images(self) -> Listing[Image]:
        """Return the newest version of each image by name."""
        from dbml.core.image import Image

        return Listing("images", lambda: {image.name: image for image in reversed(Image.list(self))})

    def get_default_compute_target(self, type: str = "CPU") -> ComputeTarget | None:  # noqa: A002 - the SDK's name
        """Return the oldest compute target, None where there is none."""
        return next(iter(self.compute_targets.values()), None)

    def get_default_keyvault(self) -> Any:
        """Refuse: there is no vault; secrets are secret parameters of scripts, or the environment's variables."""
        raise NotImplementedError(
            'there is no key vault; a parameter {"$secret": "…"} of a script is neither recorded nor logged'
        )

    def get_mlflow_tracking_uri(self, with_auth: bool = False) -> str:
        """Return the address for `mlflow.set_tracking_uri`, by which MLflow's client logs to runs of this workspace.

        It holds no password; with_auth: accepted, and of no effect.  MLflow itself is of the extra dbml[mlflow].
        """
        from dbml.core.tracking_uri import tracking_uri

        return tracking_uri(self)

    def _find_run_row(self, run_id: UUID) -> Row | None:
        from dbml.store.client import runs

        row = self._connection.do_again(runs.find, run_id)
        return row if row is not None and row["workspace"] == self.name else None


def _find(connection: Connection, name: str) -> Row:
    row = connection.do_again(workspaces.find, name)
    if row is None:
        raise WorkspaceException(
            f"workspace {name!r} must exist to be opened, and be one that this user may see",
            hint=f"Workspace.create(name={name!r}), or Workspace.list()",
        )
    return row
