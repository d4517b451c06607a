"""`run`, the object that a script finds beside its data: what it logs, keeps, registers and loads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import numbers
import operator
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from dbml import columns, errors
from dbml.engines.python import PythonEngine
from dbml.features import feature_places
from dbml.formats import safe
from dbml.formats.load import load
from dbml.formats.policy import Policy
from dbml.worker.child_ids import MOST_CHILDREN, child_run_id

PNG = b"\x89PNG\r\n\x1a\n"
PART_BYTES = 1 << 20
OUTPUTS = ".dbml-outputs"  # the folder of outputs, and the artifacts that they are on their way
MOST_FILES = 10_000

# The first part of an estimator's module, its framework's name, and the package that has its version.
FRAMEWORKS = {
    "sklearn": ("ScikitLearn", "scikit-learn"), "xgboost": ("XGBoost", "xgboost"), "lightgbm": ("LightGBM", "lightgbm"),
    "catboost": ("CatBoost", "catboost"), "statsmodels": ("Statsmodels", "statsmodels"), "torch": ("PyTorch", "torch"),
}  # fmt: skip

Say = Callable[..., None]
Hear = Callable[[], tuple[dict[str, Any], bytes]]
Alone = Callable[[], contextlib.AbstractContextManager[Say]]  # an exchange into which no other thread speaks


class Run:
    """The run that a script belongs to.

    outputs: results beside OutputDataSet, by name: run.outputs["residuals"] = frame.  They are kept with the run, and
    dbml.run_output(run_id, name) reads them.
    """

    def __init__(self, call: Mapping[str, Any], say: Say, hear: Hear, alone: Alone | None = None) -> None:
        self._call = call
        self._say = say
        self._hear = hear
        self._alone = alone or (lambda: contextlib.nullcontext(say))
        self._metrics: dict[str, list[float]] = {}
        self.outputs: dict[str, Any] = {}
        self.first_image: bytes | None = None  # the first picture kept, as PNG
        self.kept: set[str] = set()  # names of artifacts
        self.inputs: dict[str, Any] = {}  # of a submitted script, frames by name
        self.output_folders: dict[str, Path] = {}  # of a submitted script, by the name of the output
        self._properties: dict[str, str] = {}
        self._params: dict[str, str] = {}
        self._script = self  # the run of the whole script; a child's token, where this is one
        self._token: str | None = None
        self._child_count = 0

    @property
    def id(self) -> str:
        """Return the run's id, as in dbml.runs."""
        return str(self._call["run_id"])

    @property
    def workspace(self) -> str:
        """Return the name of the workspace."""
        return str(self._call["workspace"])

    @property
    def experiment(self) -> str | None:
        """Return the name of the experiment, None where the call named none."""
        experiment: str | None = self._call["experiment"]
        return experiment

    @property
    def user(self) -> str:
        """Return the role that called."""
        return str(self._call["user"])

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, workspace={self.workspace!r}, experiment={self.experiment!r})"

    def log(self, name: str, value: float, step: int | None = None, description: str = "") -> None:
        """Log one value of a metric; the same name again adds to it.  NaN and infinities are values.

        Raises: InvalidArgument where value is no number, or step no integer.
        """
        name = _name(name, "a metric's name")
        number = _number(name, value)
        if step is not None:
            try:
                step = operator.index(step)
            except TypeError:
                raise errors.InvalidArgument(f"a metric's step must be an integer, got {step!r}") from None
        self._metrics.setdefault(name, []).append(number)
        # JSON has no NaN; as text, as PostgreSQL reads it.
        sent = number if math.isfinite(number) else repr(number)
        self._say({"tag": "metric", "name": name, "step": step, "value": sent, "time": time.time()})

    def log_values(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log values as dbml.metrics has them: name, and of kind, step, value, data and time (of Unix) what there is."""
        for row in rows:
            head = {key: row.get(key) for key in ("step", "value", "kind", "data")}
            moment = row.get("time") or time.time()
            self._say({"tag": "metric", "name": _name(row["name"], "a metric's name"), "time": moment, **head})

    def log_list(self, name: str, values: Sequence[float], description: str = "") -> None:
        """Log several values of a metric, in order."""
        for step, value in enumerate(values):
            self.log(name, value, step)

    def log_row(self, name: str, description: str = "", **values: float) -> None:
        """Log a row of named values; in dbml.metrics they are name.column."""
        for column, value in values.items():
            self.log(f"{name}.{column}", value)

    def log_table(self, name: str, value: Mapping[str, Iterable[Any]], description: str = "") -> None:
        """Keep a table, columns by name, as an artifact in JSON; a single value is a column of one row."""
        name = _name(name, "an artifact's name")
        if not hasattr(value, "items"):
            raise errors.InvalidArgument(f"a table must be columns by name, got {type(value).__name__}")
        table = {_text(key): [_plain(cell) for cell in _cells(cells)] for key, cells in value.items()}
        self._keep(name, "table", "application/json", io.BytesIO(json.dumps(table).encode()))

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Keep an image: a PNG file, a matplotlib figure, axes or module, or an array of pixels.

        Raises: InvalidArgument where both or neither are given, where the file is no PNG or the plot no picture.
        """
        name = _name(name, "an artifact's name")
        if (path is None) == (plot is None):
            raise errors.InvalidArgument("exactly one of path and plot must be given")
        if path is not None:
            with Path(path).open("rb") as file:
                if file.read(8) != PNG:
                    raise errors.InvalidArgument(
                        f"an image must be a PNG file, got {path}", hint="run.upload_file keeps any file"
                    )
                file.seek(0)
                self._keep(name, "image", "image/png", file)
            return
        self._keep(name, "image", "image/png", _draw(plot))

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """Keep a file with the run under a name; the same name again replaces it.

        path_or_stream: a file, or what has been opened in binary mode; a stream is kept from where it stands.
        """
        name = _name(name, "an artifact's name")
        if isinstance(path_or_stream, str | os.PathLike):
            with Path(path_or_stream).open("rb") as file:
                self._keep(name, "file", "application/octet-stream", file)
        else:
            self._keep(name, "file", "application/octet-stream", path_or_stream)

    def tag(self, name: str, value: Any = "") -> None:
        """Tag the run; the same name again replaces the value."""
        self._say({"tag": "tags", "tags": {_name(name, "a tag's name"): _text(value)}})

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Give the run properties, which never change.

        Raises: InvalidArgument where one has another value already.
        """
        self._say({"tag": "properties", "properties": _add_for_good(self._properties, properties, "properties", "a property")})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters that the run is with, which never change; errors as `add_properties`."""
        self._say({"tag": "params", "params": _add_for_good(self._params, params, "params", "a parameter")})

    def begin_child(self, name: str | None = None, tags: Mapping[str, Any] | None = None) -> Run:
        """Begin a run that is a part of this one; what it logs and keeps is its own.  It ends with the script at the latest.

        Raises: LimitExceeded.
        """
        script = self._script
        if script._child_count >= MOST_CHILDREN:
            raise errors.LimitExceeded(
                f"a script must have {MOST_CHILDREN} child runs at most", detail={"limit": "children", "value": MOST_CHILDREN}
            )
        token = uuid.uuid4().hex
        head = {
            "tag": "child", "child": token, "parent": self._token, "name": None if name is None else _name(name, "a run's name"),
            "tags": _texts(tags, "tags"),
        }  # fmt: skip
        script._say(head)
        script._child_count += 1

        def say(head: dict[str, Any], body: bytes = b"") -> None:
            script._say({**head, "child": token}, body)

        @contextlib.contextmanager
        def alone() -> Iterator[Say]:
            with script._alone() as whole:
                yield lambda head, body=b"": whole({**head, "child": token}, body)

        child = Run({**self._call, "run_id": child_run_id(script.id, token)}, say, script._hear, alone)
        child._script, child._token, child.inputs = script, token, script.inputs
        return child

    def end_child(self, status: str, error: str | None = None) -> None:
        """End a run that begin_child has begun: completed, failed or canceled."""
        self._say({"tag": "end_child", "status": status, "error": None if error is None else _text(error)})

    def progress(self, done: float, total: float | None = None) -> None:
        """Tell how far the script is, as dbml.active_scripts shows it while it runs.

        Raises: InvalidArgument where done or total is no number, or negative.
        """
        counts = [None if count is None else _number("progress", count) for count in (done, total)]
        if any(count is not None and not 0 <= count < math.inf for count in counts):
            raise errors.InvalidArgument(f"progress must be done of total, both 0 or more, got {done!r} of {total!r}")
        self._say({"tag": "progress", "done": counts[0], "total": counts[1]})

    def output(self, name: str, value: Any) -> None:
        """Keep a result beside OutputDataSet: the same as run.outputs[name] = value."""
        self.outputs[_name(name, "an output's name")] = value

    def take_outputs(self) -> dict[str, Any]:
        """Return the outputs, and begin anew."""
        outputs, self.outputs = self.outputs, {}
        return {_name(name, "an output's name"): value for name, value in outputs.items()}

    def keep_image(self, name: str, png: IO[bytes]) -> None:
        """Keep a picture that is PNG already."""
        self._keep(_name(name, "an artifact's name"), "image", "image/png", png)

    def get_metrics(self, name: str | None = None) -> dict[str, Any]:
        """Return what was logged: a name logged once is a number, logged again a list."""
        return {
            key: values[0] if len(values) == 1 else list(values)
            for key, values in self._metrics.items()
            if name is None or key == name
        }

    def register_model(
        self, name: str, model: Any, *, framework: str | None = None, framework_version: str | None = None,
        signature: Mapping[str, Any] | None = None, sample_input: Any = None, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None, alias: str | None = None,
        format: str = "pickle",  # noqa: A002 - as the column of dbml.models
    ) -> int:  # fmt: skip
        """Register an estimator as the next version of a model, in the caller's transaction; returns the version.

        format 'safe' makes a skops file, whose types are audited whenever it is loaded, and nothing of it is unpickled;
        'pickle' keeps any Python object.
        framework and its version are recorded as given, else found from the estimator; so is the signature, whose
        features are those of sample_input (a data frame) where the estimator does not know them.
        """
        name = _name(name, "a model's name")
        if format not in ("pickle", "safe"):
            raise errors.InvalidArgument(f"a model's format must be pickle or safe, got {format!r}")
        content = safe.dump(model, name) if format == "safe" else _pickle(model, name)
        if framework is None:
            framework, found_version = framework_of(model)
            framework_version = framework_version or found_version
        return self.register_bytes(
            name, content, format=format, framework=framework, framework_version=framework_version,
            signature=_plain_tree(signature) if signature is not None else describe(model, sample_input), tags=tags,
            properties=properties, description=description, alias=alias,
        )  # fmt: skip

    def register_bytes(
        self, name: str, content: bytes, *, format: str, framework: str | None = None, framework_version: str | None = None,  # noqa: A002
        signature: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None, alias: str | None = None,
    ) -> int:  # fmt: skip
        """Register bytes as the next version of a model; format says what reads them: pickle, or R's rds."""
        head = {
            "tag": "register", "name": _name(name, "a model's name"), "framework": framework,
            "framework_version": framework_version, "signature": None if signature is None else _plain_tree(signature),
            "tags": _texts(tags, "tags"), "properties": _plain_tree(properties or {}),
            "description": None if description is None else _text(description), "alias": alias,
            "format": format, "digest": hashlib.sha256(content).hexdigest(), "size": len(content),
        }  # fmt: skip
        with self._alone() as say:
            say(head)
            _send_parts(say, io.BytesIO(content), head["digest"])
            answer, _ = self._hear()
        if answer["tag"] == "refused":
            raise errors.from_fields(answer)
        return int(answer["version"])

    def register_files(
        self, name: str, files: Mapping[str, str], *, format: str, framework: str | None = None,  # noqa: A002
        framework_version: str | None = None, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None,
    ) -> int:  # fmt: skip
        """Register files that the run keeps as the next version of a model; files: paths in the model, and artifacts' names."""
        listed = [{"path": path, "artifact": _name(artifact, "an artifact's name")} for path, artifact in files.items()]
        head = {
            "tag": "register", "name": _name(name, "a model's name"), "files": listed, "format": format,
            "framework": framework, "framework_version": framework_version, "tags": _texts(tags, "tags"),
            "properties": _texts(properties, "properties"),
            "description": None if description is None else _text(description),
        }  # fmt: skip
        with self._alone() as say:
            say(head)
            answer, _ = self._hear()
        if answer["tag"] == "refused":
            raise errors.from_fields(answer)
        return int(answer["version"])

    def ask(self, what: str, **about: Any) -> dict[str, Any]:
        """Ask the worker of a submitted script for something in the database, and return the answer.

        Raises: DbmlError, the database's, where it is refused.
        """
        with self._script._alone() as say:
            say({"tag": "ask", "what": what, "about": about})
            answer, _ = self._hear()
        if answer["tag"] == "refused":
            raise errors.from_fields(answer)
        return answer

    @property
    def is_submitted(self) -> bool:
        """Tell whether it is the run of a submitted script, and no replay of one."""
        return bool((self._call.get("submitted") or {}).get("outputs"))

    def keep_output(self, name: str) -> dict[str, Any]:
        """Keep the files of an output's folder where the submission has asked for; returns path, files (a number) and dataset.

        Raises: LimitExceeded for more than 10,000 files; DbmlError where one would take the place of another.
        """
        folder = self.output_folders[name]
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        if len(files) > MOST_FILES:
            raise errors.LimitExceeded(
                f"an output must have {MOST_FILES} files at most, {name!r} has {len(files)}",
                detail={"limit": "files", "value": MOST_FILES},
            )
        for path, file in files.items():
            artifact = f"{OUTPUTS}/{name}/{path}"
            self.upload_file(artifact, file)
            self.kept.discard(artifact)
        return self.ask("keep_output", output=name, files=list(files))

    def load_model(self, name: str) -> Any:
        """Load a registered model: 'name', 'name:3' or 'name@alias', in the caller's snapshot.

        Raises: ModelNotFound; ModelLoadError where its bytes do not load here; ModelRefused where it holds what is not
        trusted, or what the workspace's policy does not allow.
        """
        content, told = self._load(name)
        try:
            return load(content, told.get("format") or "pickle", Policy.of(told.get("policy")), name)
        except (MemoryError, errors.ModelError):
            raise
        except Exception as error:
            raise errors.ModelLoadError(f'model "{name}" does not load: {type(error).__name__}: {error}') from error

    def load_bytes(self, name: str) -> bytes:
        """Return the bytes of a registered model, as they were registered.

        Raises: ModelNotFound; ModelLoadError where they are not what they were; ModelRefused.
        """
        return self._load(name)[0]

    def _load(self, name: str) -> tuple[bytes, dict[str, Any]]:
        """Return a model's bytes, and what SQL says of them."""
        parts = []
        with self._alone() as say:
            say({"tag": "load", "name": _name(name, "a model's name")})
            while True:
                answer, body = self._hear()
                if answer["tag"] == "refused":
                    raise errors.from_fields(answer)
                if answer["tag"] == "model_end":
                    break
                parts.append(body)
        content = b"".join(parts)
        if hashlib.sha256(content).hexdigest() != answer["digest"]:
            raise errors.ModelLoadError(f'the bytes of model "{name}" do not match their digest')
        return content, answer

    def _keep(self, name: str, kind: str, content_type: str, stream: IO[bytes]) -> None:
        # The digest goes first, so that bytes that are kept already are not written again.
        if not stream.seekable():
            stream = io.BytesIO(stream.read())
        begin = stream.tell()
        digest = hashlib.sha256()
        size = 0
        read: Callable[[int], Any] = stream.read
        while part := read(PART_BYTES):
            if not isinstance(part, bytes | bytearray | memoryview):
                raise errors.InvalidArgument(f'"{name}" must be opened in binary mode, its stream gives text')
            digest.update(part)
            size += len(part)
        stream.seek(begin)
        if kind == "image" and self.first_image is None:
            self.first_image = read(size)
            stream.seek(begin)
        head = {"name": name, "kind": kind, "content_type": content_type, "digest": digest.hexdigest(), "size": size}
        with self._alone() as say:
            say({"tag": "artifact", **head})
            _send_parts(say, stream, digest.hexdigest())
        self.kept.add(name)


def _send_parts(say: Say, stream: IO[bytes], digest: str) -> None:
    sent = hashlib.sha256()
    while part := stream.read(PART_BYTES):
        sent.update(part)
        say({"tag": "part"}, part)
    say({"tag": "end", "digest": sent.hexdigest()})
    if sent.hexdigest() != digest:
        raise errors.InvalidArgument("a file must not change while it is kept")


def _pickle(model: Any, name: str) -> bytes:
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(model)
    except MemoryError:
        raise
    except Exception as error:
        raise errors.InvalidArgument(f'model "{name}" cannot be pickled: {type(error).__name__}: {error}') from error
    return content


def describe(model: Any, sample: Any = None) -> dict[str, Any] | None:
    """Return what a model takes and gives, as far as it or a sample of its input tells.

    {"features": [{"name", "type"}], "n_features", "prediction": {"type"}, "classes": [...]}; no key without a value.
    """
    engine = PythonEngine(model)
    signature: dict[str, Any] = {}
    frame = columns.as_frame(sample)
    types = {} if frame is None else {column.name: column.type for column in columns.natural_columns(frame)}
    names = list(types)
    if engine.features is not None:
        places = feature_places(engine.features, names)
        names = [name if place is None else names[place] for name, place in zip(engine.features, places, strict=True)]
    if engine.features is not None or frame is not None:
        signature["features"] = [
            {"name": name, "type": types.get(name, "double precision")} if types else {"name": name} for name in names
        ]
    if engine.n_features is not None:
        signature["n_features"] = engine.n_features
    if callable(getattr(model, "predict", None)):
        signature["prediction"] = {"type": engine.type}
    if engine.classes is not None:
        signature["classes"] = [_plain(label) for label in engine.classes]
    return signature or None


def framework_of(model: Any) -> tuple[str | None, str | None]:
    """Return the framework that a model comes from and its installed version, None for what is unknown."""
    framework, package = FRAMEWORKS.get(type(model).__module__.partition(".")[0], (None, ""))
    if framework is None:
        return None, None
    try:
        return framework, metadata.version(package)
    except metadata.PackageNotFoundError:
        return framework, None


def _number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real | Decimal):
        item = getattr(value, "item", None)
        if callable(item) and getattr(value, "size", 1) == 1:
            value = item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real | Decimal):
        raise errors.InvalidArgument(
            f"a metric's value must be a number, got {name}={value!r}", hint="run.tag(name, value) keeps text"
        )
    try:
        return float(value)
    except OverflowError:
        raise errors.InvalidArgument(f"a metric's value must be a double precision number, got {name}={value!r}") from None


