"""Specifications of environments: what the user wrote, in one of three formats, as requirements.

    requirements    pip's requirements.txt, without options
    conda           environment.yml: translated to the names and operators of PyPI
    pyproject       pyproject.toml: [project] dependencies and requires-python

Which one it is, the text itself tells.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from dbml import errors
from dbml.worker.environments import conda

LONGEST = 256 * 1024  # characters; PyYAML is slow, and a list of packages is short

Format = Literal["requirements", "conda", "pyproject"]

_CONDA_KEY = re.compile(r"^dependencies\s*:", re.MULTILINE)
_PYPROJECT_TABLE = re.compile(r"^\s*\[\s*project\s*\]", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s+)#.*$")  # pip's own


@dataclass(frozen=True)
class Specification:
    """What a specification asks for.

    requirements: as PEP 508 has them.  python: the Python versions that it allows, '' for any.
    properties: what was noted and has no effect here: a conda file's name, channels and builds.
    """

    format: Format
    requirements: tuple[str, ...]
    python: SpecifierSet
    properties: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Specification:
    """Read a specification.

    Raises: errors.EnvironmentUnresolvable, which names the line or the package that is no requirement.
    """
    if len(text) > LONGEST:
        raise errors.InvalidArgument(f"a specification must have {LONGEST} characters at the most, got {len(text)}")
    if _PYPROJECT_TABLE.search(text):
        return _parse_pyproject(text)
    if _CONDA_KEY.search(text):
        return _parse_conda(text)
    return _parse_requirements(text)


def _parse_requirements(text: str) -> Specification:
    found = []
    joined = re.sub(r"\\\r?\n", "", text)
    for number, line in enumerate(joined.splitlines(), start=1):
        plain = _COMMENT.sub("", line).strip()
        if plain:
            found.append(_requirement(plain, f"line {number}"))
    return Specification("requirements", tuple(found), SpecifierSet())


def _parse_pyproject(text: str) -> Specification:
    try:
        project = tomllib.loads(text).get("project")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unresolvable(f"the specification is no TOML: {error}") from None
    if not isinstance(project, dict):
        raise _unresolvable("project must be a table")
    if "dependencies" in _texts(project.get("dynamic", []), "dynamic"):
        raise _unresolvable(
            "dependencies must be listed, and this pyproject says that they are dynamic",
            hint="give a requirements text: what the build of the project would make of them",
        )
    python = project.get("requires-python", "")
    return Specification(
        "pyproject",
        tuple(_requirement(item, "dependencies") for item in _texts(project.get("dependencies", []), "dependencies")),
        _python_range(python, "requires-python"),
        {"project": project["name"]} if isinstance(project.get("name"), str) else {},
    )


def _parse_conda(text: str) -> Specification:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _unresolvable(f"the specification is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("dependencies"), list):
        raise _unresolvable("dependencies must be a list of packages")
    properties: dict[str, Any] = {}
    if content.get("name") is not None:
        properties["name"] = str(content["name"])
    if content.get("channels"):
        properties["channels"] = _texts(content["channels"], "channels")
    found: list[str] = []
    pythons: list[str] = []
    notes = conda.Notes()
    for item in content["dependencies"]:
        if isinstance(item, dict) and set(item) == {"pip"}:
            found += [_requirement(line, "pip") for line in _texts(item["pip"] or [], "pip")]
        elif isinstance(item, str):
            try:
                name, specifier = conda.translate(item, notes)
            except ValueError as error:
                raise _unresolvable(str(error), hint="leave it out, or list what PyPI calls it under pip:") from None
            if name == "python":
                pythons.append(specifier)
            elif name is not None:
                found.append(_requirement(name + specifier, "dependencies"))
        else:
            raise _unresolvable(f"a dependency must be a package or a list under pip:, got {str(item)[:80]}")
    properties |= notes.properties()
    return Specification("conda", tuple(found), _python_range(",".join(filter(None, pythons)), "python"), properties)


def _requirement(text: str, place: str) -> str:
    """Check one requirement; what would make uv read files or addresses of the user's choice is refused."""
    if text.startswith("-"):
        raise _unresolvable(
            f"a specification must hold requirements and no options, got {text[:80]!r} ({place})",
            hint="indexes and directories of wheels are the worker's: dbml worker --find-links DIR",
        )
    if " --" in text:
        raise _unresolvable(
            f"a requirement must have no options, got {text[:80]!r} ({place})",
            hint="leave --hash out: the lock gets the hashes of what is resolved",
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _unresolvable(f"{text[:80]!r} is no requirement ({place}): {' '.join(str(error).split())}") from None
    if requirement.url is not None:
        raise _unresolvable(
            f"a requirement must come from an index or a directory of the worker's, got {text[:80]!r} ({place})",
            hint="put the wheel into a directory that the worker knows: dbml worker --find-links DIR",
        )
    return str(requirement)


def _python_range(text: Any, place: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise _unresolvable(f"{place} must be a range of versions, got {str(text)[:80]!r}") from None


def _texts(value: Any, what: str) -> list[str]:
    if not isinstance(value, Iterable) or isinstance(value, str | dict) or not all(isinstance(item, str) for item in value):
        raise _unresolvable(f"{what} must be a list of texts, got {str(value)[:80]!r}")
    return list(value)


def _unresolvable(message: str, hint: str | None = None) -> errors.EnvironmentUnresolvable:
    return errors.EnvironmentUnresolvable(message, hint=hint)
