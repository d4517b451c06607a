"""The client of one workspace; see `dbml.connect`."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import sql

from dbml import errors
from dbml.client import frames
from dbml.client.catalog import Catalog
from dbml.client.functions import as_script
from dbml.core.connection import Connection
from dbml.core.experiment import Experiment
from dbml.core.model import Model
from dbml.core.model_registration import register_from_bytes, register_from_path
from dbml.core.run import Run
from dbml.core.workspace import Workspace
from dbml.store.client import scripts

if TYPE_CHECKING:
    import pandas as pd


class Client:
    """A session with a workspace; `dbml.connect` makes one.

    Threads may share it, one statement at a time.  What scripts print is printed here.
    """

    def __init__(self, dsn: str | None = None, workspace: str = "default") -> None:
        self._connection = Connection(dsn, application="dbml client", settings={"dbml.workspace": workspace})
        self._connection.notice = print
        self._workspace = Workspace._open(self._connection, workspace)

    def __repr__(self) -> str:
        return f"<dbml client of workspace {self.name!r} in {self._connection.place}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the session; runs that it started and did not finish are interrupted."""
        self._connection.close()

    @property
    def name(self) -> str:
        """Return the name of the workspace."""
        return self._workspace.name

    def workspace(self, name: str, *, create: bool = False) -> Client:
        """Return a client of another workspace of the same database; create: make it where it is not there.

        Raises: WorkspaceException where it is not there.
        """
        if create:
            Workspace.create(name, exist_ok=True, show_output=False, dsn=self._connection.dsn)._connection.close()
        return Client(self._connection.dsn, name)

    def query(self, text: str, values: Sequence[Any] | Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Run a statement, and return its rows; values take the places of %s or %(name)s in it."""
        with self._connection.session() as session:
            return frames.read(session, sql.SQL(text), values)

    def run_script(
        self, script: str | Callable[..., Any], input: str | pd.DataFrame | None = None,  # noqa: A002 - as one says it
        *, inputs: Mapping[str, str | pd.DataFrame] | None = None, params: Mapping[str, Any] | None = None,
        language: str = "python", partition_by: Sequence[str] | None = None, order_by: Sequence[str] | None = None,
        rows_per_read: int | None = None, parallel: int = 1, environment: str | None = None, pool: str | None = None,
        timeout: str | None = None, experiment: str | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Run a script next to the data, and return what it leaves in OutputDataSet.

        script: text, or a function, which is shipped as its source; it gets the input as its first parameter, params and
        inputs by name, and what it returns is the result.  input: a query, or a frame that is brought along; inputs: more of
        them by name.  The other options are those of SQL's dbml.run_script.
        Raises: ScriptFailed with the script's own lines; InvalidArgument; WorkerError.
        """
        named: dict[str, str | pd.DataFrame] = dict(inputs or {})
        if input is not None:
            if "InputDataSet" in named:
                raise errors.InvalidArgument("the input must be given once, got input and inputs['InputDataSet']")
            named["InputDataSet"] = input
        text = script if isinstance(script, str) else as_script(script, named, params or {})
        with self._connection.session() as session, frames.many_lent(session, named) as queries:
            run_id = scripts.keep(
                session, script=text, inputs=json.dumps(queries), params=json.dumps(dict(params or {})), language=language,
                partition_by=partition_by and [*partition_by], order_by=order_by and [*order_by],
                rows_per_read=rows_per_read, parallel=parallel, environment=environment, pool=pool, timeout=timeout,
                workspace=self.name, experiment=experiment,
            )  # fmt: skip
            columns = scripts.columns_of(session, run_id)
            if columns is None:
                return frames.read(session, sql.SQL("select"))
            try:
                return frames.read(session, scripts.output_query(run_id, columns))
            finally:
                scripts.forget(session, run_id)

    def predict(self, model: str, data: str | pd.DataFrame | Sequence[float]) -> pd.DataFrame | float:
        """Score rows, and return them with a column `prediction`; of one row's features, the prediction alone.

        model: 'name', 'name:3' or 'name@alias'.  data: a query, a frame, or the features of one row in the model's order.
        Raises: ModelNotFound; MissingFeature; PredictionError.
        """
        if not isinstance(data, str) and not hasattr(data, "columns"):
            with self._connection.session() as session:
                return scripts.predict_one(session, model, [float(value) for value in data])
        with self._connection.session() as session, frames.many_lent(session, {"data": data}) as queries:
            return frames.read(session, scripts.predict_query(session, model, queries["data"]))

    def explain(self, model: str, data: str | pd.DataFrame) -> pd.DataFrame:
        """Return what each column has contributed to the predictions for rows: a row a row and feature.

        data: a query or a frame.  Columns: those of SQL's dbml.explain_prediction.
        Raises: ModelNotFound; MissingFeature.
        """
        with self._connection.session() as session, frames.many_lent(session, {"data": data}) as queries:
            return frames.read(session, sql.SQL("select * from dbml.explain_prediction(%s, %s::text)"), (model, queries["data"]))

    def evaluate(self, model: str, data: str | pd.DataFrame, target: str, experiment: str = "evaluations") -> pd.DataFrame:
        """Compare a model's predictions with a column that holds the answers, as a run: metric, value and details a row.

        data: a query or a frame; target: the column.
        Raises: ModelNotFound; InvalidArgument where target is no column; MissingFeature.
        """
        with self._connection.session() as session, frames.many_lent(session, {"data": data}) as queries:
            text = sql.SQL("select * from dbml.evaluate(%s, %s, %s, experiment => %s)")
            return frames.read(session, text, (model, queries["data"], target, experiment))

    def register_model(
        self, name: str, model: Any, *, tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
        description: str | None = None, framework: str | None = None, framework_version: str | None = None,
        alias: str | None = None, environment: str | None = None,
    ) -> Model:  # fmt: skip
        """Register the next version of a model: an estimator, which is pickled here, or the path of a file or a folder.

        Raises: InvalidArgument where it cannot be pickled; ModelPathNotFoundException.
        """
        about = {
            "tags": tags, "properties": properties, "description": description, "framework": framework,
            "framework_version": framework_version, "alias": alias, "environment": environment,
        }  # fmt: skip
        if isinstance(model, str | os.PathLike):
            return register_from_path(self._workspace, name, os.fspath(model), None, **about)
        try:
            content = pickle.dumps(model, protocol=5)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise errors.InvalidArgument(
                f"a model must be one that pickle takes: {error}", hint="or train it in a script, with run.register_model"
            ) from None
        if framework is None:
            about["framework"], about["framework_version"] = _framework_of(model)
        return register_from_bytes(self._workspace, name, f"{name}.pkl", io.BytesIO(content), **about)

    def load_model(self, model: str) -> Any:
        """Return a registered estimator, unpickled in this process.

        Unpickling runs what the pickle says: load only models of people whom you trust.
        Raises: ModelNotFoundException; InvalidArgument for a model of several files.
        """
        found = self.models[model]
        if found._row["format"] != "pickle":
            raise errors.InvalidArgument(
                f"a model must be one pickled estimator to be loaded, {found.id} is of format {found._row['format']}",
                hint="db.models[name].download(folder)",
            )
        content = self._connection.do_again(scripts.model_bytes, found.id, self.name)
        return pickle.loads(content)  # noqa: S301 - what this is for

    def start_run(
        self, experiment: str, *, name: str | None = None, params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Run:  # fmt: skip
        """Begin a run of this process: `with db.start_run("trials") as run: run.log("rmse", 0.5)`."""
        run = Experiment(self._workspace, experiment).start_logging(display_name=name, params=params)
        if tags:
            run.set_tags(tags)
        return run

    @property
    def models(self) -> Catalog[Model]:
        """Return the models: `db.models["churn@champion"]`, `db.models.frame`."""
        return Catalog(
            lambda: self._read("select name, version, aliases, framework, description, tags, size_bytes, created_at, created_by"
                               " from dbml.models where workspace = %s order by created_at desc, model_id desc"),
            lambda name: Model(self._workspace, name),
            lambda: [*self._workspace.models],
        )  # fmt: skip

    @property
    def runs(self) -> Catalog[Run]:
        """Return the runs: `db.runs[id]`, `db.runs.frame`."""
        text = (
            "select run_id::text as run_id, experiment, display_name as name, status, username, started_at, seconds,"
            " params, tags, error from dbml.runs where workspace = %s order by started_at desc"
        )
        return Catalog(
            lambda: self._read(text).set_index("run_id"),
            lambda run_id: Run.get(self._workspace, run_id),
            lambda: [str(run_id) for run_id in self._read(text)["run_id"]],
        )

    @property
    def experiments(self) -> Catalog[Experiment]:
        """Return the experiments: `db.experiments["trials"].compare()`, `db.experiments.frame`."""
        return Catalog(
            lambda: self._read("select name, description, runs, last_run_at, created_by, created_at from dbml.experiments"
                               " where workspace = %s order by last_run_at desc nulls last, name"),
            self._experiment,
            lambda: [*self._workspace.experiments],
        )  # fmt: skip

    def metrics(self, experiment: str | None = None, run_id: str | UUID | None = None) -> pd.DataFrame:
        """Return what runs logged, a row a value in the order of logging: of one run, of an experiment, or of all."""
        from dbml.core.metric_buffer import flush_all

        flush_all()
        return self.query(
            "select run_id::text as run_id, experiment, name, step, value, kind, data::text as data, logged_at from dbml.metrics"
            " where workspace = %(workspace)s and (%(experiment)s::text is null or experiment = %(experiment)s)"
            " and (%(run_id)s::uuid is null or run_id = %(run_id)s)",
            {"workspace": self.name, "experiment": experiment, "run_id": run_id},
        )  # fmt: skip

    def _experiment(self, name: str) -> Experiment:
        found = Experiment.list(self._workspace, name)
        if not found:
            raise errors.InvalidArgument(f"experiment {name!r} is not in workspace {self.name!r}", hint=f"db.start_run({name!r})")
        return found[0]

    def _read(self, text: str) -> pd.DataFrame:
        return self.query(text, (self.name,))


def _framework_of(model: Any) -> tuple[str | None, str | None]:
    """Return the package of an estimator, which is imported already, and its version."""
    import sys

    package = type(model).__module__.split(".")[0]
    names = {"sklearn": "scikit-learn"}
    version = getattr(sys.modules.get(package), "__version__", None)
    return (names.get(package, package), str(version)) if version is not None else (None, None)
