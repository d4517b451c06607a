"""MLflow's registry of models over dbml.models: a name is there with its first version, aliases are dbml's.

`dbml.predict` scores what was registered from a pickle; a model that MLflow has logged is a folder, and is served with the
score.py that its user gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities.model_registry import (
    ModelVersion,
    ModelVersionTag,
    RegisteredModel,
    RegisteredModelAlias,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils

from dbml.core.model_registration import register_from_path, register_from_run
from dbml.core.tracking_uri import SCHEME, version_of, workspace_of
from dbml.mlflow import entities, held
from dbml.mlflow.artifacts import place
from dbml.mlflow.failures import missing, refuse, taken, translating, wrong
from dbml.mlflow.script_store import NEAREST
from dbml.store.client import models
from dbml.store.client.rows import Row

LOGGED = "models:/"  # where MLflow's logged models are: models:/m-…
SOURCE, MODEL_ID = "mlflow.source", "mlflow.modelId"  # properties of a version
PAGE = 100
BY_NAME_ALONE = (
    "a model of dbml has tags and a description by version: MlflowClient().set_model_version_tag and update_model_version"
)


class _Registry(AbstractStore):  # type: ignore[misc]  # MLflow's classes are not typed
    """What no registry of dbml's has."""

    def update_registered_model(self, name: str, description: str, deployment_job_id: Any = None) -> RegisteredModel:
        """Refuse: versions are described."""
        refuse(BY_NAME_ALONE)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """Refuse: versions have tags."""
        refuse(BY_NAME_ALONE)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Refuse: versions have tags."""
        refuse(BY_NAME_ALONE)

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        """Refuse: a model keeps its name."""
        refuse("a model of dbml keeps its name, by which queries use it; register_model under another name copies no bytes")

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        """Refuse: there are no stages."""
        refuse("dbml has aliases, not stages: MlflowClient().set_registered_model_alias(name, 'production', version)")


@translating
class Registry(_Registry):
    """The registered models of the workspace that an address names."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        self._workspace = workspace_of(store_uri)
        self._connection = self._workspace._connection
        self._promised: set[str] = set()  # names that were made and have no version yet

    def _rows(self, **asked: Any) -> list[Row]:
        return self._connection.do_again(models.list_all, self._workspace.name, **asked)

    def _row(self, name: str, version: int | str) -> Row:
        if not str(version).isdecimal():
            raise wrong(f"a model's version must be a number, got {version!r}")
        rows = self._rows(name=name, version=int(version))
        if not rows:
            raise missing(f"model {name!r} has no version {version} in workspace {self._workspace.name!r}")
        return rows[0]

    # -- names -----------------------------------------------------------------------------------------------------

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: Any = None
    ) -> RegisteredModel:  # fmt: skip
        """Take note of a name, which is there with its first version."""
        if self._rows(name=name):
            raise taken(f"model {name!r} exists in workspace {self._workspace.name!r}")
        if tags or description:
            refuse(BY_NAME_ALONE)
        self._promised.add(name)
        return RegisteredModel(name, held.now_ms(), held.now_ms(), latest_versions=[])

    def get_registered_model(self, name: str) -> RegisteredModel:
        """Return a model by its name, with its newest version."""
        rows = self._rows(name=name)
        if rows:
            return _model(name, rows)
        if name in self._promised:
            return RegisteredModel(name, held.now_ms(), held.now_ms(), latest_versions=[])
        raise missing(f"no model {name!r} is in workspace {self._workspace.name!r}")

    def delete_registered_model(self, name: str) -> None:
        """Delete all versions of a model."""
        for row in self._rows(name=name):
            self._connection.do(models.delete, self._workspace.name, f"{name}:{row['version']}")
        self._promised.discard(name)

    def search_registered_models(
        self, filter_string: str | None = None, max_results: int | None = None, order_by: Any = None,
        page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the models that a filter of MLflow's lets through."""
        by_name: dict[str, list[Row]] = {}
        for row in self._rows():
            by_name.setdefault(str(row["name"]), []).append(row)
        found = SearchModelUtils.sort(
            SearchModelUtils.filter([_model(name, rows) for name, rows in by_name.items()], filter_string), order_by
        )  # fmt: skip
        return PagedList(*SearchUtils.paginate(found, page_token, max_results or PAGE))

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[ModelVersion]:
        """Return the newest version; there are no stages."""
        if stages and set(stages) != {"None"}:
            refuse("dbml has aliases, not stages: MlflowClient().get_model_version_by_alias(name, 'production')")
        return [_version(row) for row in self._rows(name=name, latest=True)]

    # -- versions --------------------------------------------------------------------------------------------------

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: Any = None, run_link: str | None = None,
        description: str | None = None, local_model_path: str | None = None, model_id: str | None = None,
    ) -> ModelVersion:  # fmt: skip
        """Register what a run keeps under an address, without copying bytes, or a local folder, as the next version."""
        about = {
            "tags": {tag.key: tag.value for tag in tags or []}, "description": description,
            "properties": {SOURCE: source} | ({} if model_id is None else {MODEL_ID: model_id}),
        }  # fmt: skip
        found = _source(self._logged(source))
        if found is not None:
            model = register_from_run(self._workspace.get_run(found[0]), name, found[1], **about)
        elif local_model_path is not None or urlsplit(source).scheme in ("", "file"):
            model = register_from_path(self._workspace, name, local_model_path or urlsplit(source).path, None, **about)
        else:
            refuse(f"a model is registered of what a run of the workspace keeps, or of a local folder, got {source!r}")
        self._promised.discard(name)
        return _version(model._row)

    def _logged(self, source: str) -> str:
        """Return where the files of a logged model are; any other address as it is."""
        if not source.startswith(LOGGED + held.ID):
            return source
        model_id = source.removeprefix(LOGGED)
        run = self._workspace.get_run(held.run_of(model_id))
        about = held.split(run.get_tags())[1].get(held.MODEL + model_id)
        if about is None:
            raise missing(f"no logged model has the id {model_id!r}")
        return str(held.model(model_id, about, entities.DEFAULT_ID).artifact_location)

    def get_model_version(self, name: str, version: int | str) -> ModelVersion:
        """Return a version."""
        return _version(self._row(name, version))

    def get_model_version_download_uri(self, name: str, version: int | str) -> str:
        """Return the address of a version's files."""
        return version_of(name, self._row(name, version)["version"])

    def update_model_version(self, name: str, version: int | str, description: str | None) -> ModelVersion:
        """Describe a version."""
        self._row(name, version)
        self._connection.do_again(models.change, self._workspace.name, f"{name}:{version}", description=description)
        return self.get_model_version(name, version)

    def delete_model_version(self, name: str, version: int | str) -> None:
        """Delete a version."""
        self._row(name, version)
        self._connection.do(models.delete, self._workspace.name, f"{name}:{version}")

    def search_model_versions(
        self, filter_string: str | None = None, max_results: int | None = None, order_by: Any = None,
        page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the versions that a filter of MLflow's lets through."""
        found = SearchModelVersionUtils.filter([_version(row) for row in self._rows()], filter_string)
        found = SearchModelVersionUtils.sort(
            found, order_by or ["last_updated_timestamp DESC", "name ASC", "version_number DESC"]
        )
        return PagedList(*SearchUtils.paginate(found, page_token, max_results or PAGE))

    def set_model_version_tag(self, name: str, version: int | str, tag: ModelVersionTag) -> None:
        """Set a tag of a version."""
        self._row(name, version)
        self._connection.do_again(models.change, self._workspace.name, f"{name}:{version}", tags={tag.key: tag.value})

    def delete_model_version_tag(self, name: str, version: int | str, key: str) -> None:
        """Remove a tag of a version."""
        self._row(name, version)
        self._connection.do_again(models.change, self._workspace.name, f"{name}:{version}", remove=[key])

    # -- aliases ---------------------------------------------------------------------------------------------------

    def set_registered_model_alias(self, name: str, alias: str, version: int | str) -> None:
        """Let an alias mean a version: dbml.predict('name@alias', …) uses it from the next statement on."""
        self._row(name, version)
        self._connection.do(models.set_alias, self._workspace.name, f"{name}:{version}", alias)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Refuse: queries may use it."""
        refuse("an alias of dbml is given to another version, and not taken away: set_registered_model_alias")

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that an alias means."""
        rows = self._rows(name=name, alias=alias)
        if not rows:
            raise missing(f"no version of model {name!r} has the alias {alias!r}")
        return _version(rows[0])


@translating
class ScriptRegistry(_Registry):
    """The registry inside a script of the worker: it takes what the script's run keeps, and reads nothing."""

    def __init__(self, store_uri: str | None = None, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        from dbml.mlflow.stores import script_store

        self._store = script_store()
        self._made: dict[tuple[str, str], ModelVersion] = {}

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: Any = None
    ) -> RegisteredModel:  # fmt: skip
        """Take note of a name, which is there with its first version."""
        return RegisteredModel(name, held.now_ms(), held.now_ms(), latest_versions=[])

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: Any = None, run_link: str | None = None,
        description: str | None = None, local_model_path: str | None = None, model_id: str | None = None,
    ) -> ModelVersion:  # fmt: skip
        """Register what the script's run keeps under an address as the next version."""
        if source.startswith(LOGGED + held.ID):
            source = str(self._store.get_logged_model(source.removeprefix(LOGGED)).artifact_location)
        found = _source(source)
        if found is None:
            refuse(f"a script registers what its run keeps, got {source!r}")
        run, folder = self._store._find(found[0]).run._run, found[1]
        files = {kept.removeprefix(folder).lstrip("/"): kept for kept in sorted(run.kept) if kept.startswith(f"{folder}/")}
        if not files:
            raise missing(f"run {found[0]} keeps no files in {folder!r}")
        given = {tag.key: tag.value for tag in tags or []}
        version = str(
            run.register_files(name, files, format="files", tags=given, properties={SOURCE: source}, description=description)
        )  # fmt: skip
        now = held.now_ms()
        made = ModelVersion(
            name, version, now, now, description, run.user, source=source, run_id=found[0], model_id=model_id,
            tags=[ModelVersionTag(key, value) for key, value in given.items()],
        )  # fmt: skip
        self._made[name, version] = made
        return made

    def get_model_version(self, name: str, version: int | str) -> ModelVersion:
        """Return a version that the script has registered."""
        found = self._made.get((name, str(version)))
        return refuse(NEAREST) if found is None else found

    def _refuse(self, *arguments: Any, **options: Any) -> Any:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    get_registered_model = delete_registered_model = search_registered_models = get_latest_versions = _refuse
    get_model_version_download_uri = update_model_version = delete_model_version = search_model_versions = _refuse
    set_model_version_tag = delete_model_version_tag = _refuse
    set_registered_model_alias = delete_registered_model_alias = get_model_version_by_alias = _refuse


