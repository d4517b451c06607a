"""`run`, the object that a script finds beside its data: what it logs, keeps, registers and loads."""

from __future__ import annotations

import hashlib
import io
import json
import math
import numbers
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from dbml import errors

PART_BYTES = 1 << 20

# The first part of an estimator's module, its framework's name, and the package that has its version.
FRAMEWORKS = {
    "sklearn": ("ScikitLearn", "scikit-learn"), "xgboost": ("XGBoost", "xgboost"), "lightgbm": ("LightGBM", "lightgbm"),
    "catboost": ("CatBoost", "catboost"), "statsmodels": ("Statsmodels", "statsmodels"), "torch": ("PyTorch", "torch"),
}  # fmt: skip

Say = Callable[..., None]
Hear = Callable[[], tuple[dict[str, Any], bytes]]


class Run:
    """The run that a script belongs to."""

    def __init__(self, call: Mapping[str, Any], say: Say, hear: Hear) -> None:
        self._call = call
        self._say = say
        self._hear = hear
        self._metrics: dict[str, list[float]] = {}

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

        Raises: InvalidArgument where value is no number.
        """
        plain = _scalar(value)
        if isinstance(plain, bool) or not isinstance(plain, int | float):
            raise errors.InvalidArgument(
                f"a metric's value must be a number, got {name}={value!r}", hint="run.tag(name, value) keeps text"
            )
        number = float(plain)
        if not name:
            raise errors.InvalidArgument("a metric's name must not be empty")
        self._metrics.setdefault(name, []).append(number)
        text = number if math.isfinite(number) else repr(number)
        self._say({"tag": "metric", "name": name, "step": step, "value": text, "time": time.time()})

    def log_list(self, name: str, values: Sequence[float], description: str = "") -> None:
        """Log several values of a metric, in order."""
        for step, value in enumerate(values):
            self.log(name, value, step)

    def log_row(self, name: str, description: str = "", **values: float) -> None:
        """Log a row of named values; in dbml.metrics they are name.column."""
        for column, value in values.items():
            self.log(f"{name}.{column}", value)

    def log_table(self, name: str, value: Mapping[str, Iterable[Any]], description: str = "") -> None:
        """Keep a table, columns by name, as an artifact in JSON."""
        columns = {str(key): [_plain(cell) for cell in cells] for key, cells in value.items()}
        self._keep(name, "table", "application/json", io.BytesIO(json.dumps(columns).encode()))

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Keep an image: a PNG file, a matplotlib figure, or what pyplot has drawn last.

        Raises: InvalidArgument where both or neither are given.
        """
        if (path is None) == (plot is None):
            raise errors.InvalidArgument("exactly one of path and plot must be given")
        if path is not None:
            with Path(path).open("rb") as file:
                self._keep(name, "image", "image/png", file)
            return
        buffer = io.BytesIO()
        figure = plot.gcf() if hasattr(plot, "gcf") else plot
        figure.savefig(buffer, format="png")
        buffer.seek(0)
        self._keep(name, "image", "image/png", buffer)

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """Keep a file with the run under a name; the same name again replaces it."""
        if isinstance(path_or_stream, str | os.PathLike):
            with Path(path_or_stream).open("rb") as file:
                self._keep(name, "file", "application/octet-stream", file)
        else:
            self._keep(name, "file", "application/octet-stream", path_or_stream)

    def tag(self, name: str, value: Any = "") -> None:
        """Tag the run; the same name again replaces the value."""
        self._say({"tag": "tags", "tags": {str(name): str(value)}})

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
    ) -> int:  # fmt: skip
        """Register an estimator as the next version of a model, in the caller's transaction; returns the version.

        framework and its version are recorded as given, else found from the estimator; so is the signature, whose
        features are those of sample_input (a data frame) where the estimator does not know them.
        """
        import cloudpickle

        content: bytes = cloudpickle.dumps(model)
        if framework is None:
            root = type(model).__module__.partition(".")[0]
            framework, package = FRAMEWORKS.get(root, (None, root))
            if framework is not None and framework_version is None:
                framework_version = metadata.version(package)
        head = {
            "tag": "register", "name": name, "framework": framework, "framework_version": framework_version,
            "signature": dict(signature) if signature is not None else describe(model, sample_input),
            "tags": dict(tags or {}), "properties": dict(properties or {}), "description": description, "alias": alias,
            "format": "pickle", "digest": hashlib.sha256(content).hexdigest(), "size": len(content),
        }  # fmt: skip
        self._say(head)
        self._send_parts(io.BytesIO(content))
        answer, _ = self._hear()
        if answer["tag"] == "refused":
            raise errors.from_fields(answer)
        return int(answer["version"])

    def load_model(self, name: str) -> Any:
        """Load a registered model: 'name', 'name:3' or 'name@alias', in the caller's snapshot.

        Raises: ModelNotFound; ModelLoadError where its bytes do not load here.
        """
        import pickle

        self._say({"tag": "load", "name": name})
        parts = []
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
        try:
            return pickle.loads(content)
        except Exception as error:
            raise errors.ModelLoadError(f'model "{name}" does not load: {type(error).__name__}: {error}') from error

    def _keep(self, name: str, kind: str, content_type: str, stream: IO[bytes]) -> None:
        if not name:
            raise errors.InvalidArgument("an artifact's name must not be empty")
        # The digest goes first, so that bytes that are kept already are not written again.
        if not stream.seekable():
            stream = io.BytesIO(stream.read())
        digest = hashlib.sha256()
        size = 0
        while part := stream.read(PART_BYTES):
            digest.update(part)
            size += len(part)
        stream.seek(0)
        self._say({"tag": "artifact", "name": str(name), "kind": kind, "content_type": content_type,
                   "digest": digest.hexdigest(), "size": size})  # fmt: skip
        self._send_parts(stream)

    def _send_parts(self, stream: IO[bytes]) -> None:
        while part := stream.read(PART_BYTES):
            self._say({"tag": "part"}, part)
        self._say({"tag": "end"})


def describe(model: Any, sample: Any = None) -> dict[str, Any] | None:
    """Return what a model takes and gives, as far as it knows: features, n_features, classes."""
    signature: dict[str, Any] = {}
    names = getattr(model, "feature_names_in_", None)
    if names is None and sample is not None:
        names = list(getattr(sample, "columns", []))
    if names is not None and len(names):
        signature["features"] = [{"name": str(name)} for name in names]
    count = getattr(model, "n_features_in_", None)
    if count is not None:
        signature["n_features"] = int(count)
    classes = getattr(model, "classes_", None)
    if classes is not None and getattr(classes, "ndim", 1) == 1 and not isinstance(classes, list):
        signature["classes"] = [_plain(label) for label in classes]
    return signature or None


def _scalar(value: Any) -> Any:
    """Return numpy's scalars, and its arrays of one value, and Decimals as Python's own numbers."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if isinstance(value, int | float):
        return value
    return float(value) if isinstance(value, numbers.Real | Decimal) else value


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    value = item() if callable(item) else value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
