"""A script with all that it needs to be run: its folder, its arguments, where and with which packages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml.core.runconfig import DockerConfiguration, MpiConfiguration, RunConfiguration
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.core.compute_target import ComputeTarget
    from dbml.core.environment import Environment


class ScriptRunConfig:
    """A script to be submitted: `Experiment.submit` runs it in the worker.

    source_directory: the folder that goes with it.  script: its path in that folder.  arguments: what it gets as sys.argv.
    compute_target: a target or its name; every one is the worker.  environment: the packages; the worker's own by default.
    Raises: UserErrorException where the folder or the script is not there, or both script and command are given.
    """

    def __init__(
        self, source_directory: str | os.PathLike[str], script: str | None = None, arguments: Sequence[Any] | None = None,
        run_config: RunConfiguration | None = None, _telemetry_values: Any = None,
        compute_target: ComputeTarget | str | None = None, environment: Environment | None = None,
        distributed_job_config: MpiConfiguration | None = None, resume_from: Any = None,
        max_run_duration_seconds: int | None = None, command: str | Sequence[str] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
    ) -> None:  # fmt: skip
        if command is not None and script is not None:
            raise UserErrorException("either script or command must be given, not both")
        self.source_directory = str(source_directory)
        folder = Path(self.source_directory)
        if not folder.is_dir():
            raise UserErrorException(f"source_directory must be a folder, got {self.source_directory!r}")
        self.run_config = RunConfiguration() if run_config is None else run_config._copy()
        self.script = script if script is not None or command is not None else self.run_config.script
        self.command = command
        self.arguments: list[Any] = [*(arguments if arguments is not None else self.run_config.arguments)]
        if self.script is not None and not (folder / self.script).is_file():
            raise UserErrorException(f"script must be a file in {self.source_directory!r}, got {self.script!r}")
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        if max_run_duration_seconds is not None:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds
        if distributed_job_config is not None:
            self.run_config.mpi = distributed_job_config
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        if self.script is not None:
            self.run_config.script = self.script
        self.run_config.arguments, self.run_config.command = [*self.arguments], command
        self.resume_from = resume_from

    def __repr__(self) -> str:
        return (
            f"ScriptRunConfig(source_directory={self.source_directory!r}, script={self.script!r}, arguments={self.arguments!r})"
        )
