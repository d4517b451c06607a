"""The run of a script in the worker, with the methods of the SDK's `Run` that scripts call.

The script's process has no connection to the database: what is logged, kept and registered goes through the worker, which
writes it at once.  A model that a submitted script registers is there at once too; one of a script in a call of
dbml.run_script belongs to the transaction of the call.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NoReturn

from dbml import current_run
from dbml.core import metric_values
from dbml.core.snapshot import MANIFEST
from dbml.exceptions import ModelPathNotFoundException, RunEnvironmentException
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.script_child import ScriptChild
    from dbml.core.script_submission import SubmittedChild

MOST_REMEMBERED = 100_000  # values, for get_metrics


@dataclass(frozen=True)
class RegisteredModel:
    """A model that the script has registered."""

    name: str
    version: int

    @property
    def id(self) -> str:
        """Return name:version."""
        return f"{self.name}:{self.version}"


class ScriptInput:
    """Rows that a submitted script was given.

    Those of a query are as they were when the run began, those of other datasets as they were when it was submitted.
    """

    def __init__(self, name: str, frame: Any = None, path: Path | None = None) -> None:
        self.name = name
        self._frame = frame
        self._path = path

    def __repr__(self) -> str:
        return f"ScriptInput({self.name!r})"

    def to_pandas_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame of your own."""
        if self._frame is None:
            from pyarrow import parquet

            from dbml.data import rows

            self._frame = rows.frame(parquet.read_table(self._path))
        return self._frame.copy()


class ScriptFiles:
    """Files that a submitted script was given: a dataset of files, in a folder of the run."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    def __repr__(self) -> str:
        return f"ScriptFiles({self.name!r})"

    def to_path(self) -> list[str]:
        """Return the paths of the files below the folder, each with a slash in front."""
        found = (file.relative_to(self._folder) for file in self._folder.rglob("*") if file.is_file())
        return sorted(f"/{path.as_posix()}" for path in found)

    def download(self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False) -> list[str]:
        """Copy the files into a folder, and return their paths there; where none is named they stay where they are.

        overwrite: False refuses a file that is there.
        """
        if target_path is None:
            return [f"{self._folder}{path}" for path in self.to_path()]
        copied = []
        for path in self.to_path():
            place = Path(f"{os.fspath(target_path)}{path}")
            if place.exists() and not overwrite:
                raise FileExistsError(f"{place} is there; overwrite=True takes its place")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f"{self._folder}{path}", place)
            copied.append(str(place))
        return copied


def _given_inputs(frames: Mapping[str, Any], here: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the inputs of a script by name, and the datasets, name:version, that they are of.

    A folder is its path.  frames: the rows of queries; here: the script's working directory, where other inputs are.
    """
    found: dict[str, Any] = {name: ScriptInput(name, frame) for name, frame in frames.items()}
    of: dict[str, str] = {}
    if (here / MANIFEST).is_file():
        for name, about in json.loads((here / MANIFEST).read_text("utf-8")).items():
            if about["kind"] == "rows":
                found[name] = ScriptInput(name, path=here / about["path"])
            elif about["kind"] == "files":
                found[name] = ScriptFiles(name, here / about["path"])
            elif about["kind"] == "folder":
                found[name] = str(here / about["path"] / (about.get("file") or ""))
            if about["dataset"]:
                of[name] = about["dataset"]
    return found, of


