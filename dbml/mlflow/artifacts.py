"""MLflow's artifact repository: what runs keep, and the files of registered models, up and down in bounded memory."""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from dbml import current_run
from dbml.core import run_files, transfer
from dbml.core.tracking_uri import SCHEME, workspace_of
from dbml.mlflow.failures import missing, refuse, translating, wrong
from dbml.store.client import models, runs


def artifacts(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> ArtifactRepository:
    """Return the repository of an address: the entry point for the scheme dbml.

    tracking_uri: where the run is; one of dbml's, else MLflow's own setting, else `dbml:`.
    """
    if current_run.current() is not None:
        return ScriptArtifacts(artifact_uri, tracking_uri, registry_uri)
    if urlsplit(artifact_uri).path.startswith("/models/"):
        return ModelFiles(artifact_uri, tracking_uri, registry_uri)
    return RunArtifacts(artifact_uri, tracking_uri, registry_uri)


def place(artifact_uri: str) -> tuple[str, str]:
    """Return the run of an address of artifacts, and the folder in what it keeps."""
    parts = unquote(urlsplit(artifact_uri).path).strip("/").split("/")
    if len(parts) < 3 or parts[0] != "runs" or parts[2] != "artifacts":
        raise wrong(f"artifacts of a run are at {SCHEME}:/runs/ID/artifacts, got {artifact_uri!r}")
    return parts[1], "/".join(parts[3:])


class _Files(ArtifactRepository):  # type: ignore[misc]  # MLflow's classes are not typed
    """Files by names with slashes, as folders."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri)
        self.registry_uri = registry_uri  # which MLflow's own class takes in later versions

    def _database(self) -> str:
        """Return the address of the workspace."""
        import mlflow

        for uri in (self.tracking_uri, self.registry_uri, mlflow.get_tracking_uri()):
            if uri and urlsplit(uri).scheme == SCHEME:
                return str(uri)
        return f"{SCHEME}:"

    @abstractmethod
    def _sizes(self) -> Mapping[str, int | None]:
        """Return the files of the repository by their names in it, and their sizes in bytes."""

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what is directly in a folder."""
        start = "" if not path else f"{path.strip('/')}/"
        files: list[FileInfo] = []
        folders: dict[str, None] = {}
        for name, size in self._sizes().items():
            if name.startswith(start):
                first, slash, _ = name[len(start) :].partition("/")
                if slash:
                    folders[start + first] = None
                else:
                    files.append(FileInfo(name, False, size))
        return sorted([*files, *(FileInfo(name, True, None) for name in folders)], key=lambda found: str(found.path))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Keep a file."""
        file = Path(local_file)
        if not file.is_file():
            raise missing(f"a file must be there to be logged: {local_file}")
        self._keep({posixpath.join(artifact_path or "", file.name): file})

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Keep all files of a folder."""
        folder = Path(local_dir)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        self._keep({posixpath.join(artifact_path or "", file.relative_to(folder).as_posix()): file for file in files})

    def _keep(self, files: Mapping[str, Path]) -> None:
        """Keep files by their names in the repository."""
        refuse("the files of a registered model do not change; another version has others")

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refuse: what a run keeps goes with the run."""
        refuse("what a run keeps is deleted with the run, by MlflowClient().delete_run or dbml.delete_run")


@translating
class RunArtifacts(_Files):
    """What a run keeps, from a folder on."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        run_id, self._folder = place(artifact_uri)
        self._workspace = workspace_of(self._database())
        self._run = self._workspace.get_run(run_id)

    def _inside(self, path: str) -> str:
        return run_files.safe(posixpath.normpath(posixpath.join(self._folder, path)))

    def _sizes(self) -> dict[str, int | None]:
        start = f"{self._folder}/" if self._folder else ""
        rows = self._workspace._connection.do_again(runs.artifacts, UUID(self._run.id))
        return {row["name"][len(start) :]: int(row["size_bytes"]) for row in rows if row["name"].startswith(start)}

    def _keep(self, files: Mapping[str, Path]) -> None:
        run_files.replace(self._run, {self._inside(name): file for name, file in files.items()})

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        run_files.download(self._run, self._inside(remote_file_path), Path(local_path))


@translating
class ModelFiles(_Files):
    """The files of a version of a registered model."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        from dbml.core.model import Model

        parts = urlsplit(artifact_uri).path.strip("/").split("/")
        if len(parts) < 3 or parts[0] != "models":
            raise wrong(f"a registered model is at {SCHEME}:/models/NAME/VERSION, got {artifact_uri!r}")
        self._folder = unquote("/".join(parts[3:]))
        self._model = Model(workspace_of(self._database()), unquote(parts[1]), version=parts[2])

    def _rows(self) -> Sequence[Mapping[str, object]]:
        model = self._model
        return model.workspace._connection.do_again(models.files, model.workspace.name, model.name, model.version)

    def _sizes(self) -> dict[str, int | None]:
        start = f"{self._folder}/" if self._folder else ""
        named = ((str(row["path"]), int(str(row["size_bytes"]))) for row in self._rows())
        return {path[len(start) :]: size for path, size in named if path.startswith(start)}

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        wanted = posixpath.join(self._folder, remote_file_path)
        model = self._model
        for row in self._rows():
            if row["path"] == wanted:
                key = (model.id, wanted, model.workspace.name)
                one = transfer.Wanted(Path(local_path), int(str(row["size_bytes"])), str(row["digest"]), key)
                transfer.download_model(model.workspace._connection, [one])
                return
        raise missing(f"model {model.id} has no file {wanted!r}")


@translating
class ScriptArtifacts(_Files):
    """What the run of a script in the worker keeps, or a part of it; nothing of it can be read back there."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        from dbml.mlflow.stores import script_store

        run_id, self._folder = place(artifact_uri)
        self._run = script_store()._find(run_id).run

    def _sizes(self) -> dict[str, int | None]:
        start = f"{self._folder}/" if self._folder else ""
        return {name[len(start) :]: None for name in sorted(self._run._run.kept) if name.startswith(start)}

    def _keep(self, files: Mapping[str, Path]) -> None:
        for name, file in files.items():
            self._run.upload_file(posixpath.join(self._folder, name), file)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        refuse("a script in the worker cannot read back what it has logged; the file that it logged is still there")
