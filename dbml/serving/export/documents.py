"""Manifests as files, each beside or instead of the folder that its image is built from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dbml.serving.export import manifests
from dbml.serving.export.dockerfile import PORT
from dbml.serving.export.manifests import Resources
from dbml.serving.export.plan import Plan

_HEAD = "# Made by dbml for {name} version {version}.\n"


def image_name(plan: Plan, registry: str | None = None) -> str:
    """Return the tag under which a plan's image goes where none is given: name:version, behind a registry's name."""
    tag = f"{plan.dns_name}:{plan.version}"
    return f"{registry.rstrip('/')}/{tag}" if registry else tag


def write_compose(plan: Plan, folder: Path, image: str, *, port: int = PORT, resources: Resources | None = None) -> Path:
    """Write docker-compose.yml into an exported folder; returns its path."""
    return _write(plan, folder / "docker-compose.yml", [manifests.compose(plan, image, port, resources)])


def write_kubernetes(
    plan: Plan, folder: Path, image: str, *, resources: Resources | None = None, namespace: str | None = None
) -> Path:
    """Write kubernetes.yaml, a Deployment, a Service and an autoscaler, for `kubectl apply -f`."""
    return _write(plan, folder / "kubernetes.yaml", manifests.kubernetes(plan, image, resources, namespace))


def write_kserve(
    plan: Plan, folder: Path, image: str, *, resources: Resources | None = None, namespace: str | None = None
) -> Path:
    """Write kserve.yaml, an InferenceService, for `kubectl apply -f`."""
    return _write(plan, folder / "kserve.yaml", [manifests.kserve(plan, image, resources, namespace)])


def write_iot_edge(plan: Plan, file: Path, image: str, *, resources: Resources | None = None) -> Path:
    """Write a deployment manifest of Azure IoT Edge."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(manifests.iot_edge(plan, image, resources), indent=2) + "\n", encoding="utf-8")
    return file


def _write(plan: Plan, file: Path, documents: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
    file.write_text(_HEAD.format(name=plan.name, version=plan.version) + text, encoding="utf-8")
    return file
