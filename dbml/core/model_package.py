"""What `Model.package` makes: the folder that an image is built from, and the image."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dbml.exceptions import UserErrorException, WebserviceException

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace
    from dbml.serving.export.plan import Plan


class ModelPackage:
    """A service of models as a folder with a Dockerfile, or as an image that is built from it; kept in dbml.images."""

    def __init__(self, workspace: Workspace, plan: Plan, *, generate_dockerfile: bool, label: str | None = None) -> None:
        self.workspace = workspace
        self._plan = plan
        self._generate_dockerfile = generate_dockerfile
        self._label = label

    def __repr__(self) -> str:
        return f"ModelPackage(location={self.location!r})"

    @property
    def location(self) -> str:
        """Return the tag of the image, which `pull` builds."""
        from dbml.serving.export.documents import image_name

        tag = image_name(self._plan)
        return f"{tag.rpartition(':')[0]}:{self._label}" if self._label else tag

    @property
    def creation_state(self) -> str:
        """Return Succeeded: it is made when it is asked for."""
        return "Succeeded"

    @property
    def package_build_log_uri(self) -> None:
        """Return None: docker prints its log where it builds."""
        return

    def wait_for_creation(self, show_output: bool = False) -> None:
        """Return at once: it has been made."""
        if show_output:
            print(f"Package {self.location} is there.")

    def get_logs(self, decode: bool = True, offset: int = 0) -> str:
        """Return the packages that were locked; docker prints its own log where it builds."""
        return self._plan.lock

    def save(self, output_directory: str | os.PathLike[str]) -> str:
        """Write the folder that `docker build` takes, and return its path.

        Raises: UserErrorException where the package is an image (`generate_dockerfile=True` makes a folder), or the folder
        holds something else.
        """
        if not self._generate_dockerfile:
            raise UserErrorException(
                "a package is saved that was made with generate_dockerfile=True", hint="pull() builds the image"
            )
        return str(self._write(Path(output_directory)))

    def pull(self) -> None:
        """Build the image on this machine, by the command docker, under the tag `location`.

        Raises: WebserviceException with docker's own words.
        """
        from dbml.serving.export.build import BuildFailed, build_image

        if self._generate_dockerfile:
            raise UserErrorException(
                "an image is pulled of a package that was made without generate_dockerfile", hint="save(folder)"
            )
        with tempfile.TemporaryDirectory(prefix="dbml-package-") as folder:
            try:
                build_image(self._write(Path(folder) / "package"), self.location)
            except BuildFailed as error:
                raise WebserviceException(str(error), hint="dbml export MODEL --to DIR writes the folder") from None

    def _write(self, folder: Path) -> Path:
        from dbml.serving.export import folder as folders

        try:
            return folders.write(self._plan, folder)
        except FileExistsError as error:
            raise UserErrorException(str(error), hint="choose an empty folder") from None
