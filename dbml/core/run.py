"""Runs: what was tried, with which parameters, and what came of it.

A run that `Experiment.start_logging` begins lives in this process; one of a script lives in the worker.  Either is a row
of `dbml.runs`; what it logs is in `dbml.metrics`, what it keeps in `dbml.artifacts`.
"""

from __future__ import annotations

import builtins
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbml import current_run, errors
from dbml.core import metric_values, run_files, stand_in, submission
from dbml.core.metric_buffer import buffer_of
from dbml.core.run_details import AZURE_STATUS, ENDED, STATUSES, describe
from dbml.core.run_logging import RunLogging
from dbml.core.run_transfers import RunFiles
from dbml.exceptions import ActivityFailedException, RunEnvironmentException, SnapshotException
from dbml.store.client import runs
from dbml.store.client.rows import Row, text_of

if TYPE_CHECKING:
    from dbml.core.environment import Environment
    from dbml.core.experiment import Experiment
    from dbml.core.lineage import Lineage
    from dbml.core.model import Model
    from dbml.core.offline_run import OfflineRun
    from dbml.core.replay import Replay
    from dbml.core.run_context import ScriptRun
    from dbml.core.workspace import Workspace

RUN_ID = "DBML_RUN_ID"  # of the run that this process takes part in, and its workspace
WORKSPACE = "DBML_WORKSPACE"


