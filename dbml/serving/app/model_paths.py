"""What score.py imports to find its models: `Model.get_model_path`, under the names users' scripts have.

A script finds it in `azureml.core.model` and `azureml.core`, and under `dbml.core` likewise, where those packages are not
installed themselves.  Of the SDK's Model nothing else is there: an app has files, and no database.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dbml.serving.app.problems import ServiceInvalid
from dbml.serving.app.stand_ins import exists, stand_in

_PACKAGES = ("azureml.core", "dbml.core")


class Model:
    """Models by name, as files beside the app."""

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: object = None) -> str:
        """Return the path of a model's file, or of its folder where it has several; by default of the newest version here.

        Raises: ServiceInvalid where it is not here.
        """
        given = Path(os.environ.get("AZUREML_MODEL_DIR", ""))
        # One model's own folder, …/NAME/VERSION, or the folder of all of them.
        every = given.parent.parent if given.parent.name == model_name else given
        found = sorted((path for path in (every / model_name).glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
        chosen = [path for path in found if version is None or path.name == str(version)]
        if not chosen:
            there = ", ".join(sorted(path.name for path in every.glob("*"))) if given.name else "no AZUREML_MODEL_DIR"
            asked = repr(model_name) if version is None else f"{model_name}:{version}"
            raise ServiceInvalid(f"model {asked} is not served here, but {there}")
        inside = list(chosen[-1].iterdir())
        return str(inside[0] if len(inside) == 1 else chosen[-1])


def answer_imports() -> None:
    """Make the modules that scripts import answer here, where they are not installed."""
    for package in _PACKAGES:
        if exists(f"{package}.model"):
            continue
        parent, _, name = package.partition(".")
        if not exists(parent):
            stand_in(parent)
        core = stand_in(package)
        core.model = stand_in(f"{package}.model")  # type: ignore[attr-defined]
        core.Model = core.model.Model = Model  # type: ignore[attr-defined]
        setattr(sys.modules[parent], name, core)
