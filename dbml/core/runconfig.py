"""How a script is to be run: its target, its environment, its arguments.  A description; `Experiment.submit` runs it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbml.core.environment import Environment
from dbml.exceptions import RunConfigurationException

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.3-cudnn8-ubuntu20.04"


class DockerConfiguration:
    """Whether a container was asked for; it has no effect, the worker's sandbox takes its place."""

    def __init__(
        self, use_docker: bool = False, shared_volumes: bool = True, arguments: Sequence[str] = (), shm_size: str | None = None
    ) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = [*arguments]
        self.shm_size = shm_size


class MpiConfiguration:
    """Several processes by MPI: not there; `parallel` of dbml.run_script runs several."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = process_count_per_node
        self.node_count = node_count


class HistoryConfiguration:
    """What is kept of a run."""

    def __init__(self) -> None:
        self.output_collection = True
        self.snapshot_project = True
        self.directories_to_watch = ["logs"]


class RunConfiguration:
    """How a script is to be run, as far as the worker can: script, arguments, target, environment, variables, the longest time.

    target: a compute target or its name; "local" is the worker too.
    """

    def __init__(
        self, script: str | None = None, arguments: Sequence[Any] | None = None, framework: str | None = None,
        communicator: str | None = None, conda_dependencies: Any = None, _history_enabled: bool | None = None,
        _path: str | None = None, _name: str | None = None, command: str | Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.script = script or "train.py"
        self.arguments: list[Any] = [*(arguments or ())]
        self.command = command
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target: Any = "local"
        self.node_count = 1
        self.max_run_duration_seconds: int | None = None
        self.environment = Environment("default")
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self.environment_variables: dict[str, str] = {}
        self.history = HistoryConfiguration()
        self.docker = DockerConfiguration()
        self.mpi = MpiConfiguration()
        self.data: dict[str, Any] = {}
        self.data_references: dict[str, Any] = {}
        self.output_data: dict[str, Any] = {}
        self.source_directory_data_store: str | None = None

    def __repr__(self) -> str:
        return f"RunConfiguration(script={self.script!r}, target={self._target_name!r}, environment={self.environment.name!r})"

    @property
    def _target_name(self) -> str:
        return str(getattr(self.target, "name", self.target))

    def save(
        self, path: str | os.PathLike[str] | None = None, name: str | None = None, separate_environment_yaml: bool = False
    ) -> None:
        """Write it as .azureml/NAME.runconfig under a folder, the current one by default."""
        import yaml

        file = Path(path or ".") / ".azureml" / f"{name or 'run'}.runconfig"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(self._as_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str | None = None) -> RunConfiguration:
        """Return what `save` wrote: a file, or that of a name under a folder.

        Raises: RunConfigurationException where there is none.
        """
        import yaml

        place = Path(path)
        file = place if place.is_file() else place / ".azureml" / f"{name or 'run'}.runconfig"
        try:
            said: Mapping[str, Any] = yaml.safe_load(file.read_text("utf-8"))
            made = cls(said["script"], said["arguments"], said["framework"], command=said.get("command"))
        except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
            raise RunConfigurationException(
                f"a run configuration must be a file that save() wrote, {file} is none: {error}"
            ) from None
        made.target = said["target"]
        made.node_count = said.get("nodeCount", 1)
        made.max_run_duration_seconds = said.get("maxRunDurationSeconds")
        made.environment_variables = dict(said.get("environmentVariables", {}))
        environment = said.get("environment", {})
        made.environment = Environment(environment.get("name", "default"), version=environment.get("version"))
        if "condaDependencies" in environment:
            from dbml.core.conda_dependencies import CondaDependencies

            made.environment.python.conda_dependencies = CondaDependencies(_underlying_structure=environment["condaDependencies"])
        return made

    def _as_dict(self) -> dict[str, Any]:
        return {
            "script": self.script, "arguments": [str(argument) for argument in self.arguments], "framework": self.framework,
            "command": self.command if self.command is None or isinstance(self.command, str) else [*self.command],
            "target": self._target_name, "nodeCount": self.node_count, "maxRunDurationSeconds": self.max_run_duration_seconds,
            "environmentVariables": dict(self.environment_variables),
            "environment": {
                "name": self.environment.name, "version": self.environment.version,
                "condaDependencies": self.environment.python.conda_dependencies.as_dict(),
            },
        }  # fmt: skip

    def _copy(self) -> RunConfiguration:
        made = copy.copy(self)
        made.arguments, made.environment_variables = [*self.arguments], dict(self.environment_variables)
        return made
