"""From a workspace's models to plans of services, by an inference config or without; and plans kept as images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbml.core import transfer
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.core.inference_config import InferenceConfig
    from dbml.core.model import Model
    from dbml.core.workspace import Workspace
    from dbml.serving.export.plan import File, Plan
    from dbml.serving.plans.making import Made


def plan_models(
    workspace: Workspace, models: Sequence[Model | str], config: InferenceConfig | None = None, *, name: str | None = None,
    tags: Mapping[str, str] | None = None, show: bool = False, locked: bool = True,
) -> Made:  # fmt: skip
    """Return the plan of models with what scores them; without a config score.py and environment are made.

    locked: False: for the packages that are here, whatever environment the config has.
    Raises: UserErrorException where there is no model; what `dbml.serving.plans.making.make` raises.
    """
    from dbml.serving.plans import making

    if not models:
        raise UserErrorException("a model at least must be given, got none", hint="Model.list(workspace)")
    references = [model if isinstance(model, str) else model.id for model in models]
    source: Mapping[str, File] = {}
    entry, environment = making.GENERATED, None
    if config is not None:
        folder = config.source_directory
        source, entry = making.source_of(Path(config.entry_script), None if folder is None else Path(folder))
        source = {**source, **_beside(config._beside)}
        environment = config._registered(workspace, name or references[0].partition(":")[0]) if locked else None
    wish = making.Wish(references, source, entry, environment=environment, name=name, tags=dict(tags or {}))
    return making.make(workspace._connection.do_again, workspace.name, wish, locked=locked, say=print if show else lambda _: None)


def _beside(paths: Sequence[str]) -> dict[str, File]:
    from dbml.serving.plans import making

    found: dict[str, File] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found |= {f"{path.name}/{inside}": file for inside, file in making.files_of(path).items()}
        else:
            found |= making.source_of(path)[0]
    return found


def keep_plan(
    workspace: Workspace, made: Made, *, name: str | None = None, description: str | None = None,
    properties: Mapping[str, str] | None = None,
) -> Plan:  # fmt: skip
    """Keep a plan as the next version of an image, and return it under its name and version."""
    from dbml.serving.plans import making

    return making.keep(
        workspace._connection.do, workspace.name, made, name=name, description=description, properties=properties,
        upload=partial(_upload, workspace),
    )  # fmt: skip


def _upload(workspace: Workspace, files: Mapping[str, File]) -> None:
    transfer.upload(workspace._connection, [io.BytesIO(b"".join(file.read())) for file in files.values()])
