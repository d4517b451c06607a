"""Kinds of compute targets that programs ask for; all of them are the worker, as `dbml.core.compute_target` says."""

from __future__ import annotations

from typing import Any

from dbml.core.compute_target import ComputeTarget, ComputeTargetProvisioningConfiguration
from dbml.exceptions import ComputeTargetException

__all__ = ["AksCompute", "AmlCompute", "ComputeInstance", "ComputeTarget", "ComputeTargetException", "RemoteCompute"]


class AmlCompute(ComputeTarget):
    """What was a cluster: the worker, under a name."""

    _kind = "AmlCompute"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "", vm_priority: str = "dedicated", min_nodes: int = 0, max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None, admin_username: str | None = None, tags: Any = None,
        description: str | None = None, **ignored: Any,
    ) -> ComputeTargetProvisioningConfiguration:  # fmt: skip
        """Say what the program asks for; it is kept, and has no effect."""
        return ComputeTargetProvisioningConfiguration(
            "AmlCompute", vm_size=vm_size, vm_priority=vm_priority, min_nodes=min_nodes, max_nodes=max_nodes,
            idle_seconds_before_scaledown=idle_seconds_before_scaledown, description=description,
        )  # fmt: skip

    @staticmethod
    def supported_vmsizes(workspace: Any, location: str | None = None) -> list[dict[str, Any]]:
        """Return nothing: there are no sizes to choose from."""
        return []

    def list_nodes(self) -> list[dict[str, Any]]:
        """Return the one node that there is."""
        return [{"nodeId": "worker", "nodeState": "idle"}]


class ComputeInstance(ComputeTarget):
    """What was a machine for notebooks: the worker, under a name."""

    _kind = "ComputeInstance"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "", ssh_public_access: bool = False, admin_user_ssh_public_key: str | None = None, tags: Any = None,
        description: str | None = None, **ignored: Any,
    ) -> ComputeTargetProvisioningConfiguration:  # fmt: skip
        """Say what the program asks for; it is kept, and has no effect."""
        return ComputeTargetProvisioningConfiguration("ComputeInstance", vm_size=vm_size, description=description)

    def start(self, wait_for_completion: bool = False, show_output: bool = False) -> None:
        """Do nothing: the worker runs, or `dbml worker` starts it."""

    def stop(self, wait_for_completion: bool = False, show_output: bool = False) -> None:
        """Do nothing: the worker serves others too."""

    restart = start


class AksCompute(ComputeTarget):
    """What was a cluster for services: a name that programs find."""

    _kind = "AksCompute"

    @staticmethod
    def provisioning_configuration(
        agent_count: int | None = None, vm_size: str | None = None, location: str | None = None,
        cluster_purpose: str | None = None, **ignored: Any,
    ) -> ComputeTargetProvisioningConfiguration:  # fmt: skip
        """Say what the program asks for; it is kept, and has no effect."""
        return ComputeTargetProvisioningConfiguration(
            "AksCompute", agent_count=agent_count, vm_size=vm_size, location=location, cluster_purpose=cluster_purpose
        )


class RemoteCompute(ComputeTarget):
    """A machine of one's own, reached by SSH: not attached; a worker can run there instead."""

    _kind = "RemoteCompute"