class ScriptRun:
    """The run that a script in the worker belongs to; `Run.get_context()` returns it.

    run: the object `run` of scripts, which speaks with the worker.  parent: of a part of it (dbml.core.script_child).
    """

    def __init__(self, run: Any, parent: ScriptRun | None = None) -> None:
        self._run = run
        self._logged: list[Row] = []
        self._tags: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self.output_datasets = {name: str(folder) for name, folder in run.output_folders.items()}
        self.parent = parent
        self._children: list[ScriptChild] = []
        self._submitted: list[SubmittedChild] = []
        if parent is None:
            self._here = Path.cwd()
            self.input_datasets, self._datasets = _given_inputs(run.inputs, self._here)
        else:
            self._here, self.input_datasets, self._datasets = parent._here, parent.input_datasets, parent._datasets

    def __repr__(self) -> str:
        return f"{type(self).__name__}(Id: {self.id}, Experiment: {self._run.experiment})"

    def __enter__(self) -> ScriptRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        return None

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(
            f"Run.{name} needs the database, to which a script in the worker has no connection;"
            " Run.get(workspace, run_id) has it in a program of yours"
        )

    @property
    def id(self) -> str:
        """Return the id, as in dbml.runs."""
        return str(self._run.id)

    @property
    def experiment(self) -> ScriptExperiment:
        """Return the experiment: its name, and its workspace's.

        Raises: RunEnvironmentException where the call named none.
        """
        if self._run.experiment is None:
            raise RunEnvironmentException(
                "the run has no experiment", hint="dbml.run_script(…, experiment => 'name') gives it one"
            )
        return ScriptExperiment(self._run.experiment, ScriptWorkspace(self._run.workspace, self))

    @property
    def status(self) -> str:
        """Return Running."""
        return "Running"

    @property
    def tags(self) -> dict[str, Any]:
        """Return the tags that the script has set."""
        return dict(self._tags)

    @property
    def properties(self) -> dict[str, Any]:
        """Return the properties that the script has added."""
        return dict(self._properties)

    # -- logging ---------------------------------------------------------------------------------------------------

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a number, true, false or text; the same name again makes it a series."""
        self._log([metric_values.scalar(name, value, step=step)])

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Log a list of values, in order."""
        self._log(metric_values.items(name, value))

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        """Log values by column; the same name again is the next row of a table."""
        self._log([metric_values.whole(name, "row", columns)])

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log a table: {"column": [values]}, or a frame."""
        self._log([metric_values.whole(name, "table", value)])

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Keep a picture with the run: a PNG file, or a matplotlib figure (or pyplot)."""
        self._run.log_image(name, path=path, plot=plot)
        self._log([metric_values.whole(name, "image", name)])

    log_confusion_matrix = log_accuracy_table = log_predictions = log_residuals = log_table

    def _log(self, rows: list[Row]) -> None:
        self._run.log_values(rows)
        self._logged += rows[-MOST_REMEMBERED:]
        del self._logged[:-MOST_REMEMBERED]

    def get_metrics(self, name: str | None = None, recursive: bool = False, **ignored: Any) -> dict[str, Any]:
        """Return what the script has logged through this object; recursive: and through its children."""
        logged = [*self._logged, *(row for child in self.get_children(True) if recursive for row in child._logged)]
        rows = [{"value": None, "data": None, **row} for row in logged if name in (None, row["name"])]
        return dict(metric_values.collect(rows))

    def flush(self, timeout_seconds: float = 300) -> None:
        """Do nothing: what is logged is written within a second."""

    # -- tags and properties ---------------------------------------------------------------------------------------

    def tag(self, key: str, value: Any = None) -> None:
        """Set a tag."""
        self._run.tag(key, "" if value is None else value)
        self._tags[key] = value

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.tag(key, value)

    def get_tags(self) -> dict[str, Any]:
        """Return the tags that the script has set."""
        return dict(self._tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which are for good.

        Raises: InvalidArgument for another value of one that the script has added.
        """
        self._run.add_properties(properties)
        self._properties |= properties

    def get_properties(self) -> dict[str, Any]:
        """Return the properties that the script has added."""
        return dict(self._properties)

    # -- files -----------------------------------------------------------------------------------------------------

    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: str | None = None
    ) -> str:
        """Keep a file or a binary stream with the run; what is in outputs/ and logs/ at the end is kept anyway."""
        self._run.upload_file(name, path_or_stream)
        return name

    def upload_files(self, names: Sequence[str], paths: Sequence[str], **ignored: Any) -> list[str]:
        """Keep files, each path under its name."""
        return [self.upload_file(name, path) for name, path in zip(names, paths, strict=True)]

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: str | None = None) -> list[str]:
        """Keep all files under a folder, under name/…."""
        folder = Path(path)
        if not folder.is_dir():
            raise NotADirectoryError(f"a folder must be there to be uploaded: {folder}")
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return [self.upload_file(f"{name.rstrip('/')}/{file.relative_to(folder).as_posix()}", file) for file in files]

    def get_file_names(self) -> list[str]:
        """Return the names of what the run keeps so far."""
        return sorted(self._run.kept)

    # -- models ----------------------------------------------------------------------------------------------------

    def register_model(
        self, model_name: str, model_path: str | None = None, tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None, model_framework: str | None = None,
        model_framework_version: str | None = None, description: str | None = None, datasets: Any = None,
        sample_input_dataset: Any = None, sample_output_dataset: Any = None, resource_configuration: Any = None, **kwargs: Any,
    ) -> RegisteredModel:  # fmt: skip
        """Register a file or folder of the script's as the next version of a model; it is kept with the run too.

        model_path: relative to the source directory, as `outputs/model.pkl`; by default the model's name.
        Raises: ModelPathNotFoundException.
        """
        from dbml.core.model_registration import _ends, format_of

        wanted = (model_path or model_name).rstrip("/")
        place = next((found for found in (Path(wanted), self._here / wanted) if found.exists()), None)
        if place is None:
            raise ModelPathNotFoundException(
                f"the script must have the file or folder {wanted!r} to register it", hint="ls outputs"
            )
        files = {place.name: place} if place.is_file() else {
            file.relative_to(place).as_posix(): file for file in sorted(place.rglob("*")) if file.is_file()
        }  # fmt: skip
        if not files:
            raise ModelPathNotFoundException(f"the folder {wanted!r} must have a file to be registered")
        kept = {}
        for path, file in files.items():
            kept[path] = wanted if place.is_file() else f"{wanted}/{path}"
            self._run.upload_file(kept[path], file)
        kept_as = format_of(place.name, *_ends(place)) if place.is_file() else "files"
        version = self._run.register_files(
            model_name, kept, format=kept_as, framework=model_framework,
            framework_version=model_framework_version, tags=tags, properties=properties, description=description,
        )  # fmt: skip
        return RegisteredModel(model_name, version)

    # -- its end is the script's ------------------------------------------------------------------------------------

    def get_status(self) -> str:
        """Return Running."""
        return "Running"

    def complete(self, _set_status: bool = True) -> None:
        """Do nothing: the run completes when its script ends."""

    def fail(self, error_details: Any = None, error_code: str | None = None, _set_status: bool = True) -> NoReturn:
        """End the script, and with it the run, as failed.

        Raises: RunEnvironmentException, with the details as its text.
        """
        raise RunEnvironmentException(
            ": ".join(str(said) for said in (error_code, error_details) if said) or "the script has failed"
        )

    # -- its parts -------------------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: str | None = None) -> ScriptChild:
        """Begin a run that is a part of this one; it ends by `complete`, with its `with` block, or as the script does.

        Raises: LimitExceeded where the script has 10,000.
        """
        from dbml.core.script_child import begin

        return begin(self, name)

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> list[ScriptChild]:
        """Begin several children, by their number, or one for each value of a tag.

        Raises: InvalidArgument where neither or both are given; LimitExceeded.
        """
        from dbml.core.script_child import begin_several

        return begin_several(self, count, tag_key, tag_values)

    def get_children(
        self, recursive: bool = False, tags: str | Mapping[str, str | None] | None = None,
        properties: Mapping[str, str | None] | None = None, type: str | None = None,  # noqa: A002 - the SDK's name
        status: str | None = None, _rehydrate_runs: bool = True,
    ) -> Iterator[ScriptChild | SubmittedChild]:  # fmt: skip
        """Yield the children that the script has submitted and begun, each the newest first; recursive: their children too."""
        from dbml.core.script_child import matches

        for submitted in reversed(self._submitted):
            if matches(submitted, tags, properties, status):
                yield submitted
        for child in reversed(self._children):
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)
            if matches(child, tags, properties, status):
                yield child

    def submit_child(self, config: Any, tags: Mapping[str, Any] | None = None, *, seed: int | None = None) -> SubmittedChild:
        """Submit a ScriptRunConfig as a part of this run: the worker runs its script in a process of its own; returns its run.

        It runs in this run's environment and pool, and goes on when this script ends.  seed: of its random numbers.
        Raises: NotImplementedError in a script of a call, and for datasets as arguments or another environment;
        RunConfigurationException; SnapshotException; LimitExceeded.
        """
        from dbml.core.script_submission import submit

        child = submit(self, config, tags, seed)
        self._submitted.append(child)
        return child


_contexts: dict[int, ScriptRun] = {}


def context() -> ScriptRun:
    """Return the run of the script that this process runs, the same each time.

    Raises: RunEnvironmentException in another process.
    """
    run = current_run.current()
    if run is None:
        raise RunEnvironmentException("this process must be a script's in the worker, and is not")
    return _contexts.setdefault(id(run), ScriptRun(run))


@dataclass(frozen=True)
class ScriptWorkspace:
    """The workspace of a script's run: its name, and of its datasets those that the script was given.

    Anything else needs the database, which the script does not reach.
    """

    name: str
    _run: ScriptRun = field(repr=False)

    def _given_dataset(self, reference: str) -> Any:
        """Return an input by its name, or by its dataset, name or name:version.

        Raises: NotImplementedError for any other.
        """
        for name, given in self._run.input_datasets.items():
            dataset = self._run._datasets.get(name, "")
            if reference in (name, dataset, dataset.rpartition(":")[0]):
                return given
        raise NotImplementedError(
            f"the dataset {reference!r} needs the database, to which a script in the worker has no connection;"
            " arguments=[dataset.as_named_input('name')] of ScriptRunConfig gives it to the script"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(
            f"Workspace.{name} needs the database, to which a script in the worker has no connection;"
            " run.load_model and the inputs of the run are what it may read"
        )


@dataclass(frozen=True)
class ScriptExperiment:
    """The experiment of a script's run: its name and workspace."""

    name: str
    workspace: ScriptWorkspace

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(f"Experiment.{name} needs the database, to which a script in the worker has no connection")