def _name(name: Any, what: str) -> str:
    """Return a name that PostgreSQL can keep."""
    if not isinstance(name, str) or not name or len(name) > 255 or not name.isprintable():
        raise errors.InvalidArgument(f"{what} must be text of 1 to 255 printable characters, got {name!r}")
    return name


def _add_for_good(known: dict[str, str], given: Mapping[str, Any], what: str, one: str) -> dict[str, str]:
    """Add texts by name to those that are known, and return them.

    Raises: InvalidArgument where one has another value already.
    """
    added = {_name(name, f"{one}'s name"): text for name, text in _texts(given, what).items()}
    for name, text in added.items():
        if known.get(name, text) != text:
            raise errors.InvalidArgument(
                f"{one} must not change: {name} is {known[name]!r}, got {text!r}", hint="run.tag(name, value) keeps what changes"
            )
    known |= added
    return added


def _text(value: Any) -> str:
    return str(value).replace("\x00", "\ufffd")


def _texts(given: Mapping[str, Any] | None, what: str) -> dict[str, str]:
    if given is not None and not hasattr(given, "items"):
        raise errors.InvalidArgument(f"{what} must be a dict, got {given!r}")
    return {_text(key): _text(value) for key, value in (given or {}).items()}


def _cells(cells: Any) -> Iterable[Any]:
    return [cells] if isinstance(cells, str | bytes) or not hasattr(cells, "__iter__") else cells


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numpy's scalars as numbers, what is neither number nor text as text."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 1) == 1:
        value = item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, int | float | bool | None) else _text(value)


