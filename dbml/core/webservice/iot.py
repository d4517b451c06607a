"""What was a module of an IoT Edge device: a service to try here, and the manifest by which the device runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.webservice import Webservice
from dbml.exceptions import WebserviceException

_DEVICE, _ROUTES, _MODULES = "iot_device_id", "iot_routes", "iot_modules"


class IotWebservice(Webservice):
    """A service that was deployed with `IotWebservice.deploy_configuration`.

    It runs on this machine, as any other. No device is reached from here: `manifest` is what `az iot edge set-modules` takes.
    """

    _compute_type = "IOT"

    @staticmethod
    def deploy_configuration(
        device_id: str | None = None, routes: Mapping[str, str] | None = None, modules: Mapping[str, Any] | None = None,
        cpu_cores: float | None = None, memory_gb: float | None = None, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None, auth_enabled: bool | None = None,
        *, target: str | None = None, **told: Any,
    ) -> WebserviceDeploymentConfiguration:  # fmt: skip
        """Return what a module asks for.

        device_id: whose module it is to be.  routes: between modules, by name.  modules: others of the device, by name, each
        as a deployment manifest has it.  What names a hub or a cloud's resources is accepted and has no effect.
        """
        kept = {_ROUTES: dict(routes or {}), _MODULES: dict(modules or {})}
        own = {name: json.dumps(value, sort_keys=True) for name, value in kept.items() if value}
        if device_id is not None:
            own[_DEVICE] = device_id
        return WebserviceDeploymentConfiguration(
            "IOT", config={"cpu_cores": cpu_cores, "memory_gb": memory_gb}, auth_enabled=bool(auth_enabled), tags=tags,
            properties={**(properties or {}), **own}, description=description, target=target, told=told,
        )  # fmt: skip

    @property
    def device_id(self) -> str | None:
        """Return the device that it is a module of, as it was deployed."""
        return self.properties.get(_DEVICE)

    def manifest(self, image_location: str, path: str | Path | None = None) -> dict[str, Any]:
        """Return the deployment manifest of the device with the service as a module; path: a file that gets it too.

        image_location: where the device finds the image, registry.example/diabetes:3.
        Raises: WebserviceException where the service serves no image, which `Model.package` or an environment makes.
        """
        from dbml.serving.export.manifests import Resources, iot_edge
        from dbml.serving.plans import making

        if self.image_id is None:
            raise WebserviceException(
                f"service {self.name!r} must serve an image to be a module, and serves {', '.join(self._row['models'])}",
                hint="Webservice.deploy_from_image(workspace, name, image)",
            )
        plan = making.of_image(self.workspace._connection.do_again, self.workspace.name, self.image_id)
        config, told = self._row["config"], self.properties
        limits = Resources(cpu=config.get("cpu_cores", 1.0), memory_mb=round(config.get("memory_gb", 1.0) * 1024))
        found = iot_edge(
            plan, image_location, limits, modules=json.loads(told.get(_MODULES, "{}")), routes=json.loads(told.get(_ROUTES, "{}"))
        )
        if path is not None:
            Path(path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return found
