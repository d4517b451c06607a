"""From registered models to a plan: their score.py, given or generated, and their lock; and images, kept and read again."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbml import errors
from dbml.serving.export import score
from dbml.serving.export.folder import ContentWrong
from dbml.serving.export.plan import File, Plan, PlannedModel, own_script
from dbml.serving.plans import Ask, Say, models, packages
from dbml.serving.plans.models import Seen
from dbml.store.client import images, uploads
from dbml.store.client import models as stored_models
from dbml.store.client.rows import Row

GENERATED = "score.py"
Upload = Callable[[Mapping[str, File]], object]


@dataclass(frozen=True)
class Wish:
    """What somebody wants served.

    models: references.  source: files by path, with entry_script among them; where it is empty, score.py is generated for
    the one model.  environment: name or name:3; else the model's own, else one is resolved.  arrow: Arrow bodies too.
    name: of the service; by default the first model's.
    """

    models: Sequence[str]
    source: Mapping[str, File] = field(default_factory=dict)
    entry_script: str = GENERATED
    environment: str | None = None
    python_version: str | None = None
    arrow: bool = True
    name: str | None = None
    version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A plan, and the environment that its lock is of: name:version, None where the lock is none."""

    plan: Plan
    environment: str | None


def make(ask: Ask, workspace: str, wish: Wish, *, locked: bool = True, say: Say = lambda _: None) -> Made:
    """Make the plan of models that are registered.

    locked: with a lock, for which the worker is asked where no environment has one; without, for the packages that are here.
    Raises: ModelNotFound; InvalidArgument where a score.py must be given; what `packages.lock_for` raises.
    """
    rows = [models.find(ask, workspace, reference) for reference in wish.models]
    if not rows:
        raise errors.InvalidArgument("a model at least must be served, got none")
    served = tuple(models.planned(ask, workspace, row) for row in rows)
    seen = [models.look(model) if model.format == "pickle" else Seen() for model in served]
    source = dict(wish.source)
    if not source:
        # One model's is the service's; of several, each has its own and answers under its own name.
        for model, found in zip(served, seen, strict=True):
            path = wish.entry_script if len(served) == 1 else own_script(model)
            source[path] = File.of(_generated(ask, workspace, model, found).encode())
        wish = replace(wish, entry_script=next(iter(source)))
    name = wish.name or served[0].name
    lock, version, environment = "", wish.python_version or platform.python_version(), None
    if locked:
        needed: dict[str, None] = {}
        said = None
        for model, found in zip(served, seen, strict=True):
            ones, doubtful = packages.requirements(_as_it_is(model), found)
            needed |= dict.fromkeys(ones)
            said = said or doubtful
        given = wish.environment or next((str(row["environment"]) for row in rows if row["environment"]), None)
        row, lock = packages.lock_for(
            ask, workspace, name, list(needed), said, environment=given, python_version=wish.python_version, arrow=wish.arrow,
            say=say,
        )  # fmt: skip
        version, environment = str(row["python_version"]), f"{row['name']}:{row['version']}"
    plan = Plan(
        name, wish.version or str(served[0].version), served, source, wish.entry_script, lock, version, tags=dict(wish.tags)
    )  # fmt: skip
    return Made(plan, environment)


def keep(
    ask: Ask, workspace: str, made: Made, *, name: str | None = None, description: str | None = None,
    properties: Mapping[str, str] | None = None, upload: Upload | None = None,
) -> Plan:  # fmt: skip
    """Keep a plan as the next version of an image, and return it under its name and version.

    The same plan again is the version that is there.  upload: sends the source's files; by default small ones alone.
    Raises: InsufficientPrivilege; InvalidArgument.
    """
    plan = made.plan if name is None else replace(made.plan, name=name)
    assert made.environment is not None, "an image is of a plan with a lock"
    (upload or _upload_small(ask))(plan.source)
    version = ask(
        images.create, workspace, plan.name, [model.reference for model in plan.models],
        [{"path": path, "digest": file.sha256} for path, file in plan.source.items()], entry_script=plan.entry_script,
        environment=made.environment, lock=plan.lock, digest=plan.digest, description=description, tags=dict(plan.tags),
        properties=dict(properties or {}),
    )  # fmt: skip
    return replace(plan, version=str(version))


def of_image(ask: Ask, workspace: str, reference: str) -> Plan:
    """Return the plan of an image that is kept: name (the newest) or name:3.

    Raises: ImageNotFound; ContentWrong where what the database has is not what the image was made of.
    """
    row = find_image(ask, workspace, reference)
    name, version = str(row["name"]), int(row["version"])
    served = tuple(models.planned(ask, workspace, models.find(ask, workspace, model)) for model in row["models"])
    source = {
        str(file["path"]): _kept(
            ask, workspace, f"{name}:{version}", str(file["path"]), str(file["digest"]), int(file["size_bytes"])
        )
        for file in ask(images.files, workspace, name, version)
    }
    tags = {key: str(value) for key, value in row["tags"].items()}
    plan = Plan(
        name, str(version), served, source, str(row["entry_script"]), str(row["lock"]), str(row["python_version"]), tags=tags
    )
    if row["digest"] is not None and row["digest"] != plan.digest:
        raise ContentWrong(f"image {name}:{version} must have the digest {row['digest']}, and what is kept has {plan.digest}")
    return plan


