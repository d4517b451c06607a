"""A service: its scripts, loaded, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbml.serving.app.manifest import Manifest, read_manifest
from dbml.serving.app.problems import BadRequest, UnknownModel
from dbml.serving.app.rows import Rows
from dbml.serving.app.scoring import Limits, Scoring
from dbml.serving.app.scripts import Script

METHODS = ("predict", "predict_proba", "decision_function", "predict_log_proba", "transform", "score_samples")


class Service:
    """The loaded scripts of a folder with a service.json.

    Raises: ServiceInvalid where the folder is not whole or a script does not load.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.scripts = [Script(entry) for entry in self.manifest.scripts]
        self.scoring = Scoring(limits)
        self.ready = True

    @property
    def default(self) -> Script:
        """Return the script that answers where a path names none."""
        return self.scripts[0]

    def find(self, name: str | None, version: str | None = None) -> Script:
        """Return a script by the name that a path gives.

        Raises: UnknownModel, which names those that are there.
        """
        if name is None:
            return self.default
        for script in self.scripts:
            if script.name == name and version in (None, str(script.version)):
                return script
        known = ", ".join(f"{script.name} version {script.version}" for script in self.scripts)
        wanted = name if version is None else f"{name} version {version}"
        raise UnknownModel(f"model {wanted} is not served here, but {known}")

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are served."""
        return [str(script.version) for script in self.scripts if script.name == name]

    def models(self) -> Iterator[Any]:
        """Yield every model's entry."""
        for script in self.scripts:
            yield from script.entry.models

    async def score(self, script: Script, rows: Rows, method: str = "predict") -> tuple[Any, float]:
        """Score rows as the signature wants them; returns the scores and the seconds of user code.

        Raises: BadRequest for rows that do not fit, and where a model of ours refuses their values.
        """
        if method not in METHODS:
            raise BadRequest(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if len(rows) == 0:
            return [], 0.0
        rows = script.expected.fit(rows)
        return await self.scoring.predict(script, rows, method)

    def close(self) -> None:
        """Take no more calls."""
        self.ready = False
        self.scoring.close()
