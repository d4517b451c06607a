"""Experiments: names under which runs are grouped and compared."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dbml import errors
from dbml.store.client import experiments, runs
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.comparison import Comparison
    from dbml.core.run import Run
    from dbml.core.workspace import Workspace


class Experiment:
    """An experiment of a workspace; it is made in the database where it is not there.

    Raises: InvalidArgument where the name holds one of : @ /; InsufficientPrivilege for a reader of the workspace, if it is new.
    """

    def __init__(
        self, workspace: Workspace, name: str, _skip_name_validation: bool = False, _id: Any = None, **kwargs: Any
    ) -> None:
        self.workspace = workspace
        self.name = name
        rows = workspace._connection.do_again(experiments.list_all, workspace.name, name)
        if not rows:
            workspace._connection.do_again(experiments.create, workspace.name, name)
            rows = workspace._connection.do_again(experiments.list_all, workspace.name, name)
        self._row = rows[0]

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Experiment:
        experiment = cls.__new__(cls)
        experiment.workspace, experiment.name, experiment._row = workspace, str(row["name"]), row
        return experiment

    @classmethod
    def _named(cls, workspace: Workspace, name: str) -> Experiment:
        """Return an experiment by name without a look at the database: a run of that name is there."""
        return cls._of(workspace, {"name": name, "experiment_id": None, "description": None, "tags": {}})

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name},\nWorkspace: {self.workspace.name})"

    @property
    def id(self) -> str:
        """Return the key of the experiment in dbml.experiments."""
        if self._row["experiment_id"] is None:
            self._row = self.workspace._connection.do_again(experiments.list_all, self.workspace.name, self.name)[0]
        return str(self._row["experiment_id"])

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    def tag(self, key: str, value: Any = None) -> None:
        """Set a tag; without a value it is a mark."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay."""
        self._change(tags={str(key): None if value is None else str(value) for key, value in tags.items()})

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Remove tags by name."""
        self._change(remove=[tags] if isinstance(tags, str) else [*tags])

    def _change(self, **changes: Any) -> None:
        self.workspace._connection.do_again(experiments.update, self.workspace.name, self.name, **changes)
        self._row = self.workspace._connection.do_again(experiments.list_all, self.workspace.name, self.name)[0]

    def refresh(self) -> None:
        """Read it again.

        Raises: NothingFound where it is deleted.
        """
        self._row = _row_of(self.workspace, name=self.name)

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Delete an experiment that has no runs, by its id.

        Raises: NothingFound; InvalidArgument where it has runs.
        """
        name = _row_of(workspace, experiment_id=str(experiment_id))["name"]
        workspace._connection.do(experiments.delete, workspace.name, name)

    @staticmethod
    def list(workspace: Workspace, experiment_name: str | None = None, **kwargs: Any) -> list[Experiment]:
        """Return the experiments of a workspace by name, or the one of that name."""
        rows = workspace._connection.do_again(experiments.list_all, workspace.name, experiment_name)
        return [Experiment._of(workspace, row) for row in rows]

    def start_logging(
        self, *args: Any, outputs: str | None = None, snapshot_directory: str | None = None, display_name: str | None = None,
        params: Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> Run:  # fmt: skip
        """Start a run that lives in this process, and return it.

        params: what the run is with, kept in dbml.runs and compared by `compare`.  No folder is kept: what should be is
        uploaded with `upload_file` or `upload_folder`.  The run ends with `complete`, `fail` or `cancel`, or at the end of
        its `with` block; where the process ends before that, it is shown as interrupted.
        """
        from dbml.core.run import Run

        connection = self.workspace._connection
        connection.hold_runs()
        run_id = connection.do(runs.start, self.workspace.name, self.name, name=display_name, params=params)
        return Run(self, str(run_id))

    def submit(self, config: Any, tags: Mapping[str, str] | None = None, **kwargs: Any) -> Run:
        """Submit a ScriptRunConfig: the worker runs its script by itself, also when this process ends; returns the run.

        A HyperDriveConfig submits it again and again, with other parameters.

        The folder is kept as a snapshot, without what its .amlignore or .gitignore names.  inputs: queries by name, which run
        as you when the run begins; in the script `run.input_datasets[name]` has their rows.  seed: of its random numbers.
        Raises: SnapshotException, RunConfigurationException; NotImplementedError for another kind of configuration.
        """
        from dbml.core.run import Run
        from dbml.core.script_run_config import ScriptRunConfig
        from dbml.core.submission import submit

        if (begin := getattr(config, "_submit", None)) is not None:  # a search, of dbml.train.hyperdrive
            run: Run = begin(self, tags, **kwargs)
            return run
        if not isinstance(config, ScriptRunConfig):
            raise NotImplementedError(f"{type(config).__name__} cannot be submitted yet; ScriptRunConfig can")
        return Run(self, str(submit(self.workspace, self.name, config, tags, **kwargs)))

    def get_runs(
        self, type: str | None = None, tags: str | Mapping[str, str | None] | None = None,  # noqa: A002 - the SDK's name
        properties: Mapping[str, str | None] | None = None, include_children: bool = False, status: str | None = None,
    ) -> Iterator[Run]:  # fmt: skip
        """Yield the runs, the newest first.

        tags, properties: only those that have all of these; a value None, or a tag given as text, asks for the name alone.
        status: one of the names that `Run.get_status` returns.  include_children: children too.
        """
        from dbml.core.run import Run

        yield from Run.list(self, type=type, tags=tags, properties=properties, include_children=include_children, status=status)

    def compare(
        self, runs: builtins.list[Run] | None = None, tags: Mapping[str, str | None] | None = None,
        properties: Mapping[str, str | None] | None = None,
    ) -> Comparison:  # fmt: skip
        """Return runs side by side, with their parameters and last metrics: `.frame` and `.plot(metric)`.

        runs: those to compare; all of the experiment, the newest first, where it is None.
        """
        from dbml.core.comparison import Comparison

        chosen = builtins.list(self.get_runs(tags=tags, properties=properties)) if runs is None else runs
        return Comparison(self.workspace, chosen)

    def get_portal_url(self) -> str:
        """Return an address that names the experiment; there is no portal, SELECT * FROM dbml.runs shows its runs."""
        return f"dbml://{self.workspace._connection.place}/workspaces/{self.workspace.name}/experiments/{self.name}"


def _row_of(workspace: Workspace, **wanted: str) -> Row:
    """Return the row of an experiment by its name or id.

    Raises: NothingFound.
    """
    ((column, value),) = wanted.items()
    for row in workspace._connection.do_again(experiments.list_all, workspace.name):
        if str(row[column]) == value:
            return row
    raise errors.NothingFound(
        f"experiment {value!r} is not in workspace {workspace.name!r}", hint="SELECT name FROM dbml.experiments"
    )