def find_image(ask: Ask, workspace: str, reference: str) -> Row:
    """Return the row of dbml.images that a reference means.

    Raises: ImageNotFound; InvalidArgument.
    """
    name, _, mark = reference.partition(":")
    if mark and not mark.isdecimal():
        raise errors.InvalidArgument(f"an image's version must be a number, got {mark!r}", hint="images are name or name:3")
    rows: list[Row] = ask(images.list_all, workspace, name=name, version=int(mark) if mark else None)
    if not rows:
        raise errors.ImageNotFound(
            f"image {reference!r} is not in workspace {workspace!r}", hint="SELECT workspace, name, version FROM dbml.images"
        )  # fmt: skip
    return rows[0]


def source_of(entry_script: Path, folder: Path | None = None) -> tuple[dict[str, File], str]:
    """Return the files of a score.py, the folder's where one is given, and the script's path among them.

    What .amlignore or .gitignore says is not looked at; caches of Python and hidden files are left out.
    Raises: InvalidArgument where the script is not there.
    """
    if folder is None:
        if not entry_script.is_file():
            raise errors.InvalidArgument(f"the entry script must be a file, got {str(entry_script)!r}", hint="ls")
        return {entry_script.name: _of_disk(entry_script)}, entry_script.name
    found = files_of(folder)
    inside = entry_script.as_posix()
    if inside not in found:
        raise errors.InvalidArgument(
            f"the entry script {inside!r} must be in the source directory {str(folder)!r}", hint=f"ls {folder}"
        )
    return found, inside


def files_of(folder: Path) -> dict[str, File]:
    """Return the files of a folder by relative path, without hidden ones and caches of Python."""
    return {
        path.relative_to(folder).as_posix(): _of_disk(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
    }


def _of_disk(path: Path) -> File:
    return File.of(path.read_bytes())


def _kept(ask: Ask, workspace: str, image: str, path: str, digest: str, size: int) -> File:
    def read() -> Iterator[bytes]:
        for part in range(max(1, -(-size // uploads.PART_BYTES))):
            yield ask(images.part, workspace, image, path, part) or b""

    return File(digest, size, read)


def _upload_small(ask: Ask) -> Upload:
    def upload(files: Mapping[str, File]) -> None:
        large = [path for path, file in files.items() if file.size > uploads.PART_BYTES]
        if large:
            raise errors.InvalidArgument(f"a file beside score.py can have 1 MiB here, {large[0]!r} has more")
        ask(uploads.send_whole, [b"".join(file.read()) for file in files.values()])

    return upload


def _as_it_is(model: PlannedModel) -> PlannedModel:
    """Return a model of one file under the format that its name tells."""
    only = next(iter(model.files)) if len(model.files) == 1 else ""
    endings: Iterable[tuple[str, str]] = ((".onnx", "onnx"), (".skops", "safe"))
    kept_as = next(
        (known for ending, known in endings if model.format == "files" and only.lower().endswith(ending)), model.format
    )
    return replace(model, format=kept_as)


def _generated(ask: Ask, workspace: str, model: PlannedModel, seen: Seen) -> str:
    known = _as_it_is(model)
    if known.format in ("files", "rds"):
        kind = "of several files" if known.format == "files" else "of R"
        raise errors.InvalidArgument(
            f"a model {kind} needs a score.py of yours, {model.reference} has none",
            hint=f"dbml export {model.reference} --score score.py --to DIR",
        )
    (file,) = known.files
    if known.format == "safe":
        return score.generate(replace(known, format="skops"), file, trusted=_trusted(ask, workspace, model))
    if known.format == "pickle" and (seen.compressed or "joblib" in seen.packages):
        return score.generate(replace(known, format="joblib"), file)
    return score.generate(known, file)


def _trusted(ask: Ask, workspace: str, model: PlannedModel) -> list[str]:
    """Return the types that a safe file holds and skops does not trust by itself: they were audited at registration."""
    from dbml.formats.trees import CHECKED

    held = ask(stored_models.inspect, workspace, model.reference)
    refused = [f"{row['module']}.{row['name']}" for row in held if not row["allowed"] and row["module"]]
    if refused:
        raise errors.ModelRefused(
            f"the workspace's policy does not allow {refused[0]}, which {model.reference} holds",
            hint="SELECT dbml.inspect_model(…)",
        )
    return sorted({*CHECKED, *(f"{row['module']}.{row['name']}" for row in held if row["verdict"] == "untrusted")})
