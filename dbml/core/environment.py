"""Environments: packages that scripts and models run with, locked by the worker and kept in the database.

What is said of images and variables is kept with the environment and shown in `dbml.environments.definition`; the worker
builds no images.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dbml.core import stand_in
from dbml.core.conda_dependencies import CondaDependencies
from dbml.exceptions import UserErrorException
from dbml.store.client import environments
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace


class PythonSection:
    """The Python side: which packages, or that the user sees to them."""

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.conda_dependencies_file: str | None = None
        self.base_conda_environment: str | None = None
        self.conda_dependencies = CondaDependencies.create()


class DockerSection:
    """What was said of an image; kept, and not used by the worker."""

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.base_image_registry: Any = None
        self.platform: Any = None
        self.arguments: list[str] = []
        self.shared_volumes = True
        self.gpu_support = False
        self.shm_size: str | None = None


class Environment:
    """Packages and variables under a name; `register` locks the packages as the next version.

    name: 1 to 255 characters, none of : @ /.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        self.version: str | None = kwargs.get("version")
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}
        self.inferencing_stack_version: str | None = None
        self.spark: Any = None
        self.r: Any = None
        self._row: Row | None = None
        self._spec: str | None = None  # a text that is no conda file: a requirements.txt, a pyproject.toml

    def __repr__(self) -> str:
        return f"Environment(Name: {self.name},\nVersion: {self.version})"

    @property
    def _reference(self) -> str:
        return self.name if self.version is None else f"{self.name}:{self.version}"

    @property
    def lock(self) -> str | None:
        """Return every package with its version and hashes; None where it is not registered."""
        return None if self._row is None else str(self._row["lock"])

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | int | None = None, label: str | None = None) -> Environment:
        """Return an environment of a workspace: a version, or the newest.

        In a program that was written for azureml, one of the AzureML-… that its cloud has is the worker's own packages.
        Raises: UserErrorException where there is none.
        """
        number = None if version is None else int(version)
        rows = workspace._connection.do_again(environments.list_all, workspace.name, name=name, version=number)
        if not rows and stand_in.is_curated(name):
            return Environment(name)
        if not rows:
            wanted = name if version is None else f"{name}:{version}"
            raise UserErrorException(
                f"environment {wanted!r} is not in workspace {workspace.name!r}",
                hint="Environment(name).register(workspace), or SELECT name, version FROM dbml.environments",
            )
        return Environment._of(rows[0])

    @staticmethod
    def list(workspace: Workspace) -> dict[str, Environment]:
        """Return the newest version of each environment by name."""
        rows = workspace._connection.do_again(environments.list_all, workspace.name)
        found: dict[str, Environment] = {}
        for row in rows:
            found.setdefault(str(row["name"]), Environment._of(row))
        return found

    @classmethod
    def _of(cls, row: Row) -> Environment:
        made = cls(str(row["name"]))
        made._row = row
        made.version = str(row["version"])
        definition = row["definition"] or {}
        made.environment_variables = dict(definition.get("environmentVariables", {}))
        for name, value in definition.get("docker", {}).items():
            setattr(made.docker, name, value)
        said = definition.get("condaDependencies")
        if row["format"] == "conda" or said is not None:
            import yaml

            made.python.conda_dependencies = CondaDependencies(_underlying_structure=said or yaml.safe_load(row["spec"]))
        else:
            made._spec = str(row["spec"])
            packages = [line for line in made._spec.splitlines() if line.strip() and not line.lstrip().startswith(("#", "["))]
            if row["format"] == "requirements":
                made.python.conda_dependencies = CondaDependencies.create(
                    pip_packages=packages, python_version=row["python_version"]
                )  # fmt: skip
        return made

    def register(self, workspace: Workspace) -> Environment:
        """Have the worker lock the packages as the next version, and return the environment as it is then.

        The same packages with the same lock are the version that is there.  Packages azureml-… are left out: dbml stands for
        them.  With user_managed_dependencies nothing is asked for but the Python version.
        Raises: EnvironmentUnresolvable with the resolver's own words; WorkerUnreachable; InvalidArgument for the name.
        """
        if self._spec is not None:
            spec = self._spec
        elif self.python.user_managed_dependencies:
            spec = CondaDependencies()._to_lock()
        else:
            if self.python.conda_dependencies_file:
                self.python.conda_dependencies = CondaDependencies(self.python.conda_dependencies_file)
            spec = self.python.conda_dependencies._to_lock()
        version = workspace._connection.do(environments.create, workspace.name, self.name, spec)
        workspace._connection.do(environments.define, workspace.name, f"{self.name}:{version}", self._definition())
        registered = Environment.get(workspace, self.name, version)
        self.version, self._row = registered.version, registered._row
        return registered

    def build(self, workspace: Workspace, image_build_compute: str | None = None) -> Environment:
        """Register it; the worker builds it when a script or a model first needs it."""
        return self.register(workspace)

    def _definition(self) -> dict[str, Any]:
        docker = {
            name: value for name, value in vars(self.docker).items()
            if value not in (None, False, [], True) and isinstance(value, str | list)
        }  # fmt: skip
        said: dict[str, Any] = {"environmentVariables": {k: str(v) for k, v in self.environment_variables.items()}}
        if docker:
            said["docker"] = docker
        if self._spec is None and not self.python.user_managed_dependencies:
            said["condaDependencies"] = self.python.conda_dependencies.as_dict()
        return said

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """Make an environment of a conda file.

        Raises: UserErrorException where it is none.
        """
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: str | os.PathLike[str], pip_version: str | None = None) -> Environment:
        """Make an environment of a requirements.txt; options in it other than packages are left out.

        Raises: UserErrorException where the file cannot be read.
        """
        try:
            lines = Path(file_path).read_text("utf-8").splitlines()
        except OSError as error:
            raise UserErrorException(f"a requirements file must be there to be read: {error}") from None
        packages = [line.split(" #")[0].strip() for line in lines]
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies.create(
            pip_packages=[package for package in packages if package and not package.startswith(("#", "-"))]
        )
        return made

    @staticmethod
    def from_docker_image(
        name: str, image: str, container_registry: Any = None, conda_specification: str | None = None,
        pip_requirements: str | None = None,
    ) -> Environment:  # fmt: skip
        """Make an environment that says an image; its packages come from the files, for the worker uses no image."""
        made = Environment(name)
        if conda_specification is not None:
            made = Environment.from_conda_specification(name, conda_specification)
        elif pip_requirements is not None:
            made = Environment.from_pip_requirements(name, pip_requirements)
        made.docker.base_image = image
        return made

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> NoReturn:
        """Refuse: conda is not called; its file can be read."""
        raise NotImplementedError("conda is not called; conda env export > env.yml, then Environment.from_conda_specification")

    @staticmethod
    def from_dockerfile(name: str, dockerfile: str, **kwargs: Any) -> NoReturn:
        """Refuse: no images are built for environments."""
        raise NotImplementedError("environments are locked packages, not images; Environment.from_conda_specification makes one")

    @staticmethod
    def add_private_pip_wheel(workspace: Workspace, file_path: str, exist_ok: bool = False) -> NoReturn:
        """Refuse: the worker takes wheels from a folder of its own."""
        raise NotImplementedError("wheels of yours go into a folder that the worker knows: dbml worker --find-links FOLDER")

    def clone(self, new_name: str) -> Environment:
        """Return a copy under another name, not registered."""
        made = copy.deepcopy(self)
        made.name, made.version, made._row = new_name, None, None
        return made

    def save_to_directory(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write conda_dependencies.yml and azureml_environment.json into a folder.

        Raises: UserErrorException where the folder is there and not to be overwritten.
        """
        import json

        folder = Path(path)
        if folder.exists() and not overwrite:
            raise UserErrorException(f"{folder} exists", hint="save_to_directory(path, overwrite=True)")
        folder.mkdir(parents=True, exist_ok=True)
        self.python.conda_dependencies.save(folder / "conda_dependencies.yml")
        said = {"name": self.name, "version": self.version, **self._definition()}
        (folder / "azureml_environment.json").write_text(json.dumps(said, indent=4), encoding="utf-8")

    @staticmethod
    def load_from_directory(path: str | os.PathLike[str]) -> Environment:
        """Return what `save_to_directory` wrote.

        Raises: UserErrorException where the folder does not hold it.
        """
        import json

        folder = Path(path)
        try:
            said: Mapping[str, Any] = json.loads((folder / "azureml_environment.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserErrorException(f"a folder of save_to_directory must be given, {folder} is none: {error}") from None
        made = Environment(str(said["name"]))
        made.environment_variables = dict(said.get("environmentVariables", {}))
        made.python.conda_dependencies = CondaDependencies(folder / "conda_dependencies.yml")
        for name, value in said.get("docker", {}).items():
            setattr(made.docker, name, value)
        return made
