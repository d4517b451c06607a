"""What was a service of a Kubernetes cluster: with keys, several replicas where the target has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.webservice import Webservice


class AksWebservice(Webservice):
    """A service that was deployed with `AksWebservice.deploy_configuration`: with keys, unless they are switched off."""

    _compute_type = "AKS"

    @staticmethod
    def deploy_configuration(
        autoscale_enabled: bool | None = None, cpu_cores: float | None = None, memory_gb: float | None = None,
        auth_enabled: bool | None = None, scoring_timeout_ms: float | None = None,
        replica_max_concurrent_requests: int | None = None, num_replicas: int | None = None,
        tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None, description: str | None = None,
        *, target: str | None = None, **told: Any,
    ) -> WebserviceDeploymentConfiguration:  # fmt: skip
        """Return what a service asks for.

        target: None is kubernetes: manifests, applied where kubectl and a cluster are.
        scoring_timeout_ms: milliseconds for an answer.  replica_max_concurrent_requests: calls of score.py at a time.
        What names a cloud's resources is accepted and has no effect.
        """
        from dbml.core.webservice.deploying import settings

        asked = {
            "cpu_cores": cpu_cores, "memory_gb": memory_gb, "scoring_timeout_ms": scoring_timeout_ms,
            "replica_max_concurrent_requests": replica_max_concurrent_requests, "num_replicas": num_replicas,
        }  # fmt: skip
        return WebserviceDeploymentConfiguration(
            "AKS", config=settings(asked), auth_enabled=auth_enabled is not False, tags=tags, properties=properties,
            description=description, target=target, told={"autoscale_enabled": autoscale_enabled, **told},
        )  # fmt: skip
