"""Compute targets: names under which programs find the worker.

There is one place where scripts run, the worker beside the database, so a compute target is a name for it: creating one
starts no machine, and is done at once.  What the program asked for (sizes, numbers of nodes) is kept in `dbml.computes`.
Where a resource pool has the target's name, its limits hold for the scripts that are sent there.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbml.exceptions import ComputeTargetException
from dbml.store.client import workspaces
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace


class ComputeTargetProvisioningConfiguration:
    """What a program asks of a compute target that is to be created."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = kind
        self.settings = {name: value for name, value in settings.items() if value is not None}

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(name) from None


class ComputeStatus:
    """How a compute target stands: there, with as many nodes as the worker is one."""

    provisioning_state = "Succeeded"
    allocation_state = "Steady"
    current_node_count = 1
    target_node_count = 1
    errors: None = None

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.vm_size = settings.get("vm_size")
        self.scale_settings = {name: settings.get(name) for name in ("min_nodes", "max_nodes")}

    def serialize(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "provisioningState": self.provisioning_state, "allocationState": self.allocation_state, "vmSize": self.vm_size,
            "currentNodeCount": self.current_node_count, "targetNodeCount": self.target_node_count, "errors": self.errors,
        }  # fmt: skip


class ComputeTarget:
    """A compute target of a workspace, which must exist; `ComputeTarget.create` makes one.

    Raises: ComputeTargetException where there is none of that name.
    """

    _kind: str | None = None

    def __new__(cls, workspace: Workspace, name: str, *args: Any, **kwargs: Any) -> ComputeTarget:  # noqa: D102 - the class says it
        rows = workspace._connection.do_again(workspaces.list_computes, workspace.name, name)
        if not rows or (cls._kind is not None and rows[0]["kind"] != cls._kind):
            raise ComputeTargetException(
                f"compute target {name!r} is not in workspace {workspace.name!r}",
                hint=f"ComputeTarget.create(workspace, {name!r}, AmlCompute.provisioning_configuration())",
            )
        return cls._of(workspace, rows[0])

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> ComputeTarget:
        fitting = next((known for known in _all_kinds(ComputeTarget) if known._kind == row["kind"]), ComputeTarget)
        target = object.__new__(fitting)
        target.workspace, target._row = workspace, row
        return target

    workspace: Workspace
    _row: Row

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace.name!r}, name={self.name!r})"

    @staticmethod
    def create(
        workspace: Workspace, name: str, provisioning_configuration: ComputeTargetProvisioningConfiguration
    ) -> ComputeTarget:
        """Give the worker a name, and return the target; nothing is started.

        Raises: ComputeTargetException where the name is taken by a target of another kind; InvalidArgument for the name.
        """
        asked = provisioning_configuration
        workspace._connection.do(workspaces.create_compute, workspace.name, name, asked.kind, asked.settings)
        target = ComputeTarget(workspace, name)
        if target.type != asked.kind:
            raise ComputeTargetException(f"compute target {name!r} is there, of type {target.type}, not {asked.kind}")
        return target

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: Any) -> ComputeTarget:
        """Refuse: other machines are not attached; a worker runs on any machine that reaches the database."""
        raise NotImplementedError("machines are not attached; dbml worker --listen … runs on any that reaches the database")

    @staticmethod
    def list(workspace: Workspace) -> builtins.list[ComputeTarget]:
        """Return the compute targets of a workspace by name."""
        rows = workspace._connection.do_again(workspaces.list_computes, workspace.name)
        return [ComputeTarget._of(workspace, row) for row in rows]

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self._row["name"])

    @property
    def type(self) -> str:
        """Return the kind that it was created as."""
        return str(self._row["kind"])

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    @property
    def provisioning_state(self) -> str:
        """Return Succeeded."""
        return ComputeStatus.provisioning_state

    @property
    def vm_size(self) -> str | None:
        """Return the size that was asked for."""
        size = self._row["settings"].get("vm_size")
        return None if size is None else str(size)

    def get_status(self) -> ComputeStatus:
        """Return how it stands; `SELECT * FROM dbml.worker_status` is the worker's own answer."""
        return ComputeStatus(self._row["settings"])

    def refresh_state(self) -> None:
        """Read it again."""
        self._row = ComputeTarget(self.workspace, self.name)._row

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it as JSON has it."""
        return {"name": self.name, "type": self.type, "tags": self.tags, "properties": dict(self._row["settings"]),
                "provisioningState": self.provisioning_state, "createdBy": self._row["created_by"]}  # fmt: skip

    def wait_for_completion(
        self, show_output: bool = False, min_node_count: int | None = None, timeout_in_minutes: int | None = None,
        is_delete_operation: bool = False,
    ) -> None:  # fmt: skip
        """Return at once: there is nothing to wait for."""
        if show_output:
            print("Succeeded")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no nodes to add."""

    def delete(self) -> None:
        """Forget the name."""
        self.workspace._connection.do(workspaces.delete_compute, self.workspace.name, self.name)


def _all_kinds(base: builtins.type[ComputeTarget]) -> builtins.list[builtins.type[ComputeTarget]]:
    from dbml.core import compute  # noqa: F401 - declares the kinds

    return base.__subclasses__()
