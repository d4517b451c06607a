"""Registered models as an export has them: found by reference, their files read in parts and never whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dbml import errors
from dbml.serving.export.plan import File, PlannedModel
from dbml.serving.plans import Ask
from dbml.store.client import models, uploads
from dbml.store.client.rows import Row

WINDOW = 8  # parts a round trip
_ENDINGS = {"safe": "skops", "rds": "rds", "onnx": "onnx"}
_COMPRESSED = (b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x1f\x8b", b"BZ", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")
_PACKAGES = re.compile(rb"(?<![\w.])(sklearn|xgboost|lightgbm|catboost|statsmodels|scipy|cloudpickle|joblib)(?![\w])")
# _sklearn_version, memoized, and a short text: what BaseEstimator.__getstate__ leaves in a pickle.
_SKLEARN_VERSION = re.compile(rb"_sklearn_version.{0,8}?[\x8cX].{1,4}?(\d+\.\d+(?:\.\d+)*(?:rc\d+)?)(?=[\x94qrs.u])", re.DOTALL)
_OVERLAP = 256


def find(ask: Ask, workspace: str, reference: str) -> Row:
    """Return the row of dbml.models that a reference means: name (the newest), name:3 or name@alias.

    Raises: ModelNotFound; InvalidArgument for a version that is no number.
    """
    name, _, alias = reference.partition("@")
    name, _, mark = name.partition(":")
    if mark and not re.fullmatch(r"\d{1,9}", mark):
        raise errors.InvalidArgument(
            f"a model's version must be a number, got {mark!r}", hint="models are name, name:3 or name@alias"
        )
    rows = ask(models.list_all, workspace, name=name, version=int(mark) if mark else None, alias=alias or None)
    if not rows:
        raise errors.ModelNotFound(
            f"model {reference!r} is not in workspace {workspace!r}", hint="SELECT name, version, aliases FROM dbml.models"
        )
    return max(rows, key=lambda row: int(row["version"]))


def planned(ask: Ask, workspace: str, row: Row) -> PlannedModel:
    """Return a model with its files, which are read when they are written."""
    name, version = str(row["name"]), int(row["version"])
    reference = f"{name}:{version}"
    listed = ask(models.files, workspace, name, version)
    if listed:
        files = {
            str(file["path"]): _file(ask, workspace, reference, str(file["path"]), str(file["digest"]), int(file["size_bytes"]))
            for file in listed
        }
    else:
        own = f"{name}.{_ENDINGS.get(row['format'], 'pkl')}".replace("/", "_")
        files = {own: _file(ask, workspace, reference, None, str(row["digest"]), int(row["size_bytes"]))}
    return PlannedModel(
        name, version, files, format=str(row["format"]), framework=row["framework"], framework_version=row["framework_version"],
        digest=str(row["digest"]), signature=row["signature"] or {}, workspace=workspace,
        run_id=None if row["run_id"] is None else str(row["run_id"]), description=row["description"],
    )  # fmt: skip


def _file(ask: Ask, workspace: str, reference: str, path: str | None, digest: str, size: int) -> File:
    def read() -> Iterator[bytes]:
        parts = max(1, -(-size // uploads.PART_BYTES))
        for first in range(0, parts, WINDOW):
            keys = [(reference, part, path, workspace) for part in range(first, min(parts, first + WINDOW))]
            yield from (part or b"" for part in ask(uploads.model_parts, keys))

    return File(digest, size, read)


@dataclass(frozen=True)
class Seen:
    """What a pickle's bytes show without being loaded: the packages that they name, and scikit-learn's version."""

    packages: frozenset[str] = frozenset()
    sklearn: str | None = None
    compressed: bool = False


def look(model: PlannedModel) -> Seen:
    """Look at the bytes of a pickled model, part by part."""
    packages: set[str] = set()
    sklearn, before, compressed = None, b"", False
    (file,) = model.files.values()
    for number, part in enumerate(file.read()):
        if number == 0 and part.startswith(_COMPRESSED):
            return Seen(frozenset({"joblib"}), None, True)
        window = before + part
        packages |= {found.decode() for found in _PACKAGES.findall(window)}
        if sklearn is None and (told := _SKLEARN_VERSION.search(window)):
            sklearn = told[1].decode()
        before = part[-_OVERLAP:]
    return Seen(frozenset(packages), sklearn, compressed)
