"""What scores models of a service: a score.py, the folder beside it, and the environment of both."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml.core.conda_dependencies import CondaDependencies
from dbml.core.environment import Environment
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace


class InferenceConfig:
    """How models are scored: an entry script with init() and run(data), and an environment.

    entry_script: a path, in source_directory where that is given; the whole folder goes along then.  environment: an
    Environment, registered or not.  runtime, conda_file: an environment the older way.  What a base image said has no
    effect: images are built on Python's own slim one, or `--build-arg PYTHON_IMAGE=…`.
    Raises: UserErrorException where the script is not there, or both ways of an environment are given.
    """

    def __init__(
        self, entry_script: str | os.PathLike[str], runtime: str | None = None, conda_file: str | os.PathLike[str] | None = None,
        extra_docker_file_steps: str | None = None, source_directory: str | os.PathLike[str] | None = None,
        enable_gpu: bool | None = None, description: str | None = None, base_image: str | None = None,
        base_image_registry: Any = None, cuda_version: str | None = None, environment: Environment | None = None,
    ) -> None:  # fmt: skip
        self.entry_script = os.fspath(entry_script)
        self.runtime = runtime
        self.conda_file = None if conda_file is None else os.fspath(conda_file)
        self.source_directory = None if source_directory is None else os.fspath(source_directory)
        self.description = description
        self.environment = environment
        self.extra_docker_file_steps = extra_docker_file_steps
        self.enable_gpu = enable_gpu
        self.base_image = base_image
        self.base_image_registry = base_image_registry
        self.cuda_version = cuda_version
        self._beside: tuple[str, ...] = ()  # files and folders that go beside the script
        if environment is not None and conda_file is not None:
            raise UserErrorException("either environment or conda_file must be given, got both")
        if runtime not in (None, "python", "python-slim"):
            raise UserErrorException(
                f"runtime must be 'python', got {runtime!r}", hint="a service of R is not there: dbml.predict"
            )
        script = Path(self.source_directory or ".") / self.entry_script
        if not script.is_file():
            raise UserErrorException(f"the entry script must be a file, got {str(script)!r}", hint=f"ls {script.parent}")
        for name in ("extra_docker_file_steps", "base_image", "cuda_version"):
            if getattr(self, name) is not None:
                warnings.warn(f"{name} has no effect: docker build --build-arg PYTHON_IMAGE=… chooses the base", stacklevel=2)

    def __repr__(self) -> str:
        return f"InferenceConfig(entry_script={self.entry_script}, source_directory={self.source_directory})"

    def build_create_payload(self) -> dict[str, Any]:
        """Return what it says, as JSON has it."""
        return {
            "entryScript": self.entry_script, "sourceDirectory": self.source_directory, "description": self.description,
            "environment": None if self.environment is None else self.environment.name, "condaFile": self.conda_file,
        }  # fmt: skip

    def _registered(self, workspace: Workspace, name: str) -> str | None:
        """Return the reference of the environment, registered where it is not yet; None where none was said."""
        environment = self.environment
        if environment is None and self.conda_file is not None:
            path = Path(self.source_directory or ".") / self.conda_file
            environment = Environment(f"{name}-conda")
            environment.python.conda_dependencies = CondaDependencies(path if path.is_file() else self.conda_file)
        if environment is None or environment.python.user_managed_dependencies:
            return None
        return (environment if environment._row is not None else environment.register(workspace))._reference
