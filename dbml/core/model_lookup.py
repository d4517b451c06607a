"""How a model is asked for: versions, tags, its place in a service, and a warning about its framework's version."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbml import errors


def version_number(version: int | str | None) -> int | None:
    """Return a version as a number.

    Raises: InvalidArgument where it is none.
    """
    if version is None:
        return None
    try:
        return int(version)
    except ValueError:
        raise errors.InvalidArgument(f"a model's version must be a number, got {version!r}") from None


def asked_pairs(asked: Any) -> dict[str, Any] | None:
    """Return tags or properties that are asked for: 'name', ['name', 'value'], [['name', 'value'], 'name'], or a mapping."""
    if not asked:
        return None
    if isinstance(asked, Mapping):
        return dict(asked)
    if isinstance(asked, str):
        return {asked: None}
    found: dict[str, Any] = {}
    for one in asked:
        if isinstance(one, str):
            found[one] = None
        else:
            found[str(one[0])] = one[1]
    # ['name', 'value'] is one pair, as the SDK reads it.
    if len(asked) == 2 and all(isinstance(one, str) for one in asked):
        return {asked[0]: asked[1]}
    return found


def in_service(folder: Path, name: str, version: int | str | None) -> Path | None:
    """Return the model's place under the folder that a service was given, None where it is not there."""
    if folder.name.isdigit() and folder.parent.name == name and version in (None, folder.name, int(folder.name)):
        chosen = folder
    else:
        versions = sorted((path for path in (folder / name).glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
        if version is not None:
            versions = [path for path in versions if path.name == str(version)]
        if not versions:
            return None
        chosen = versions[-1]
    inside = list(chosen.iterdir())
    return inside[0] if len(inside) == 1 else chosen


def warn_of_another_version(framework: str | None, said: str | None) -> None:
    """Warn where a model is said to be of another version of scikit-learn than is installed here; it never blocks."""
    if framework != "ScikitLearn" or said is None:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        here = version("scikit-learn")
    except PackageNotFoundError:
        return
    if here != said:
        warnings.warn(
            f"the model is registered as of scikit-learn {said}, and {here} is installed here; the version is kept as given",
            stacklevel=3,
        )  # fmt: skip
