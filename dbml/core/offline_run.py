"""A run outside of any: what `Run.get_context` returns on a desk, so that a script runs there unchanged.

It prints what is logged, remembers it for `get_metrics`, and keeps nothing anywhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from dbml.core import metric_values
from dbml.core.run_logging import RunLogging
from dbml.exceptions import RunEnvironmentException
from dbml.store.client.rows import Row


class OfflineRun(RunLogging):
    """A run that is kept nowhere; it has the methods of `Run` that a script calls."""

    def __init__(self) -> None:
        self.id = f"OfflineRun_{uuid.uuid4()}"
        self._logged: list[Row] = []
        self._tags: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self._status = "Running"
        self.input_datasets: dict[str, Any] = {}
        self.output_datasets: dict[str, Any] = {}
        self.parent: None = None

    def __repr__(self) -> str:
        return f"OfflineRun(Id: {self.id}, Status: {self._status})"

    def __enter__(self) -> OfflineRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._status = "Completed" if error is None else "Failed"

    @property
    def experiment(self) -> Any:
        """Refuse: an offline run has no experiment, and so no workspace.

        Raises: RunEnvironmentException.
        """
        raise RunEnvironmentException(
            "an offline run has no experiment and no workspace", hint="Workspace.from_config() where the run is offline"
        )

    @property
    def status(self) -> str:
        """Return how it stands."""
        return self._status

    @property
    def tags(self) -> dict[str, Any]:
        """Return the tags."""
        return dict(self._tags)

    @property
    def properties(self) -> dict[str, Any]:
        """Return the properties."""
        return dict(self._properties)

    def _take(self, what: str, name: str, rows: list[Row], value: Any) -> None:
        self._logged += rows
        print(f"Attempted to log {what} {name}:\n{value}")

    def _picture(self, name: str, path: str | None, plot: Any) -> str:
        return path or name

    def get_metrics(self, name: str | None = None, recursive: bool = False, **ignored: Any) -> dict[str, Any]:
        """Return what was logged."""
        rows = [{"value": None, "data": None, **row} for row in self._logged if name in (None, row["name"])]
        return metric_values.collect(rows)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Do nothing: what is logged is printed at once."""

    def get_status(self) -> str:
        """Return how it stands."""
        return self._status

    def get_details(self) -> dict[str, Any]:
        """Return what little there is."""
        return {"runId": self.id, "target": "local", "status": self._status, "properties": self.properties, "logFiles": {}}

    def complete(self, _set_status: bool = True) -> None:
        """End it."""
        self._status = "Completed"

    def fail(self, error_details: Any = None, error_code: str | None = None, _set_status: bool = True) -> None:
        """End it as failed."""
        self._status = "Failed"

    def cancel(self) -> None:
        """End it as cancelled."""
        self._status = "Canceled"

    def tag(self, key: str, value: Any = None) -> None:
        """Remember a tag."""
        self._tags[key] = value

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Remember tags."""
        self._tags.update(tags)

    def get_tags(self) -> dict[str, Any]:
        """Return the tags."""
        return dict(self._tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Remember properties."""
        self._properties.update(properties)

    def get_properties(self) -> dict[str, Any]:
        """Return the properties."""
        return dict(self._properties)

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: str | None = None) -> str:
        """Print that a file would have been kept."""
        print(f"Attempted to upload file {name}:\n{path_or_stream}")
        return name

    def upload_files(self, names: Sequence[str], paths: Sequence[str], **ignored: Any) -> list[str]:
        """Print that files would have been kept."""
        return [self.upload_file(name, path) for name, path in zip(names, paths, strict=True)]

    def upload_folder(self, name: str, path: str, datastore_name: str | None = None) -> list[str]:
        """Print that a folder would have been kept."""
        return [self.upload_file(name, path)]

    def get_file_names(self) -> list[str]:
        """Return nothing: an offline run keeps no files."""
        return []

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: str | None = None) -> OfflineRun:
        """Return another offline run."""
        return OfflineRun()

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> list[OfflineRun]:
        """Return other offline runs, by their number, or one for each value of a tag."""
        if tag_values is None:
            return [OfflineRun() for _ in range(count or 0)]
        children = []
        for value in tag_values:
            children.append(OfflineRun())
            children[-1].tag(str(tag_key), value)
        return children

    def get_children(self, **ignored: Any) -> Iterator[OfflineRun]:
        """Yield nothing."""
        return iter(())

    def register_model(self, model_name: str, model_path: str | None = None, **ignored: Any) -> Any:
        """Refuse: an offline run keeps nothing to register.

        Raises: RunEnvironmentException.
        """
        raise RunEnvironmentException(
            "an offline run keeps no files to register", hint="Model.register(workspace, model_path=…, model_name=…)"
        )
