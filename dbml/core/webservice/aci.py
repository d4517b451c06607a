"""What was a container instance: one container, or one process, on the machine that deploys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.webservice import Webservice


class AciWebservice(Webservice):
    """A service that was deployed with `AciWebservice.deploy_configuration`: without keys, unless they are asked for."""

    _compute_type = "ACI"

    @staticmethod
    def deploy_configuration(
        cpu_cores: float | None = None, memory_gb: float | None = None, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None, location: str | None = None,
        auth_enabled: bool | None = None, *, target: str | None = None, environment_variables: Mapping[str, str] | None = None,
        **told: Any,
    ) -> WebserviceDeploymentConfiguration:  # fmt: skip
        """Return what a service asks for.

        target: docker or process; None: docker where an engine can build here, else process.  cpu_cores, memory_gb: its limits.
        What names a cloud's resources (location, ssl_enabled, dns_name_label, …) is accepted and has no effect.
        """
        return WebserviceDeploymentConfiguration(
            "ACI", config={"cpu_cores": cpu_cores, "memory_gb": memory_gb, "environment_variables": environment_variables},
            auth_enabled=bool(auth_enabled), tags=tags, properties=properties, description=description, target=target,
            told={"location": location, **told},
        )  # fmt: skip
