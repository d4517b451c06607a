"""The plan of an export: everything that an image is made of, and its digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

Content = Callable[[], Iterable[bytes]]  # a file's bytes, part by part, as often as they are asked for

_LABEL = re.compile(r"[^a-z0-9.-]+")


@dataclass(frozen=True)
class File:
    """A file of a model or of a source folder: its digest, its size in bytes, and how to read it."""

    sha256: str
    size: int
    read: Content = field(repr=False, compare=False)

    @classmethod
    def of(cls, content: bytes) -> File:
        """Return a file of bytes that are at hand."""
        return cls(hashlib.sha256(content).hexdigest(), len(content), lambda: (content,))


@dataclass(frozen=True)
class PlannedModel:
    """One version of a model, with its files by relative path."""

    name: str
    version: int
    files: Mapping[str, File]
    format: str = "pickle"
    framework: str | None = None
    framework_version: str | None = None
    digest: str | None = None
    signature: Mapping[str, Any] = field(default_factory=dict)
    workspace: str | None = None
    run_id: str | None = None
    description: str | None = None

    @property
    def reference(self) -> str:
        """Return name:version."""
        return f"{self.name}:{self.version}"

    def told(self) -> dict[str, Any]:
        """Return what service.json says of it."""
        return {
            "name": self.name, "version": self.version, "format": self.format, "framework": self.framework,
            "framework_version": self.framework_version, "digest": self.digest, "signature": dict(self.signature),
            "workspace": self.workspace, "run_id": self.run_id,
        }  # fmt: skip


def own_script(model: PlannedModel) -> str:
    """Return where a model's own score.py is, among those of several models of a service."""
    return f"{model.name.replace('/', '_')}-{model.version}/score.py"


@dataclass(frozen=True)
class Plan:
    """What a service is made of.

    source: the files of the score.py's folder by relative path; entry_script: which of them it is.
    lock: exact requirements with hashes, a pip requirements text; python_version: '3.11', what the lock is for.
    """

    name: str
    version: str
    models: tuple[PlannedModel, ...]
    source: Mapping[str, File]
    entry_script: str
    lock: str
    python_version: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse paths that lead out of the export's folder."""
        for path in [*self.source, self.entry_script, *(path for model in self.models for path in model.files)]:
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\x00" in path:
                raise ValueError(f"a file's path must stay in the export's folder, got {path!r}")
        if self.entry_script not in self.source:
            raise ValueError(
                f"the entry script {self.entry_script!r} must be one of the source's files, got {', '.join(self.source)}"
            )

    def service_json(self) -> dict[str, Any]:
        """Return service.json, as `dbml.serving.app.manifest` reads it."""
        first = self.models[0] if self.models else None
        if len(self.models) > 1 and all(own_script(model) in self.source for model in self.models):
            scripts = [
                {"name": model.name, "version": model.version, "entry_script": f"source/{own_script(model)}",
                 "models": [model.reference]} for model in self.models
            ]  # fmt: skip
            return self._told(scripts)
        script = {
            "name": first.name if first is not None and len(self.models) == 1 else self.name,
            "version": first.version if first is not None and len(self.models) == 1 else 1,
            "entry_script": f"source/{self.entry_script}", "models": [model.reference for model in self.models],
        }  # fmt: skip
        return self._told([script])

    def _told(self, scripts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": self.name, "version": self.version, "models": [model.told() for model in self.models], "scripts": scripts,
        }  # fmt: skip

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all that goes in, in hex, but for the service's version: the same plan makes the same image."""
        service = self.service_json()
        del service["version"]
        told = {
            "service": service, "lock": self.lock, "python": self.python_version,
            "source": {path: file.sha256 for path, file in sorted(self.source.items())},
            "models": {m.reference: {path: file.sha256 for path, file in sorted(m.files.items())} for m in self.models},
        }  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def labels(self) -> dict[str, str]:
        """Return the image's labels: model, version, digest, run, workspace."""
        found = {
            "org.opencontainers.image.title": self.name, "org.opencontainers.image.version": self.version,
            "dbml.service": self.name, "dbml.plan": self.digest,
        }  # fmt: skip
        for model in self.models[:1]:
            told = {
                "dbml.model": model.name, "dbml.model.version": str(model.version), "dbml.model.digest": model.digest,
                "dbml.run": model.run_id, "dbml.workspace": model.workspace,
            }  # fmt: skip
            found |= {name: value for name, value in told.items() if value is not None}
        if len(self.models) > 1:
            found["dbml.models"] = ",".join(model.reference for model in self.models)
        return found | {f"dbml.tag.{name}": value for name, value in self.tags.items()}

    @property
    def dns_name(self) -> str:
        """Return the service's name as hosts and Kubernetes take it: a-z, 0-9 and -."""
        return _LABEL.sub("-", self.name.lower()).replace(".", "-").strip("-")[:53] or "service"


def packages(lock: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the packages of a lock: name, version, SHA-256 of its files."""
    found = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", block)
        if match:
            found.append((match[1], match[2], tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))))
    return found
