"""Registered models: versions of files or of a pickled estimator, found by name, version, tags or run.

A model that was registered from a pickle is scored in SQL: SELECT dbml.predict('name', array[…]).
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml.core import transfer
from dbml.core.inference_config import InferenceConfig as InferenceConfig
from dbml.core.model_lookup import asked_pairs, in_service, version_number, warn_of_another_version
from dbml.core.model_registration import register_from_path
from dbml.core.resource_configuration import ResourceConfiguration
from dbml.core.run_files import safe
from dbml.exceptions import ModelNotFoundException, UserErrorException
from dbml.store.client import models
from dbml.store.client.rows import Row, text_of

if TYPE_CHECKING:
    from dbml.core.lineage import Lineage
    from dbml.core.model_package import ModelPackage
    from dbml.core.profile import ModelProfile
    from dbml.core.run import Run
    from dbml.core.webservice import Webservice, WebserviceDeploymentConfiguration
    from dbml.core.workspace import Workspace


class _Frameworks:
    """Names of what models are made with; any other text will do as well."""

    CUSTOM = "Custom"
    TENSORFLOW = "TensorFlow"
    SCIKITLEARN = "ScikitLearn"
    ONNX = "Onnx"
    MULTI = "Multi"
    PYTORCH = "PyTorch"
    XGBOOST = "XGBoost"
    LIGHTGBM = "LightGBM"


class Model:
    """A version of a registered model: by default the newest of its name.

    name: the name, or name:version.  id: name:version.  tags: text for a name, [name, value] for both, or a list of these;
    the newest version that has them.  properties: likewise.  run_id, model_framework: of whom it must be.
    Raises: ModelNotFoundException.
    """

    Framework = _Frameworks

    def __init__(
        self, workspace: Workspace, name: str | None = None, id: str | None = None,  # noqa: A002 - the SDK's name
        tags: Any = None, properties: Any = None, version: int | str | None = None, run_id: str | None = None,
        model_framework: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        wanted = id or name
        if wanted and ":" in wanted and version is None:
            wanted, _, number = wanted.rpartition(":")
            version = number
        alias = None
        if wanted and "@" in wanted:
            wanted, _, alias = wanted.partition("@")
        rows = workspace._connection.do_again(
            models.list_all, workspace.name, name=wanted, version=version_number(version), alias=alias, run_id=run_id,
            framework=model_framework, tags=asked_pairs(tags), properties=asked_pairs(properties),
        )  # fmt: skip
        if not rows:
            asked = {"name": wanted, "version": version, "alias": alias, "tags": tags, "properties": properties, "run_id": run_id,
                     "model_framework": model_framework}  # fmt: skip
            shown = ", ".join(f"{key}={value!r}" for key, value in asked.items() if value is not None)
            raise ModelNotFoundException(
                f"no model with {shown or 'any name'} is in workspace {workspace.name!r}",
                hint="Model.list(workspace), or SELECT name, version, aliases FROM dbml.models",
            )
        self.workspace = workspace
        self._row = max(rows, key=lambda row: int(row["version"])) if wanted else rows[0]

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Model:
        model = cls.__new__(cls)
        model.workspace, model._row = workspace, row
        return model

    def __repr__(self) -> str:
        return (
            f"Model(workspace={self.workspace.name!r}, name={self.name}, id={self.id}, version={self.version},"
            f" tags={self.tags}, properties={self.properties})"
        )

    @staticmethod
    def register(
        workspace: Workspace, model_path: str | os.PathLike[str], model_name: str, tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None, description: str | None = None,
        datasets: Sequence[tuple[str, Any]] | None = None, model_framework: str | None = None,
        model_framework_version: str | None = None, child_paths: Sequence[str] | None = None,
        sample_input_dataset: Any = None, sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None, **kwargs: Any,
    ) -> Model:  # fmt: skip
        """Register a file or a folder as the next version of a model, and return it.

        A file with a pickled estimator (pickle, cloudpickle, joblib) can be scored by dbml.predict; of the file nothing is
        run or imported here.  child_paths: the files of a folder that count.  environment: of kwargs, where it is scored.
        Files are uploaded in parts of 1 MiB; their digests are checked.
        Raises: ModelPathNotFoundException; InvalidArgument for a name that holds one of : @ /.
        """
        print(f"Registering model {model_name}")
        environment = kwargs.get("environment")
        model = register_from_path(
            workspace, model_name, os.fspath(model_path), child_paths, tags=tags, properties=properties,
            description=description, datasets=datasets, framework=model_framework, framework_version=model_framework_version,
            sample_input=sample_input_dataset, sample_output=sample_output_dataset, resources=resource_configuration,
            environment=getattr(environment, "_reference", environment),
        )  # fmt: skip
        warn_of_another_version(model_framework, model_framework_version)
        return model

    @staticmethod
    def list(
        workspace: Workspace, name: str | None = None, tags: Any = None, properties: Any = None, run_id: str | None = None,
        latest: bool = False, dataset_id: str | None = None, expand: bool = True, page_count: int = 255,
        model_framework: str | None = None,
    ) -> builtins.list[Model]:  # fmt: skip
        """Return the models of a workspace, the newest first; latest: of each name the newest version alone."""
        rows = workspace._connection.do_again(
            models.list_all, workspace.name, name=name, run_id=run_id, framework=model_framework, tags=asked_pairs(tags),
            properties=asked_pairs(properties), latest=latest,
        )  # fmt: skip
        return [Model._of(workspace, row) for row in rows]

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: Workspace | None = None) -> str:
        """Return where a model's files are: what a service was given, else a copy in this folder's azureml-models/.

        In a service AZUREML_MODEL_DIR says; elsewhere the model of the workspace given, or of the nearest config.json, is
        downloaded to azureml-models/NAME/VERSION where it is not there yet.  Of one file it is the file's path.
        Raises: ModelNotFoundException.
        """
        given = os.environ.get("AZUREML_MODEL_DIR")
        if given and (found := in_service(Path(given), model_name, version)) is not None:
            return str(found)
        if _workspace is None:
            from dbml.core.workspace import Workspace

            _workspace = Workspace.from_config()
        model = Model(_workspace, model_name, version=version)
        folder = Path("azureml-models") / model.name / str(model.version)
        inside = model._paths()
        if not all((folder / path).is_file() for path in inside):
            model.download(folder, exist_ok=True)
        return str(folder / inside[0]) if len(inside) == 1 else str(folder)

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self._row["name"])

    @property
    def version(self) -> int:
        """Return the version, from 1."""
        return int(self._row["version"])

    @property
    def id(self) -> str:
        """Return name:version, by which SQL knows it too."""
        return f"{self.name}:{self.version}"

    @property
    def url(self) -> str:
        """Return an address that names it."""
        return f"aml://asset/{self._row['digest']}"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties, which do not change."""
        return dict(self._row["properties"])

    @property
    def description(self) -> str | None:
        """Return the description."""
        return text_of(self._row, "description")

    @property
    def aliases(self) -> builtins.list[str]:
        """Return the aliases that mean this version."""
        return [*self._row["aliases"]]

    @property
    def model_framework(self) -> str | None:
        """Return what it was made with, as it was said."""
        return text_of(self._row, "framework")

    @property
    def model_framework_version(self) -> str | None:
        """Return the version of what it was made with, as it was said."""
        return text_of(self._row, "framework_version")

    @property
    def created_time(self) -> datetime:
        """Return when it was registered."""
        moment: datetime = self._row["created_at"]
        return moment

    @property
    def created_by(self) -> str:
        """Return the role that registered it."""
        return str(self._row["created_by"])

    @property
    def run_id(self) -> str | None:
        """Return the id of the run that it is of."""
        return None if self._row["run_id"] is None else str(self._row["run_id"])

    @property
    def run(self) -> Run | None:
        """Return the run that it is of, None where there is none."""
        from dbml.core.run import Run

        return None if self.run_id is None else Run.get(self.workspace, self.run_id)

    @property
    def experiment_name(self) -> str | None:
        """Return the experiment of its run."""
        run = self.run
        return None if run is None else text_of(run._row, "experiment")

    @property
    def resource_configuration(self) -> ResourceConfiguration | None:
        """Return the resources that it asks for."""
        said = self._row["details"].get("resource_configuration")
        return None if said is None else ResourceConfiguration.deserialize(said)

    @property
    def sample_input_dataset(self) -> Any:
        """Return what is remembered of the sample input: name and version, or the id."""
        return self._row["details"].get("sample_input_dataset")

    @property
    def sample_output_dataset(self) -> Any:
        """Return what is remembered of the sample output."""
        return self._row["details"].get("sample_output_dataset")

    @property
    def datasets(self) -> dict[str, builtins.list[Any]]:
        """Return what is remembered of its datasets, by what they were for."""
        found: dict[str, builtins.list[Any]] = {}
        for purpose, dataset in self._row["details"].get("datasets", []):
            found.setdefault(purpose, []).append(dataset)
        return found

    def _paths(self) -> builtins.list[str]:
        rows = self.workspace._connection.do_again(models.files, self.workspace.name, self.name, self.version)
        return [str(row["path"]) for row in rows] or [self._own_name()]

    def _own_name(self) -> str:
        return f"{self.name}.{'rds' if self._row['format'] == 'rds' else 'pkl'}"

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Write its files into a folder, and return the path of the file, or of the folder where there are several.

        exist_ok: files that are there are replaced.
        Raises: UserErrorException where one is there.
        """
        folder = Path(target_dir)
        rows = self.workspace._connection.do_again(models.files, self.workspace.name, self.name, self.version)
        if rows:
            wanted = [(row["path"], int(row["size_bytes"]), row["digest"], row["path"]) for row in rows]
        else:
            wanted = [(self._own_name(), int(self._row["size_bytes"]), self._row["digest"], None)]
        for path, *_ in wanted:
            if (folder / path).exists() and not (exist_ok or exists_ok):
                raise UserErrorException(f"{folder / path} exists", hint="download(target_dir, exist_ok=True)")
        transfer.download_model(
            self.workspace._connection,
            (
                transfer.Wanted(folder / safe(path), size, digest, (self.id, inside, self.workspace.name))
                for path, size, digest, inside in wanted
            ),
        )
        return str(folder / wanted[0][0]) if len(wanted) == 1 else str(folder)

    def delete(self) -> None:
        """Delete this version, and its bytes where nothing else holds them.

        Raises: ModelNotFound where it is gone; InsufficientPrivilege.
        """
        self.workspace._connection.do(models.delete, self.workspace.name, self.id)

    def _change(self, **changes: Any) -> None:
        self.workspace._connection.do_again(models.change, self.workspace.name, self.id, **changes)
        self._row = Model(self.workspace, id=self.id)._row

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay."""
        self._change(tags={str(key): None if value is None else str(value) for key, value in tags.items()})

    def add_tag(self, key: str, value: Any = None) -> None:
        """Set a tag."""
        self.add_tags({key: value})

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Remove tags by name."""
        self._change(remove=[tags] if isinstance(tags, str) else [*tags])

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which are for good.

        Raises: InvalidArgument for another value of one that is there.
        """
        self._change(properties={str(key): str(value) for key, value in properties.items()})

    def add_dataset_references(self, datasets: Sequence[tuple[str, Any]]) -> None:
        """Remember datasets, each with what it was for."""
        from dbml.core.model_registration import _reference

        known = self._row["details"].get("datasets", [])
        self._change(details={"datasets": known + [[str(purpose), _reference(dataset)] for purpose, dataset in datasets]})

    def set_alias(self, alias: str) -> None:
        """Let an alias mean this version: dbml.predict('name@alias', …) uses it from the next statement on."""
        self.workspace._connection.do(models.set_alias, self.workspace.name, self.id, alias)
        self._row = Model(self.workspace, id=self.id)._row

    def update(
        self, tags: Mapping[str, Any] | None = None, description: str | None = None, sample_input_dataset: Any = None,
        sample_output_dataset: Any = None, resource_configuration: ResourceConfiguration | None = None,
    ) -> None:  # fmt: skip
        """Replace the tags, describe it, or remember sample data and resources."""
        from dbml.core.model_registration import _reference

        details: dict[str, Any] = {}
        if sample_input_dataset is not None:
            details["sample_input_dataset"] = _reference(sample_input_dataset)
        if sample_output_dataset is not None:
            details["sample_output_dataset"] = _reference(sample_output_dataset)
        if resource_configuration is not None:
            details["resource_configuration"] = resource_configuration.serialize()
        said = None if tags is None else {str(key): None if value is None else str(value) for key, value in tags.items()}
        self._change(tags=said, remove=[*self.tags] if tags is not None else (), description=description, details=details)

    def lineage(self) -> Lineage:
        """Return where this version comes from and what was made of it: `.mermaid()`, `.plot()`, and a frame."""
        from dbml.core.lineage import lineage

        return lineage(self.workspace, f"model:{self.id}")

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it as JSON has it."""
        return {
            "name": self.name, "version": self.version, "id": self.id, "url": self.url, "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version, "description": self.description, "tags": self.tags,
            "properties": self.properties, "createdTime": self.created_time.isoformat(), "createdBy": self.created_by,
            "runId": self.run_id, "experimentName": self.experiment_name, **self._row["details"],
        }  # fmt: skip

    def print_configuration(self) -> None:
        """Print what is known of it."""
        import json

        print(json.dumps(self.serialize(), indent=4, ensure_ascii=False))

    @staticmethod
    def deploy(
        workspace: Workspace, name: str, models: Sequence[Model], inference_config: InferenceConfig | None = None,
        deployment_config: WebserviceDeploymentConfiguration | None = None, deployment_target: Any = None,
        overwrite: bool = False, show_output: bool = False,
    ) -> Webservice:  # fmt: skip
        """Deploy models as a web service, and return it at once; `run` waits until it answers.

        inference_config: None: a score.py is made for the one model, and the packages that are here serve it.
        deployment_config: of AciWebservice, AksWebservice or LocalWebservice; None: a local service.  overwrite: a service
        of that name serves these models from now on.
        Raises: WebserviceException where the name is taken.
        """
        from dbml.core.webservice.deploying import deploy

        return deploy(workspace, name, models, inference_config, deployment_config, deployment_target, overwrite, show_output)

    @staticmethod
    def package(
        workspace: Workspace, models: Sequence[Model], inference_config: InferenceConfig | None = None,
        generate_dockerfile: bool = False, image_name: str | None = None, image_label: str | None = None,
    ) -> ModelPackage:  # fmt: skip
        """Keep models, with what scores them, as an image, and return what writes its folder or builds it.

        Without an inference config score.py and the environment are made from the framework of the one model.
        generate_dockerfile: `save` writes the folder that `docker build` takes; else `pull` builds the image here.
        image_name: by default the first model's name; image_label: the tag after the colon, by default the version.
        Raises: EnvironmentUnresolvable with the resolver's own words; InvalidArgument where a score.py is needed.
        """
        from dbml.core.model_package import ModelPackage
        from dbml.core.packaging import keep_plan, plan_models

        plan = keep_plan(workspace, plan_models(workspace, models, inference_config, name=image_name))
        return ModelPackage(workspace, plan, generate_dockerfile=generate_dockerfile, label=image_label)

    @staticmethod
    def profile(
        workspace: Workspace, profile_name: str, models: Sequence[Model], inference_config: InferenceConfig | None = None,
        input_dataset: Any = None, cpu: float | None = None, memory_in_gb: float | None = None, description: str | None = None,
    ) -> ModelProfile:  # fmt: skip
        """Serve models from this machine, ask them once for each row of a dataset, and return what measures it, at once.

        input_dataset: of one column; each row is the body of a request.  cpu, memory_in_gb: what the process may have; None:
        what the machine has.  Without an inference config score.py is made for the one model.  `wait_for_completion` waits,
        `get_details` has latencies, processors, memory and what is recommended; SELECT * FROM dbml.metrics too.
        Raises: UserErrorException for a dataset of no rows, or of several columns; InvalidArgument; DbmlError where
        dbml[serving] is not installed.
        """
        from dbml.core.profile import profile

        if input_dataset is None:
            raise UserErrorException(
                "input_dataset must be given: a dataset of one column, whose rows are the bodies of requests",
                hint="Dataset.Tabular.from_delimited_files(path, separator='\\n', header=False)",
            )
        return profile(workspace, profile_name, models, inference_config, input_dataset, cpu, memory_in_gb, description)
