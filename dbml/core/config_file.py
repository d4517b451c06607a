"""config.json: which workspace a folder works with, and in which database.

Looked for as azureml-core does: in the folder given or the current one and its parents, as it is, in .azureml/ and in
aml_config/.  A key `dsn` beside the usual three says where the database is; a password in it is the user's to keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbml.exceptions import UserErrorException

NAME = "config.json"
FOLDERS = ("", ".azureml", "aml_config")


def find(path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> Path:
    """Return the config file: the path itself, or the nearest one from that folder upwards.

    Raises: UserErrorException where there is none.
    """
    start = Path(path).expanduser() if path is not None else Path.cwd()
    if start.is_file():
        return start
    name = file_name or NAME
    folder = start.resolve()
    for place in (folder, *folder.parents):
        for sub in FOLDERS:
            if (place / sub / name).is_file():
                return place / sub / name
    raise UserErrorException(
        f"a workspace's {name} must be in {folder} or a folder above it, in .azureml/ or aml_config/ of one",
        hint="Workspace.create(name='churn').write_config() writes one",
    )


def read(file: Path) -> Mapping[str, Any]:
    """Return what a config file says.

    Raises: UserErrorException where it is no JSON object with a workspace_name.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserErrorException(f"{file} must be a JSON object: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("workspace_name"), str):
        raise UserErrorException(f"{file} must be a JSON object with a workspace_name")
    return found


def write(folder: Path, file_name: str | None, content: Mapping[str, Any]) -> Path:
    """Write a config file into .azureml/ of a folder, for the user alone to read; returns its path."""
    file = folder / FOLDERS[1] / (file_name or NAME)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(dict(content), stream, indent=4, ensure_ascii=False)
        stream.write("\n")
    partial.replace(file)
    return file