class Run(RunLogging, RunFiles):
    """A run of an experiment, which must exist; `Experiment.start_logging` begins one.

    Used in a `with` block it completes at the end, or fails with the exception that leaves it.
    Raises: RunNotFound.
    """

    def __init__(self, experiment: Experiment, run_id: str, outputs: str | None = None, **kwargs: Any) -> None:
        self._workspace = experiment.workspace
        self._connection = experiment.workspace._connection
        self._id = _as_id(run_id)
        self._experiment: Experiment | None = experiment
        self._buffer = buffer_of(self._connection, self._id)
        self._row = self._read()
        if self._row["experiment"] != experiment.name:
            raise errors.RunNotFound(
                f"run {run_id} is not of experiment {experiment.name!r}",
                hint="SELECT run_id, experiment FROM dbml.runs, or Run.get(workspace, run_id)",
            )

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Run:
        run = cls.__new__(cls)
        run._workspace, run._connection, run._id, run._row = workspace, workspace._connection, UUID(str(row["run_id"])), row
        run._experiment = None
        run._buffer = buffer_of(run._connection, run._id)
        return run

    def _read(self) -> Row:
        row = self._workspace._find_run_row(self._id)
        if row is None:
            raise errors.RunNotFound(
                f"run {self._id} is not in workspace {self._workspace.name!r}", hint="SELECT run_id, workspace FROM dbml.runs"
            )
        return row

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """Return a run by its id, whatever its experiment.

        Raises: RunNotFound.
        """
        row = workspace._find_run_row(_as_id(run_id))
        if row is None:
            raise errors.RunNotFound(
                f"run {run_id} is not in workspace {workspace.name!r}", hint="SELECT run_id, workspace FROM dbml.runs"
            )
        return Run._of(workspace, row)

    @staticmethod
    def list(
        experiment: Experiment, type: str | None = None, tags: str | Mapping[str, str | None] | None = None,  # noqa: A002
        properties: Mapping[str, str | None] | None = None, status: str | None = None, include_children: bool = False,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:  # fmt: skip
        """Yield the runs of an experiment, the newest first; `Experiment.get_runs` explains the arguments."""
        workspace = experiment.workspace
        rows = workspace._connection.do_again(
            runs.list_all, workspace.name, experiment=experiment.name, roots_only=not include_children,
            tags={tags: None} if isinstance(tags, str) else tags, properties=properties, status=_status(status),
        )  # fmt: skip
        for row in rows:
            run = Run._of(workspace, row)
            run._experiment = experiment
            yield run

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any
    ) -> Run | OfflineRun | ScriptRun:
        """Return the run that this process is a part of: its script's, in the worker; that of DBML_RUN_ID; else an offline one.

        An offline run has an id that begins with OfflineRun, and prints what is logged.
        Raises: RunEnvironmentException where there is none and allow_offline is False.
        """
        from dbml.core.offline_run import OfflineRun

        if current_run.current() is not None:
            from dbml.core.run_context import context

            return context()
        from dbml.core.workspace import Workspace

        run_id = os.environ.get(RUN_ID)
        if run_id:
            return Run.get(Workspace(workspace_name=os.environ.get(WORKSPACE)), run_id)
        if not allow_offline:
            raise RunEnvironmentException(
                "this process must be a part of a run, and is not",
                hint=f"Experiment.start_logging() begins one, or set {RUN_ID} to a run's id",
            )
        return OfflineRun()

    def __repr__(self) -> str:
        return f"Run(Experiment: {self._row['experiment']},\nId: {self.id},\nType: {self.type},\nStatus: {self.status})"

    def _repr_html_(self) -> str:
        from dbml.core.run_details import html

        return html(self._read(), self.get_metrics())

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            if self.get_status() not in ENDED:
                self.complete()
        elif self.get_status() not in ENDED:
            self.fail(error_details=f"{type(error).__name__}: {error}")

    @property
    def id(self) -> str:
        """Return the id, as in dbml.runs."""
        return str(self._id)

    @property
    def name(self) -> str | None:
        """Return the name for people, None where it has none."""
        return text_of(self._row, "name")

    @property
    def display_name(self) -> str | None:
        """Return the name for people."""
        return self.name

    @property
    def number(self) -> int:
        """Return its place among the runs of its experiment, from 1, by the time of their start."""
        earlier = self._connection.do_again(
            runs.count_until, self._workspace.name, self._row["experiment"], self._row["started_at"]
        )
        return int(earlier)

    @property
    def experiment(self) -> Experiment:
        """Return the experiment."""
        if self._experiment is None:
            from dbml.core.experiment import Experiment

            self._experiment = Experiment._named(self._workspace, self._row["experiment"])
        return self._experiment

    @property
    def type(self) -> str | None:
        """Return `script` for a run of the worker, None for one of a client and for a part that a script has begun."""
        return "script" if self._row["source"] == "worker" and self._row["script"] is not None else None

    @property
    def parent(self) -> Run | None:
        """Return the run that this one is a part of, None where there is none."""
        parent = self._row["parent_run_id"]
        return None if parent is None else Run.get(self._workspace, str(parent))

    @property
    def status(self) -> str:
        """Return how it stands, as `get_status`."""
        return self.get_status()

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return self.get_tags()

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties, which do not change."""
        return self.get_properties()

    @property
    def params(self) -> dict[str, Any]:
        """Return what it was started with."""
        return dict(self._row["params"] or {})

    @property
    def input_datasets(self) -> dict[str, Any]:
        """Return the registered datasets that it is recorded to use, by the names that it has for them."""
        from dbml.core.dataset import of_run

        return of_run(self._workspace, self._id)

    @property
    def output_datasets(self) -> dict[str, Any]:
        """Return the datasets that a submitted script has written, by the names of its outputs."""
        from dbml.core.dataset import of_run

        return of_run(self._workspace, self._id, "output")

    # What is logged (see RunLogging) is collected and written in batches; `flush` writes it now.

    def _take(self, what: str, name: str, rows: builtins.list[Row], value: Any) -> None:
        self._buffer.add(rows)

    def _picture(self, name: str, path: str | None, plot: Any) -> str:
        return run_files.keep_image(self, name, path, plot)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Write what has been logged; when it returns, it is committed.

        Raises: psycopg.Error; the values stay for the next attempt.
        """
        self._buffer.flush()

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """Return what was logged by name: once, the value itself; more than once, the list of all, in order.

        Lists that were logged are lists, rows of one name become lists by column, an image is its artifact's name.
        recursive: of children too.
        """
        self.flush()
        wanted = [self._id]
        if recursive:
            children = self._connection.do_again(runs.list_all, self._workspace.name, parent_run_id=self._id, recursive=True)
            wanted += [UUID(str(child["run_id"])) for child in children]
        return metric_values.collect(self._connection.do_again(runs.metrics, wanted, name))

    # State.

    def get_status(self) -> str:
        """Return Queued, Running, Completed, Failed, Canceled or NotResponding, as it is now.

        NotResponding is a run whose process, or whose worker, is gone.
        """
        self._row = self._read()
        return AZURE_STATUS[self._row["status"]]

    def get_details(self) -> dict[str, Any]:
        """Return what is known of it: runId, target, status, times, properties, parameters, script, files, error."""
        self._row = self._read()
        return describe(self._row, run_files.log_names(self)) | submission.details(self._workspace, self._id)

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return `get_details` with the text of each log in logFiles."""
        self._row = self._read()
        return describe(self._row, run_files.logs(self)) | submission.details(self._workspace, self._id)

    def complete(self, _set_status: bool = True) -> None:
        """End it well; what was logged is written first.  Of a script's run that has completed it says so again.

        Raises: InvalidArgument where it has failed or was cancelled before, and for a script's run that goes on.
        """
        self._finish("completed")

    def fail(
        self, error_details: str | BaseException | None = None, error_code: str | None = None, _set_status: bool = True
    ) -> None:
        """End it as failed, with an error for people; a script is stopped, and its run is Canceled, with a warning."""
        said = str(error_details) if error_details is not None else None
        self._finish("failed", ": ".join(part for part in (error_code, said) if part) or None)

    def cancel(self) -> None:
        """End it as cancelled: a run of a client by a note in its record, one of a script by stopping the script.

        Raises: InvalidArgument for a part that a script has begun.
        """
        if self._row["source"] == "worker" and self._row["script"] is None:
            raise errors.InvalidArgument(
                f"run {self.id} is a part of a script's run and ends with it", hint="run.parent.cancel()"
            )
        if self._row["source"] == "worker":
            self._connection.do(runs.stop_script, self._id)
        else:
            self._finish("canceled")

    def _finish(self, status: str, error: str | None = None) -> None:
        self.flush()
        if self._row["source"] == "worker":
            self._end_script(status)
        else:
            self._connection.do_again(runs.finish, self._id, status, error)
        self._row = self._read()

    def _end_script(self, status: str) -> None:
        """Say how a script's run ends: what is so already may be said again, and one that goes on can be stopped by `fail`.

        Raises: InvalidArgument for anything else, which its worker alone can say.
        """
        self._row = self._read()
        if self._row["status"] == status:
            return
        if status == "failed" and self._row["script"] is not None and self._row["finished_at"] is None:
            warnings.warn(f"run {self.id} is of a script: it is stopped, and its status is Canceled", UserWarning, stacklevel=4)
            self._connection.do(runs.stop_script, self._id)
            return
        raise errors.InvalidArgument(
            f"run {self.id} is of a script, whose worker says how it ends; it is {AZURE_STATUS[self._row['status']]}",
            hint="run.cancel() stops it, run.wait_for_completion() waits for its end",
        )

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait until it has ended, and return its details; show_output: with what its script prints, as it comes.

        Raises: ActivityFailedException where it failed, was cancelled or is gone, if raise_on_error.
        """
        if show_output:
            print(f"RunId: {self.id}")
        submission.follow(self._workspace, self._id, show_output=show_output)
        status = self.get_status()
        details = self.get_details()
        if show_output:
            print(f"Execution Summary\n=================\nRunId: {self.id}\nStatus: {status}")
        if raise_on_error and status != "Completed":
            raise ActivityFailedException(
                f"run {self.id} is {status}: {self._row['error'] or 'no error was recorded'}",
                hint="run.get_details_with_logs(), or SELECT error, log FROM dbml.runs",
            )
        return details

    def get_portal_url(self) -> str:
        """Return an address that names the run; there is no portal, SELECT * FROM dbml.runs shows it."""
        return f"{self.experiment.get_portal_url()}/runs/{self.id}"

    # Tags and properties.

    def tag(self, key: str, value: Any = None) -> None:
        """Set a tag; without a value it is a mark."""
        self._tag({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay."""
        self._tag(tags)

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Remove tags by name."""
        self._row["tags"] = self._connection.do_again(runs.tag, self._id, {}, [tags] if isinstance(tags, str) else [*tags])

    def _tag(self, tags: Mapping[str, Any]) -> None:
        said = {str(key): None if value is None else str(value) for key, value in tags.items()}
        self._row["tags"] = self._connection.do_again(runs.tag, self._id, said)

    def get_tags(self) -> dict[str, str]:
        """Return the tags as they are now."""
        self._row = self._read()
        return dict(self._row["tags"])

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which are for good.

        Raises: InvalidArgument for another value of one that is there.
        """
        said = {str(key): str(value) for key, value in properties.items()}
        self._row["properties"] = self._connection.do_again(runs.add_properties, self._id, said)

    def get_properties(self) -> dict[str, str]:
        """Return the properties as they are now."""
        self._row = self._read()
        return dict(self._row["properties"])

    # Children.

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: str | None = None) -> Run:
        """Begin a run that is a part of this one, and return it; it is completed by itself."""
        self._connection.hold_runs()
        made = self._connection.do(
            runs.start, self._workspace.name, self._row["experiment"], name=name, parent_run_id=self._id
        )  # fmt: skip
        return Run(self.experiment, str(made))

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> builtins.list[Run]:
        """Begin several children, by their number, or one for each value of a tag.

        Raises: InvalidArgument where neither or both are given.
        """
        if (count is None) == (tag_key is None or tag_values is None):
            raise errors.InvalidArgument("either count or tag_key and tag_values must be given")
        if tag_values is None:
            return [self.child_run() for _ in range(count or 0)]
        children = []
        for value in tag_values:
            child = self.child_run()
            child.tag(str(tag_key), value)
            children.append(child)
        return children

    def get_children(
        self, recursive: bool = False, tags: str | Mapping[str, str | None] | None = None,
        properties: Mapping[str, str | None] | None = None, type: str | None = None,  # noqa: A002 - the SDK's name
        status: str | None = None, _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:  # fmt: skip
        """Yield the children, the newest first; recursive: their children too."""
        rows = self._connection.do_again(
            runs.list_all, self._workspace.name, parent_run_id=self._id, recursive=recursive,
            tags={tags: None} if isinstance(tags, str) else tags, properties=properties, status=_status(status),
        )  # fmt: skip
        for row in rows:
            yield Run._of(self._workspace, row)

    # What it made, and what made it.

    def register_model(
        self, model_name: str, model_path: str | None = None, tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None, model_framework: str | None = None,
        model_framework_version: str | None = None, description: str | None = None,
        datasets: Sequence[tuple[str, Any]] | None = None, sample_input_dataset: Any = None,
        sample_output_dataset: Any = None, resource_configuration: Any = None, **kwargs: Any,
    ) -> Model:  # fmt: skip
        """Register a file or folder that the run keeps as the next version of a model; no bytes are copied.

        model_path: the name of a file, or of all files under it; by default the model's name.
        Raises: ModelPathNotFoundException where the run keeps nothing of that name.
        """
        from dbml.core.model_registration import register_from_run

        return register_from_run(
            self, model_name, model_path, tags=tags, properties=properties, framework=model_framework,
            framework_version=model_framework_version, description=description, datasets=datasets,
            sample_input=sample_input_dataset, sample_output=sample_output_dataset, resources=resource_configuration,
        )  # fmt: skip

    def get_environment(self) -> Environment:
        """Return the environment that a script ran in.

        Raises: RunEnvironmentException for a run that had none of its own: the worker's packages, or a client's.
        """
        from dbml.core.environment import Environment

        if self._row["environment"] is None:
            if stand_in.listeners:  # the worker's packages, which a program of another service's has in its environment's place
                return Environment("worker")
            raise RunEnvironmentException("the run had no environment of its own", hint="SELECT environment FROM dbml.runs")
        return Environment.get(self._workspace, self._row["environment"], str(self._row["environment_version"]))

    def get_snapshot_id(self) -> str:
        """Return the snapshot of the files that a submitted run had.

        Raises: SnapshotException for a run that had none.
        """
        kept = submission.snapshot_of(self._workspace, self._id)
        if kept is None:
            raise SnapshotException(
                f"run {self.id} was not submitted and has no snapshot",
                hint="run.get_details()['runDefinition'] has a script's text",
            )
        return kept

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | None = None) -> str:
        """Write the files that a submitted run had into a folder, by default snapshot_ and its first digits; returns the folder.

        Raises: SnapshotException for a run that had none; SnapshotNotFound.
        """
        return submission.restore(self._workspace, snapshot_id or self.get_snapshot_id(), path)

    def replay(self, params: Mapping[str, Any] | None = None) -> Replay:
        """Run the script of this run again, under the same conditions as far as they can be held, and compare.

        It runs while this waits, is a run of its own, and registers no model.  params: values in place of recorded ones; those
        that were secrets must be given.
        Raises: InvalidArgument for a run of no script, or one that has not ended.
        """
        from dbml.core.replay import replay

        return replay(self._workspace, self._id, params)

    def lineage(self) -> Lineage:
        """Return where the run's data, script and environment come from, and what it made."""
        from dbml.core.lineage import lineage

        return lineage(self._workspace, self.id)

    def submit_child(self, config: Any, tags: Mapping[str, str] | None = None, **kwargs: Any) -> Run:
        """Submit a ScriptRunConfig as a part of this run, and return its run; more arguments as of `Experiment.submit`.

        It runs and ends by itself, also when this run ends.
        Raises: LimitExceeded where this run has 10,000 parts; else as `Experiment.submit`.
        """
        return self.experiment.submit(config, tags, parent_run_id=self._id, **kwargs)

    def delete(self) -> int:
        """Delete the run with its parts and all that they logged and kept; returns how many runs went.

        Who began it may, and an owner of the workspace.
        Raises: InvalidArgument where it has not ended, or a model or dataset comes from it; InsufficientPrivilege.
        """
        return self._connection.do(runs.delete, self._id)


def _as_id(text: str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise errors.RunNotFound(f"a run's id must be a UUID, got {text!r}", hint="SELECT run_id FROM dbml.runs") from None


def _status(wanted: str | None) -> str | None:
    if wanted is None:
        return None
    if wanted not in STATUSES:
        raise errors.InvalidArgument(f"status must be one of {', '.join(STATUSES)}, got {wanted!r}")
    return STATUSES[wanted]
