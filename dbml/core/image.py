"""Images: versions of models, a score.py and a lock that are served together, kept in the database.

An image is made at once; the bytes that Docker runs are built from it where they are wanted: `dbml export --image`,
`Model.package`, a service on Docker.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dbml import errors
from dbml.core.inference_config import InferenceConfig
from dbml.core.model_lookup import asked_pairs
from dbml.core.packaging import keep_plan, plan_models
from dbml.exceptions import WebserviceException
from dbml.store.client import images
from dbml.store.client.rows import Row, text_of

if TYPE_CHECKING:
    from dbml.core.model import Model
    from dbml.core.workspace import Workspace
    from dbml.serving.export.plan import Plan


class Image:
    """A version of an image: by default the newest of its name.

    name: the name, or name:version.  id: name:version.  tags: those that have all of these.
    Raises: WebserviceException where there is none.
    """

    def __init__(
        self, workspace: Workspace, name: str | None = None, id: str | None = None,  # noqa: A002 - the SDK's name
        tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None, version: int | str | None = None,
    ) -> None:  # fmt: skip
        wanted, _, mark = (id or name or "").partition(":")
        number = version if version is not None else mark
        rows = Image._rows(workspace, wanted or None, tags, properties)
        rows = [row for row in rows if not number or str(row["version"]) == str(number)]
        if not rows:
            raise WebserviceException(
                f"no image {id or name or ''!r} of that version and tags is in workspace {workspace.name!r}",
                hint="Image.list(workspace), or SELECT name, version FROM dbml.images",
            )
        self.workspace = workspace
        self._row = rows[0]

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Image:
        made = ContainerImage.__new__(ContainerImage)
        made.workspace, made._row = workspace, row
        return made

    @staticmethod
    def _rows(workspace: Workspace, name: str | None, tags: Any, properties: Any) -> builtins.list[Row]:
        rows: builtins.list[Row] = workspace._connection.do_again(images.list_all, workspace.name, name=name)
        asked = (("tags", asked_pairs(tags) or {}), ("properties", asked_pairs(properties) or {}))
        return [
            row
            for row in rows
            if all(
                key in row[column] and (value is None or row[column][key] == str(value))
                for column, said in asked
                for key, value in said.items()
            )
        ]

    def __repr__(self) -> str:
        return (
            f"Image(workspace={self.workspace.name!r}, name={self.name}, id={self.id}, version={self.version}, tags={self.tags})"
        )

    @staticmethod
    def create(workspace: Workspace, name: str, models: Sequence[Model | str], image_config: ContainerImageConfig) -> Image:
        """Keep the next version of an image and return it; the same models, files and lock are the version that is there.

        Raises: EnvironmentUnresolvable with the resolver's own words; InvalidArgument for the name; ModelNotFound.
        """
        print("Creating image")
        made = plan_models(workspace, models, image_config._inference(), name=name, tags=image_config.tags)
        plan = keep_plan(
            workspace, made, name=name, description=image_config.description, properties=image_config.properties
        )  # fmt: skip
        return Image(workspace, name, version=plan.version)

    @staticmethod
    def list(
        workspace: Workspace, image_name: str | None = None, model_name: str | None = None, model_id: str | None = None,
        tags: Any = None, properties: Any = None, run_id: str | None = None,
    ) -> builtins.list[Image]:  # fmt: skip
        """Return the images of a workspace by name, the newest version first.

        tags, properties: as of Model.  model_name, model_id: those with any version of a model, or with that one.
        run_id: those with a model of that run.
        """
        rows = Image._rows(workspace, image_name, tags, properties)
        if model_name is not None:
            rows = [row for row in rows if any(model.rpartition(":")[0] == model_name for model in row["models"])]
        if model_id is not None:
            rows = [row for row in rows if model_id in row["models"]]
        if run_id is not None:
            from dbml.core.model import Model

            of_run = {model.id for model in Model.list(workspace, run_id=run_id)}
            rows = [row for row in rows if of_run & {*row["models"]}]
        return [Image._of(workspace, row) for row in rows]

    @staticmethod
    def image_configuration(*args: Any, **kwargs: Any) -> ContainerImageConfig:
        """Return the configuration of an image, as `ContainerImage.image_configuration` does."""
        return ContainerImageConfig(*args, **kwargs)

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
        """Return name:version."""
        return f"{self.name}:{self.version}"

    @property
    def image_type(self) -> str:
        """Return Docker."""
        return "Docker"

    @property
    def image_flavor(self) -> str:
        """Return WebApiContainer."""
        return "WebApiContainer"

    @property
    def creation_state(self) -> str:
        """Return Succeeded: an image is kept whole or not at all."""
        return "Succeeded"

    @property
    def image_location(self) -> str:
        """Return the tag that Docker knows it by, where it has been built."""
        from dbml.serving.export.documents import image_name

        return image_name(self._plan())

    @property
    def image_build_log_uri(self) -> str:
        """Return where the lock is, which is all that making it had to work out."""
        return f"dbml.images?name={self.name}&version={self.version}"

    @property
    def generated_image_uri(self) -> str:
        """Return its digest as an address."""
        return f"aml://image/{self._row['digest']}"

    @property
    def models(self) -> builtins.list[Model]:
        """Return its models."""
        from dbml.core.model import Model

        return [Model(self.workspace, id=reference) for reference in self._row["models"]]

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties."""
        return dict(self._row["properties"])

    @property
    def description(self) -> str | None:
        """Return the description."""
        return text_of(self._row, "description")

    @property
    def created_time(self) -> datetime:
        """Return when it was made."""
        moment: datetime = self._row["created_at"]
        return moment

    @property
    def created_by(self) -> str:
        """Return the role that made it."""
        return str(self._row["created_by"])

    def wait_for_creation(self, show_output: bool = False) -> None:
        """Return at once: it has been made."""
        if show_output:
            print(f'Image creation operation finished for image {self.id}, operation "{self.creation_state}"')

    def delete(self) -> None:
        """Delete this version; its models and its environment stay.

        Raises: ImageNotFound where it is gone; InsufficientPrivilege.
        """
        self.workspace._connection.do(images.delete, self.workspace.name, self.id)

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it as JSON has it."""
        return {
            "name": self.name, "version": self.version, "id": self.id, "imageType": self.image_type,
            "models": [*self._row["models"]],
            "creationState": self.creation_state, "imageLocation": self.image_location, "tags": self.tags,
            "properties": self.properties, "description": self.description, "createdTime": self.created_time.isoformat(),
            "digest": self._row["digest"], "environment": self._row["environment"],
        }  # fmt: skip

    def _plan(self) -> Plan:
        from dbml.serving.plans import making

        try:
            return making.of_image(self.workspace._connection.do_again, self.workspace.name, self.id)
        except errors.ImageNotFound as error:
            raise WebserviceException(error.message, hint=error.hint) from None


class ContainerImage(Image):
    """An image that runs in a container: a score.py and its models behind HTTP."""

    @staticmethod
    def image_configuration(*args: Any, **kwargs: Any) -> ContainerImageConfig:
        """Return the configuration of an image: execution_script, runtime, conda_file, tags, description and more."""
        return ContainerImageConfig(*args, **kwargs)


class ContainerImageConfig:
    """What scores the models of an image.

    execution_script: the score.py.  runtime: 'python'.  conda_file: its packages.  dependencies: files and folders that go
    beside the script.  What names a base image, Dockerfile or GPU has no effect.
    Raises: UserErrorException where the script is not there.
    """

    def __init__(
        self, execution_script: str | os.PathLike[str], runtime: str = "python", conda_file: str | os.PathLike[str] | None = None,
        docker_file: str | None = None, schema_file: str | None = None, dependencies: Sequence[str] | None = None,
        enable_gpu: bool | None = None, tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
        description: str | None = None, base_image: str | None = None, base_image_registry: Any = None,
        allow_package_install: bool = False, cuda_version: str | None = None,
    ) -> None:  # fmt: skip
        self.execution_script = os.fspath(execution_script)
        self.tags = {str(key): str(value) for key, value in (tags or {}).items()}
        self.properties = {str(key): str(value) for key, value in (properties or {}).items()}
        self.description = description
        self.dependencies = [os.fspath(path) for path in dependencies or ()]
        self._config = InferenceConfig(self.execution_script, runtime=runtime, conda_file=conda_file, description=description)

    def _inference(self) -> InferenceConfig:
        self._config._beside = tuple(self.dependencies)
        return self._config
