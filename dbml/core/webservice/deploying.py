"""Deploying: what is to be served, the model itself or an image that is made of it, and the row that asks for it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml.core import stand_in
from dbml.core.submission import keep_snapshot
from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.webservice import Webservice
from dbml.exceptions import WebserviceException

if TYPE_CHECKING:
    from dbml.core.model import Model
    from dbml.core.workspace import Workspace

_SETTINGS = ("port", "host", "cpu_cores", "memory_gb", "gpu_cores", "threads", "queue", "timeout_s", "max_body_mb", "batch_rows",
             "batch_delay_ms", "drain_s", "restart", "replicas", "environment_variables", "namespace", "registry", "folder",
             "probe_s", "probe_failures")  # fmt: skip


@dataclass(frozen=True)
class Served:
    """What is to be served: a model or an image, by name and version, or models and a snapshot in the configuration."""

    model: str | None = None
    image: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def deploy(
    workspace: Workspace, name: str, models: Sequence[Model], inference_config: Any = None,
    deployment_config: WebserviceDeploymentConfiguration | None = None, deployment_target: Any = None, overwrite: bool = False,
    show_output: bool = False,
) -> Webservice:  # fmt: skip
    """Deploy registered models; returns the service at once.

    inference_config: an InferenceConfig, or an image's configuration; None: a score.py is made for the one model.
    Raises: WebserviceException where the name is taken.
    """
    if not overwrite:
        Webservice.check_for_existing_webservice(workspace, name)
    served = to_serve(workspace, name, models, None, inference_config)
    return begin(workspace, name, deployment_config, deployment_target, overwrite, show_output, served)


def begin(
    workspace: Workspace, name: str, deployment_config: WebserviceDeploymentConfiguration | None, deployment_target: Any,
    overwrite: bool, show_output: bool, served: Served,
) -> Webservice:  # fmt: skip
    """Ask for a service, which is local where no configuration says otherwise, and have it served."""
    config = deployment_config or WebserviceDeploymentConfiguration("Local")
    found = Webservice._begin(workspace, name, config, deployment_target, overwrite, served)
    if show_output:
        found.wait_for_deployment(show_output=True)
    return found


def to_serve(workspace: Workspace, name: str, models: Sequence[Model] | None, image: Any, inference_config: Any) -> Served:
    """Return what is to be served: an image, or models.

    With an environment, the models and score.py become an image, whose lock the worker resolves; without one, or where
    other packages stand in for it, they are served by the packages that are where the service runs.
    """
    if image is not None:
        return Served(image=image if isinstance(image, str) else f"{image.name}:{image.version}")
    references = [model if isinstance(model, str) else model.id for model in models or []]
    if inference_config is not None:
        inference_config = getattr(inference_config, "_inference", lambda: inference_config)()  # an image's configuration
        if _has_environment(inference_config):
            named = getattr(getattr(inference_config, "environment", None), "name", None) or name
            made = stand_in.had(named, lambda: _image_of(workspace, name, models or [], inference_config))
            if made is not None:
                return Served(image=made)
        snapshot, entry = _keep_source(workspace, inference_config)
        return Served(config={"models": references, "snapshot": snapshot, "entry_script": entry})
    if len(references) > 1:
        raise WebserviceException(
            f"a score.py is made for one model, got {len(references)}",
            hint="inference_config=InferenceConfig(entry_script='score.py')",
        )
    return Served(model=references[0] if references else None)


def _has_environment(inference_config: Any) -> bool:
    environment = getattr(inference_config, "environment", None)
    if environment is not None:
        return not environment.python.user_managed_dependencies
    return getattr(inference_config, "conda_file", None) is not None


def _keep_source(workspace: Workspace, inference_config: Any) -> tuple[str, str]:
    """Keep the score.py and what is beside it as a snapshot; returns that and the script's path in it."""
    from dbml.core.packaging import _beside
    from dbml.serving.plans import making

    directory = inference_config.source_directory
    files, entry = making.source_of(Path(inference_config.entry_script), None if directory is None else Path(directory))
    files = {**files, **_beside(inference_config._beside)}
    with tempfile.TemporaryDirectory(prefix="dbml-source-") as folder:
        for path, file in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(file.read()))
        return keep_snapshot(workspace, folder, show=False), entry


def _image_of(workspace: Workspace, name: str, models: Sequence[Model], inference_config: Any) -> str:
    from dbml.core.packaging import keep_plan, plan_models

    plan = keep_plan(workspace, plan_models(workspace, models, inference_config, name=name))
    return f"{plan.name}:{plan.version}"


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration keeps of what is given; what names a cloud's resources has no effect."""
    renamed = {"num_replicas": "replicas", "replica_max_concurrent_requests": "threads"}
    found = {renamed.get(name, name): value for name, value in given.items() if value is not None}
    if "scoring_timeout_ms" in found:
        found["timeout_s"] = found.pop("scoring_timeout_ms") / 1000
    return {name: value for name, value in found.items() if name in _SETTINGS}