def _plain_tree(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _plain_tree(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(inner) for inner in value]
    return _plain(value)


def _draw(plot: Any) -> IO[bytes]:
    """Return a picture as PNG: of a figure, of what has one, or of an array of pixels."""
    buffer = io.BytesIO()
    figure = plot
    for attribute in ("gcf", "get_figure"):
        if not hasattr(figure, "savefig") or (attribute == "gcf" and hasattr(figure, "gcf")):
            found = getattr(figure, attribute, None)
            figure = found() if callable(found) else figure
    if hasattr(figure, "savefig"):
        figure.savefig(buffer, format="png")
        figure.dbml_kept = True  # so that it is not kept again when it is left open
    elif getattr(plot, "ndim", 0) in (2, 3):
        try:
            from matplotlib import image
        except ImportError:
            raise errors.InvalidArgument(
                "an array is drawn by matplotlib, which is not installed", hint="pip install matplotlib"
            ) from None
        image.imsave(buffer, plot, format="png")
    else:
        raise errors.InvalidArgument(
            f"plot must be a matplotlib figure, axes or module, or an array of pixels, got {type(plot).__name__}",
            hint="pip install matplotlib, then run.log_image(name, plot=matplotlib.pyplot)",
        )
    buffer.seek(0)
    return buffer