def _source(address: str) -> tuple[str, str] | None:
    """Return run and folder of an address of artifacts; None for an address of another kind."""
    if urlsplit(address).scheme != SCHEME or not urlsplit(address).path.startswith("/runs/"):
        return None
    run_id, folder = place(address)
    if not folder:
        raise wrong(f"a model must be a file or folder of what a run keeps, got {address!r}")
    return run_id, folder


def _model(name: str, rows: Sequence[Row]) -> RegisteredModel:
    """Return a model of the rows of its versions."""
    newest = max(rows, key=lambda row: int(row["version"]))
    aliases = [RegisteredModelAlias(alias, str(row["version"])) for row in rows for alias in row["aliases"]]
    times = [entities.milliseconds(row["created_at"]) or 0 for row in rows]
    return RegisteredModel(name, min(times), max(times), newest["description"], [_version(newest)], aliases=aliases)


def _version(row: Row) -> ModelVersion:
    """Return a row of dbml.models."""
    made = entities.milliseconds(row["created_at"]) or 0
    name, version = str(row["name"]), str(row["version"])
    return ModelVersion(
        name, version, made, made, row["description"], str(row["created_by"]), "None",
        row["properties"].get(SOURCE) or version_of(name, version), None if row["run_id"] is None else str(row["run_id"]),
        tags=[ModelVersionTag(key, "" if value is None else str(value)) for key, value in row["tags"].items()],
        aliases=[*row["aliases"]], model_id=row["properties"].get(MODEL_ID),
    )  # fmt: skip
