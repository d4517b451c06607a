"""Packages of an environment, in the form of conda's environment.yml; the worker resolves them with pip's index.

Nothing is resolved here: `Environment.register` has the packages locked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dbml.exceptions import UserErrorException

# Packages that dbml itself stands for; an environment needs none of them.
_ANSWERED = re.compile(r"^azureml(-[a-z0-9-]+)?(\[.*\])?\s*([=<>~!].*)?$", re.IGNORECASE)


class CondaDependencies:
    """A list of conda and pip packages, and the Python version.

    conda_dependencies_file_path: an environment.yml to begin with.
    Raises: UserErrorException where that is none.
    """

    DEFAULT_NUMBER_OF_CONDA_PACKAGES = 0

    def __init__(
        self,
        conda_dependencies_file_path: str | os.PathLike[str] | None = None,
        _underlying_structure: Mapping[str, Any] | None = None,
    ) -> None:
        said: Mapping[str, Any] = _underlying_structure or {}
        if conda_dependencies_file_path is not None:
            said = _read(Path(conda_dependencies_file_path))
        self._name: str | None = said.get("name")
        self._channels: list[str] = [str(channel) for channel in said.get("channels", ["conda-forge"])]
        self._conda: list[str] = []
        self._pip: list[str] = []
        for dependency in said.get("dependencies", []):
            if isinstance(dependency, Mapping):
                self._pip += [str(package) for package in dependency.get("pip", [])]
            else:
                self._conda.append(str(dependency))
        if not any(_base(package) == "python" for package in self._conda):
            self._conda.insert(0, f"python={sys.version_info[0]}.{sys.version_info[1]}")

    @staticmethod
    def create(
        pip_indexurl: str | None = None, pip_packages: Sequence[str] | None = None, conda_packages: Sequence[str] | None = None,
        python_version: str | None = None, pin_sdk_version: bool = True,
    ) -> CondaDependencies:  # fmt: skip
        """Make dependencies of packages; python_version: that of this process where it is None.

        pip_indexurl: kept in the text, and not used by the worker, which has an index of its own.
        """
        made = CondaDependencies()
        if python_version is not None:
            made.set_python_version(python_version)
        for package in conda_packages or ():
            made.add_conda_package(package)
        for package in pip_packages or ():
            made.add_pip_package(package)
        if pip_indexurl:
            made.set_pip_index_url(f"--index-url {pip_indexurl}")
        return made

    def __repr__(self) -> str:
        return f"CondaDependencies({self._conda + self._pip})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and other.as_dict() == self.as_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def conda_packages(self) -> Iterable[str]:
        """Return the conda packages, Python among them."""
        return list(self._conda)

    @property
    def pip_packages(self) -> Iterable[str]:
        """Return the pip packages, without options."""
        return [package for package in self._pip if not package.startswith("-")]

    @property
    def pip_options(self) -> Iterable[str]:
        """Return the options of pip."""
        return [package for package in self._pip if package.startswith("-")]

    @property
    def conda_channels(self) -> Iterable[str]:
        """Return the channels."""
        return list(self._channels)

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip package, in the place of one of that name."""
        self.remove_pip_package(pip_package)
        self._pip.append(pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a pip package by its name, whatever version stands there."""
        self._pip = [package for package in self._pip if _base(package) != _base(pip_package)]

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda package, in the place of one of that name."""
        self.remove_conda_package(conda_package)
        self._conda.append(conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda package by its name."""
        self._conda = [package for package in self._conda if _base(package) != _base(conda_package)]

    def add_channel(self, channel: str) -> None:
        """Add a channel."""
        if channel not in self._channels:
            self._channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel."""
        self._channels = [known for known in self._channels if known != channel]

    def set_python_version(self, version: str) -> None:
        """Set the Python version, such as 3.11."""
        self.remove_conda_package("python")
        self._conda.insert(0, f"python={version}")

    def get_python_version(self) -> str | None:
        """Return the Python version, None where none is asked for."""
        for package in self._conda:
            if _base(package) == "python":
                return re.sub(r"^python\s*[=<>~!]*\s*", "", package) or None
        return None

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of pip, in the place of one of that name."""
        name = pip_option.split()[0]
        self._pip = [package for package in self._pip if package.split()[0] != name]
        self._pip.append(pip_option)

    def set_pip_index_url(self, index_url: str) -> None:
        """Set the index, as an option of pip."""
        self.set_pip_option(index_url if index_url.startswith("-") else f"--index-url {index_url}")

    def set_pip_requirements(self, pip_requirements: Sequence[str]) -> None:
        """Replace the pip packages."""
        self._pip = [*pip_requirements]

    def as_dict(self) -> dict[str, Any]:
        """Return what environment.yml would hold."""
        dependencies: list[Any] = list(self._conda)
        if self._pip:
            dependencies.append({"pip": list(self._pip)})
        named = {"name": self._name} if self._name else {}
        return {**named, "channels": list(self._channels), "dependencies": dependencies}

    def serialize_to_string(self) -> str:
        """Return the text of environment.yml."""
        import yaml

        return str(yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True))

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write environment.yml, by default as conda_dependencies.yml in the current folder; returns the path."""
        place = Path(path or "conda_dependencies.yml")
        place.write_text(self.serialize_to_string(), encoding="utf-8")
        return str(place)

    def save_to_file(self, base_directory: str | os.PathLike[str], conda_file_path: str | None = None) -> str:
        """Write environment.yml into a folder; returns the file's name."""
        name = conda_file_path or "conda_dependencies.yml"
        self.save(Path(base_directory) / name)
        return name

    def _to_lock(self) -> str:
        """Return the text to be resolved: without what dbml stands for, and without pip's options."""
        answered = [package for package in self._pip if not package.startswith("-") and not _ANSWERED.match(package)]
        return CondaDependencies(
            _underlying_structure={
                "channels": self._channels,
                "dependencies": [*self._conda, *([{"pip": answered}] if answered else [])],
            }
        ).serialize_to_string()


def _base(package: str) -> str:
    """Return a package's name without version and extras."""
    return re.split(r"[\s=<>~!\[;@]", package.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _read(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        said = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserErrorException(f"a conda file must be YAML that can be read, {file} is not: {error}") from None
    if not isinstance(said, Mapping) or not isinstance(said.get("dependencies", []), list):
        raise UserErrorException(f"a conda file must have a list of dependencies, {file} has not")
    return said
