"""service.json: what a service's folder holds, and where.

    {"name": "diabetes", "version": 3, "models": [
        {"name": "diabetes", "version": 3, "format": "pickle", "framework": "scikit-learn", "framework_version": "1.9.1",
         "digest": "…", "workspace": "default", "run_id": "…", "signature": {"features": [{"name": "bmi", "type": "float8"}]}}],
     "scripts": [{"name": "diabetes", "version": 3, "entry_script": "source/score.py", "models": ["diabetes:3"]}]}

A model's files are in azureml-models/NAME/VERSION, beside service.json.  A script serves one or more models; the first
script is the service's default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbml.serving.app.problems import ServiceInvalid

MODELS = "azureml-models"
FILE = "service.json"


@dataclass(frozen=True)
class ModelEntry:
    """One version of a model: where its files are, and what is known of it."""

    name: str
    version: int
    folder: Path
    signature: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """Return name:version."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class ScriptEntry:
    """One score.py and the models that it serves; its name is what the dialects call the model."""

    name: str
    version: int
    entry_script: Path
    models: tuple[ModelEntry, ...]
    model_dir: Path  # what AZUREML_MODEL_DIR says

    @property
    def signature(self) -> Mapping[str, Any]:
        """Return the model's signature; a script of several models has none."""
        return self.models[0].signature if len(self.models) == 1 else {}


@dataclass(frozen=True)
class Manifest:
    """What a service's folder holds."""

    name: str
    version: str
    scripts: tuple[ScriptEntry, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read and check the service.json of a folder.

    Raises: ServiceInvalid, which names the file and what is wrong with it.
    """
    path = folder / FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        models = {entry.reference: entry for entry in (_model(folder, model) for model in told["models"])}
        scripts = tuple(_script(folder, entry, models) for entry in told["scripts"])
        manifest = Manifest(str(told["name"]), str(told.get("version", 1)), scripts)
    except OSError as error:
        raise ServiceInvalid(
            f"{path} must be there and readable: {error.strerror}; dbml export MODEL --to DIR makes it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceInvalid(f"{path} is not a service's description: {type(error).__name__}: {error}") from None
    if not scripts:
        raise ServiceInvalid(f"{path} must name at least one script, got none")
    return manifest


def _model(folder: Path, told: Mapping[str, Any]) -> ModelEntry:
    name, version = str(told["name"]), int(told["version"])
    files = folder / MODELS / name / str(version)
    if not files.is_dir():
        raise ServiceInvalid(f"the files of model {name}:{version} must be in {files}, which is no folder")
    return ModelEntry(name, version, files, told.get("signature") or {}, told)


def _script(folder: Path, told: Mapping[str, Any], models: Mapping[str, ModelEntry]) -> ScriptEntry:
    path = folder / told["entry_script"]
    if not path.is_file():
        raise ServiceInvalid(f"the entry script must be at {path}, which is no file")
    served = tuple(models[reference] for reference in told["models"])
    # As azureml has it: one model's own folder, or the folder of all of them.
    model_dir = served[0].folder if len(served) == 1 else folder / MODELS
    return ScriptEntry(str(told["name"]), int(told.get("version", 1)), path, served, model_dir)
