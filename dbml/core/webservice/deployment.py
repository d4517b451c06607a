"""How a service is to run: what `deploy_configuration` returns, and what the database keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbml.exceptions import WebserviceException


class WebserviceDeploymentConfiguration:
    """What a service asks for.

    compute_type: Local, ACI or AKS.  config: as the database keeps it, by `dbml.deploy`; what is None is left out.
    target: process, docker, compose or kubernetes; None: what `choice.target_for` finds when it is deployed.
    told: what was given and has no effect here.
    """

    def __init__(
        self, compute_type: str, *, config: Mapping[str, Any] | None = None, auth_enabled: bool = False,
        tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None, description: str | None = None,
        target: str | None = None, told: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.compute_type = compute_type
        self.config = {name: value for name, value in (config or {}).items() if value is not None}
        self.auth_enabled = auth_enabled
        self.tags = {str(name): str(value) for name, value in (tags or {}).items()}
        self.properties = {str(name): str(value) for name, value in (properties or {}).items()}
        self.description = description
        self.target = target
        self._told = dict(told or {})

    def __repr__(self) -> str:
        return f"{self.compute_type}: {self.target or 'target by machine'}, auth_enabled={self.auth_enabled}, {self.config}"

    def __getattr__(self, name: str) -> Any:
        given = self.__dict__.get("config", {}) | self.__dict__.get("_told", {})
        if name in given:
            return given[name]
        raise AttributeError(name)

    def print_deploy_configuration(self) -> None:
        """Print it."""
        print(self)


def refuse_what_does_not_exist(target: Any) -> None:
    """Refuse a deployment target that is an FPGA.

    Raises: WebserviceException, which names what accelerates a model here.
    """
    said = " ".join(str(getattr(target, name, "")) for name in ("name", "type", "vm_size", "settings")) if target else ""
    if "fpga" in said.lower() or "standard_pb" in said.lower():
        raise WebserviceException(
            "there is no FPGA to deploy to; ONNX Runtime's execution providers (CUDA, TensorRT) accelerate a model here",
            hint="register the model as ONNX, and deploy it where a provider is installed: the service takes what is there",
        )
