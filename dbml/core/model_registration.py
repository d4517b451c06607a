"""How files become a version of a model: found, uploaded, and registered with what is said about them.

A single file that holds a pickle (of pickle, cloudpickle or joblib) or skops' form of an estimator becomes the model that
`dbml.predict` scores; anything else is kept as files for programs.  Nothing is unpickled here: the first bytes tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dbml import errors
from dbml.core import transfer
from dbml.exceptions import ModelPathNotFoundException
from dbml.store.client import models, runs

if TYPE_CHECKING:
    from dbml.core.model import Model
    from dbml.core.run import Run
    from dbml.core.workspace import Workspace

# How the files of joblib.dump(…, compress=…) begin: zlib, gzip, bz2, xz, lzma, lz4.
_COMPRESSED = (b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x1f\x8b", b"BZ", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")
_PICKLED_NAMES = (".pkl", ".pickle", ".joblib", ".sav")


def register_from_path(
    workspace: Workspace, name: str, path: str, child_paths: Sequence[str] | None, **about: Any
) -> Model:  # fmt: skip
    """Upload a file or a folder, and register it.

    child_paths: of a folder, the files and folders that count.
    Raises: ModelPathNotFoundException; InvalidArgument for an empty folder.
    """
    place = Path(path)
    if place.is_file():
        files = {place.name: place}
    elif place.is_dir():
        files = _files_of(place, child_paths)
    else:
        raise ModelPathNotFoundException(f"a model's path must be a file or a folder, got {path!r}", hint=f"ls {place.parent}")
    stored = transfer.upload(workspace._connection, list(files.values()))
    listed = [{"path": inside, "digest": one.digest.hex()} for inside, one in zip(files, stored, strict=True)]
    only = next(iter(files.values())) if len(files) == 1 and place.is_file() else None
    kept_as = "files" if only is None else format_of(only.name, *_ends(only))
    return _register(workspace, name, listed, kept_as, about)


def register_from_bytes(workspace: Workspace, name: str, file_name: str, stream: IO[bytes], **about: Any) -> Model:
    """Upload one pickle, and register it."""
    (stored,) = transfer.upload(workspace._connection, [stream])
    listed = [{"path": file_name, "digest": stored.digest.hex()}]
    return _register(workspace, name, listed, "pickle", about)


def register_from_run(run: Run, name: str, path: str | None, **about: Any) -> Model:
    """Register what a run keeps; no bytes are copied.

    Raises: ModelPathNotFoundException where it keeps nothing under that path.
    """
    wanted = (path or name).strip("/")
    rows = run._connection.do_again(runs.artifacts, run._id)
    chosen = [row["name"] for row in rows if row["name"] == wanted or row["name"].startswith(wanted + "/")]
    if not chosen:
        raise ModelPathNotFoundException(
            f"the run must keep a file {wanted!r} to register it, got {[row['name'] for row in rows]}",
            hint=f"run.upload_file({wanted!r}, path)",
        )
    listed, kept_as = [], "files"
    if chosen == [wanted]:
        listed.append({"path": Path(wanted).name, "artifact": wanted})
        size = next(int(row["size_bytes"]) for row in rows if row["name"] == wanted)
        kept_as = format_of(Path(wanted).name, *_stored_ends(run, wanted, size))
    else:
        listed += [{"path": chosen_name.removeprefix(wanted + "/"), "artifact": chosen_name} for chosen_name in chosen]
    return _register(run._workspace, name, listed, kept_as, {**about, "run_id": run._id})


def format_of(name: str, head: bytes, tail: bytes) -> str:
    """Return as what a file is kept, pickle, safe, onnx or files: by its first and last bytes, for some also by its name.

    Source: pickle's opcodes PROTO (0x80, version) at the beginning and STOP (.) at the end; of a zip the local header; of ONNX's
    ModelProto the first field, ir_version.
    """
    if head[:1] == b"\x80" and 2 <= (head[1:2] or b"\0")[0] <= 5 and tail.endswith(b"."):
        return "pickle"
    if name.lower().endswith(_PICKLED_NAMES) and head.startswith(_COMPRESSED):
        return "pickle"
    if name.lower().endswith(".onnx") and head[:1] == b"\x08":
        return "onnx"
    return "safe" if name.lower().endswith(".skops") and head.startswith(b"PK\x03\x04") else "files"


def _register(workspace: Workspace, name: str, listed: list[dict[str, str]], kept_as: str, about: Mapping[str, Any]) -> Model:
    from dbml.core.model import Model

    said = {key: value for key, value in about.items() if value is not None}
    details = {
        "sample_input_dataset": _reference(said.pop("sample_input", None)),
        "sample_output_dataset": _reference(said.pop("sample_output", None)),
        "datasets": [[str(purpose), _reference(dataset)] for purpose, dataset in said.pop("datasets", [])] or None,
        "resource_configuration": resources.serialize() if (resources := said.pop("resources", None)) is not None else None,
    }
    texts = {
        key: {str(k): None if v is None else str(v) for k, v in said.pop(key, {}).items()} for key in ("tags", "properties")
    }  # fmt: skip
    version = workspace._connection.do(
        models.register, workspace.name, name, listed, format=kept_as, **texts, **said,
        details={key: value for key, value in details.items() if value is not None},
    )  # fmt: skip
    return Model(workspace, name=name, version=version)


def _reference(dataset: Any) -> Any:
    """Return what is remembered of a dataset: its name and version, or its id, or its text."""
    if dataset is None:
        return None
    named = {key: getattr(dataset, key) for key in ("name", "version", "id") if getattr(dataset, key, None) is not None}
    return {key: value if isinstance(value, int) else str(value) for key, value in named.items()} or str(dataset)


def _files_of(folder: Path, child_paths: Sequence[str] | None) -> dict[str, Path]:
    chosen = [folder] if child_paths is None else [folder / child for child in child_paths]
    files: dict[str, Path] = {}
    for place in chosen:
        if not place.exists():
            raise ModelPathNotFoundException(f"a model's path must be a file or a folder, got {str(place)!r}")
        found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        try:
            files |= {path.resolve().relative_to(folder.resolve()).as_posix(): path for path in found}
        except ValueError:
            raise errors.InvalidArgument(f"the files of a model must be in its folder {folder}, got {place}") from None
    if not files:
        raise errors.InvalidArgument(f"a model's folder must have a file, {folder} is empty")
    return files


def _ends(file: Path) -> tuple[bytes, bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        stream.seek(max(0, size - 1))
        return head, stream.read(1)


def _stored_ends(run: Run, name: str, size: int) -> tuple[bytes, bytes]:
    from dbml.store.client import uploads

    last = max(0, size - 1) // uploads.PART_BYTES
    asked = [(run._id, name, 0), (run._id, name, last)]
    first, final = run._connection.do_again(uploads.artifact_parts, asked)
    return (first or b"")[:16], (final or b"")[-1:]
