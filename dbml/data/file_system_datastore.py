"""Datastores elsewhere, through fsspec: a local folder, S3, Azure Blob, Google Cloud Storage.

The database keeps where they are and by which variable or file their credentials are found; the secrets are read here,
when files are, and are kept nowhere.  What such a place keeps has no digest that could be relied on: sizes are checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from dbml import errors
from dbml.core import transfer
from dbml.data import paths
from dbml.data.abstract_datastore import AbstractDatastore
from dbml.exceptions import UserErrorException

# The scheme of fsspec, and the extra that brings it.
_SCHEMES = {"local": ("file", ""), "s3": ("s3", "s3"), "azure_blob": ("az", "azure"), "gcs": ("gs", "gcs")}


def reference(name: str, given: str | None) -> dict[str, dict[str, str]]:
    """Return a credential as the database keeps it: where it is found.

    given: env:NAME or file:/path.  Raises: UserErrorException for a secret itself, which it does not show.
    """
    if given is None:
        return {}
    kind, _, place = given.partition(":")
    if (kind == "env" and place.isidentifier()) or (kind == "file" and place.startswith(("/", "~"))):
        return {name: {kind: place}}
    raise UserErrorException(
        f"{name} must say where the credential is found, env:NAME or file:/path, and was given as such: it is not stored",
        hint=f"put it into a variable of the environment and give {name}='env:NAME'",
    )


def resolve(credentials: Mapping[str, Mapping[str, str]], name: str) -> dict[str, str]:
    """Return the secrets that references mean, on this machine, now.

    name: of the datastore, for messages.  Raises: UserErrorException where a variable or file is not there.
    """
    found = {}
    for key, place in credentials.items():
        if "env" in place:
            if place["env"] not in os.environ:
                raise UserErrorException(
                    f"the datastore {name!r} finds its {key} in the variable {place['env']}, which is not set",
                    hint=f"export {place['env']}=…",
                )
            found[key] = os.environ[place["env"]]
        else:
            try:
                found[key] = Path(place["file"]).expanduser().read_text().strip()
            except OSError as error:
                message = f"the datastore {name!r} finds its {key} in the file {place['file']}: {error.strerror}"
                raise UserErrorException(message) from None
    return found


class FileSystemDatastore(AbstractDatastore):
    """A folder or bucket that fsspec opens."""

    @property
    def url(self) -> str:
        """Return where it is."""
        return str(self._row["url"])

    @cached_property
    def _system(self) -> tuple[Any, str]:
        """The fsspec file system, and the path of the datastore in it."""
        scheme, extra = _SCHEMES[self.datastore_type]
        try:
            import fsspec

            system = fsspec.get_filesystem_class(scheme)
        except ImportError:
            raise errors.NotSupportedYet(
                f"a datastore of kind {self.datastore_type} needs a package that is not installed",
                hint=f"pip install 'dbml[{extra}]'",
            ) from None
        credentials = self._row["credentials"]
        if self.datastore_type == "gcs" and "file" in credentials.get("token", {}):
            resolve(credentials, self.name)  # that it is there: gcsfs, which reads it, would take the path for a secret
            secrets = {"token": str(Path(credentials["token"]["file"]).expanduser())}
        else:
            secrets = resolve(credentials, self.name)
        opened = system(**{**self._row["options"], **secrets})
        return opened, str(opened._strip_protocol(self.url)).rstrip("/")

    def _whole(self, path: str) -> str:
        return f"{self._system[1]}/{path}" if path else self._system[1]

    def _list(self, pattern: str, dataset_id: int | None = None) -> list[paths.StoredFile]:
        system, root = self._system
        within = paths.fixed_part(pattern).rpartition("/")[0] if paths.has_pattern(pattern) else pattern
        system.invalidate_cache()  # others write there too
        try:
            found = system.find(self._whole(within), detail=True)
        except FileNotFoundError:
            return []
        listed = [
            paths.StoredFile(str(path)[len(root) :].lstrip("/"), int(about.get("size") or 0)) for path, about in found.items()
        ]
        return sorted((file for file in listed if paths.matches(pattern, file.path)), key=lambda file: file.path)

    def _open(self, file: paths.StoredFile, dataset: str | None = None) -> BinaryIO:
        return cast(BinaryIO, self._system[0].open(self._whole(file.path), "rb"))

    def _store(self, pairs: dict[str, Path], overwrite: bool, show: bool) -> None:
        system, _ = self._system
        with transfer.progress("uploading", sum(file.stat().st_size for file in pairs.values()), show) as advance:
            for path, file in pairs.items():
                place, size = self._whole(path), file.stat().st_size
                if overwrite or not system.exists(place):
                    if hasattr(system, "auto_mkdir") or self.datastore_type == "local":
                        system.makedirs(place.rpartition("/")[0], exist_ok=True)
                    system.put_file(str(file), place)
                    kept = system.info(place)["size"]
                    if kept != size:
                        raise errors.DbmlError(
                            f"{path} must have {size} bytes in the datastore, got {kept}", hint="upload it again"
                        )
                advance(size)

    def _fetch(
        self, wanted: Iterable[paths.StoredFile], target: Path, overwrite: bool, show: bool, dataset: str | None = None
    ) -> int:
        system, _ = self._system
        asked = [file for file in wanted if overwrite or not (target / file.path).exists()]
        with transfer.progress("downloading", sum(file.size for file in asked), show) as advance:
            for file in asked:
                place = target / paths.plain(file.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
                try:
                    system.get_file(self._whole(file.path), str(partial))
                    if partial.stat().st_size != file.size:
                        raise errors.DbmlError(f"{file.path} must have {file.size} bytes, got {partial.stat().st_size}")
                    partial.replace(place)
                finally:
                    partial.unlink(missing_ok=True)
                advance(file.size)
        return len(asked)
